import Addressing
import Mesh

@testable import Discovery

/// Values with every field set to something that is not its default.
enum Samples {
    static let gateway = GatewayAddress(
        .hostname(NamespacedHostname(namespace: "edge", hostname: "gw.edge.svc.cluster.local")), port: 15008)

    static let fullWorkload = Workload(
        uid: "Kubernetes//Pod/shop/web-1", name: "web-1", namespace: "shop",
        addresses: [IPAddress(10, 0, 0, 1), IPAddress(v6High: 0xfd00 << 48, low: 1)], hostname: "web.example",
        network: "net1", tunnelProtocol: .hbone, trustDomain: "td.example", serviceAccount: "web", node: "n1",
        canonicalName: "web", canonicalRevision: "v2", kind: .cronjob, workloadName: "web-deploy", nativeTunnel: true,
        applicationTunnel: .init(framing: .proxy, port: 8443),
        services: [
            NamespacedHostname(namespace: "shop", hostname: "web.shop.svc.cluster.local"): [80: 8080, 81: 8081],
            NamespacedHostname(namespace: "shop", hostname: "all.shop.svc.cluster.local"): [:],
        ],
        authorizationPolicies: ["istio-system/x", "shop/y"], status: .unhealthy, clusterID: "c1",
        locality: Locality(region: "r", zone: "z", subzone: "s"), networkMode: .hostNetwork, capacity: 7,
        waypoint: gateway,
        networkGateway: GatewayAddress(
            .address(NetworkAddress(network: "net2", address: IPAddress(192, 0, 2, 1))), port: 15009))

    static let fullService = Service(
        name: "web", namespace: "shop", hostname: "web.shop.svc.cluster.local",
        addresses: [NetworkAddress(network: "net1", address: IPAddress(10, 96, 0, 1))],
        blocks: [NetworkCIDR(network: "net1", cidr: CIDR(IPAddress(10, 97, 0, 0), length: 16) ?? CIDR(.anyV4))],
        ports: [.init(80, target: 0, appProtocol: .http2), .init(443, target: 8443, appProtocol: .tls)],
        subjectAltNames: ["spiffe://td/ns/a/sa/b"], waypoint: gateway,
        weightedWaypoints: [.init(gateway, weight: 3)],
        loadBalancing: LoadBalancing(
            preferences: [.network, .region, .zone, .subzone, .node, .cluster], mode: .failover,
            healthPolicy: .allowAll),
        ipFamilies: .dual, canonical: true, ingressUseWaypoint: true, visibility: .namespace)

    static let fullPolicy = AuthorizationPolicy(
        name: "p", namespace: "shop", scope: .workloadSelector, action: .deny,
        rules: [
            .init(clauses: [
                .init(matches: [
                    .init(
                        namespaces: [.exact("a"), .prefix("b"), .suffix("c"), .presence], notNamespaces: [.exact("d")],
                        principals: [.exact("td/ns/a/sa/b")], notPrincipals: [.presence],
                        serviceAccounts: [.init(namespace: "a", serviceAccount: "b")],
                        notServiceAccounts: [.init(namespace: "c", serviceAccount: "d")],
                        sourceAddresses: [.block(CIDR(IPAddress(10, 0, 0, 0), length: 8) ?? CIDR(.anyV4))],
                        notSourceAddresses: [.block(CIDR(.loopbackV6))],
                        destinationAddresses: [.block(CIDR(.loopbackV4))],
                        notDestinationAddresses: [.block(CIDR(.anyV6, length: 0) ?? CIDR(.anyV6))],
                        destinationPorts: [80, 70_000], notDestinationPorts: [81])
                ])
            ]), .init(),
        ], dryRun: true)

    static func workload(
        _ name: String, address: UInt8 = 1, node: String = "n1", services: [String] = [], revision: String = "",
        policies: [String] = []
    ) -> MeshResource {
        .workload(
            Workload(
                uid: "Kubernetes//Pod/shop/\(name)", name: name, namespace: "shop",
                addresses: [IPAddress(10, 0, 0, address)], node: node, canonicalRevision: revision, kind: .pod,
                services: Dictionary(
                    uniqueKeysWithValues: services.map {
                        (NamespacedHostname(namespace: "shop", hostname: $0), [80: 8080] as PortMap)
                    }), authorizationPolicies: policies.map { "shop/\($0)" }))
    }

    static func service(_ hostname: String, address: UInt8) -> MeshResource {
        .service(
            Service(
                name: hostname, namespace: "shop", hostname: hostname,
                addresses: [NetworkAddress(address: IPAddress(10, 96, 0, address))]))
    }

    static func policy(
        _ name: String, scope: AuthorizationPolicy.Scope = .namespace, action: AuthorizationPolicy.Action = .allow
    ) -> MeshResource {
        .policy(AuthorizationPolicy(name: name, namespace: "shop", scope: scope, action: action))
    }
}
