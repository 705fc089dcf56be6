import Addressing
import Mesh
import ObjectSource
import Testing

@testable import Controller

/// Two clusters, east (this one) and west, that share services with the label `istio.io/global`.
@Suite("Several clusters")
struct MultiClusterTests {
    private static func configuration(trustDomain: String = "cluster.local") -> MeshConfiguration {
        var configuration = MeshConfiguration()
        configuration.clusterID = "east"
        configuration.trustDomain = trustDomain
        configuration.serviceScopes = [
            .init(services: LabelSelector(requirements: [.init("istio.io/global", .exists)]), scope: .global)
        ]
        return configuration
    }

    private static func network(_ name: String) -> String {
        """
        ---
        {apiVersion: v1, kind: Namespace, metadata: {name: istio-system, labels: {topology.istio.io/network: "\(name)"}}}

        """
    }

    private static func service(
        _ name: String, _ address: String, labels: String = "istio.io/global: \"true\"", ports: String = "{port: 80}"
    ) -> String {
        """
        ---
        apiVersion: v1
        kind: Service
        metadata: {name: \(name), namespace: shop, labels: {\(labels)}}
        spec: {clusterIP: \(address), clusterIPs: [\(address)], selector: {app: \(name)}, ports: [\(ports)]}

        """
    }

    private static func pod(
        _ name: String, app: String, _ address: String, account: String = "web", ready: String = "True",
        redirection: String = "enabled"
    ) -> String {
        """
        ---
        apiVersion: v1
        kind: Pod
        metadata:
          name: \(name)
          namespace: shop
          labels: {app: \(app)}
          annotations: {ambient.istio.io/redirection: \(redirection)}
        spec: {serviceAccountName: \(account), nodeName: n1}
        status: {phase: Running, podIPs: [{ip: \(address)}], conditions: [{type: Ready, status: "\(ready)"}]}

        """
    }

    private static func gateway(_ network: String, _ address: String) -> String {
        """
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: ew, namespace: istio-system, labels: {topology.istio.io/network: "\(network)"}}
        spec: {gatewayClassName: istio-east-west, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
        status: {addresses: [{value: \(address)}]}

        """
    }

    private static let key = NamespacedHostname(namespace: "shop", hostname: "web.shop.svc.cluster.local")
    private static let standIn =
        "west-net/SplitHorizonWorkload/istio-system/ew/203.0.113.9/shop/web.shop.svc.cluster.local"

    private func mesh(
        _ east: String, _ west: String, _ configuration: MeshConfiguration = configuration()
    ) throws -> Published {
        try Published(east, configuration, others: ["west": west])
    }

    @Test("R34: endpoints of a global service in another network are one workload, by that network's gateway")
    func splitHorizon() throws {
        let east = Self.network("east-net") + Self.service("web", "10.0.0.1")
        let west =
            Self.network("west-net") + Self.service("web", "10.9.0.1") + Self.gateway("west-net", "203.0.113.9")
            + Self.pod("web-1", app: "web", "10.8.0.1") + Self.pod("web-2", app: "web", "10.8.0.2", account: "other")
            + Self.pod("web-3", app: "web", "10.8.0.3", ready: "False")
            + Self.pod("web-4", app: "web", "10.8.0.4", account: "outside", redirection: "pending")
            + Self.pod("quiet", app: "quiet", "10.8.0.5")
        let mesh = try mesh(east, west)
        #expect(
            Set(mesh.workloads.keys) == [Self.standIn, "NetworkGateway/west-net/203.0.113.9/15008"])
        let workload = try mesh.workload(Self.standIn)
        let gateway = GatewayAddress(
            .address(NetworkAddress(network: "west-net", address: IPAddress(203, 0, 113, 9))), port: 15008)
        #expect(workload.networkGateway == gateway && workload.network == "west-net")
        #expect(workload.addresses.isEmpty && workload.tunnelProtocol == .hbone)
        #expect(workload.services == [Self.key: [80: 80]])
        #expect(workload.clusterID == "west" && workload.namespace == "shop")
        #expect(workload.capacity == 3, "those that are ready")
        #expect(workload.status == .healthy)
        let service = try mesh.service(Self.key.hostname)
        #expect(
            service.addresses.map { "\($0.network)/\($0.address)" } == ["east-net/10.0.0.1", "west-net/10.9.0.1"])
        // Only who is captured can show an identity at the far end.
        #expect(
            service.subjectAltNames == [
                "spiffe://cluster.local/ns/shop/sa/other", "spiffe://cluster.local/ns/shop/sa/web",
            ])
    }

    @Test("R34: a client is led there by a tunnel in a tunnel, and knows both ends")
    func routed() throws {
        let east =
            Self.network("east-net") + Self.service("web", "10.0.0.1") + Self.pod("client", app: "client", "10.1.0.1")
        let west =
            Self.network("west-net") + Self.service("web", "10.9.0.1") + Self.gateway("west-net", "203.0.113.9")
            + Self.pod("web-1", app: "web", "10.8.0.1")
        let mesh = try mesh(east, west)
        var settings = MeshSettings()
        settings.network = "east-net"
        var state = MeshState(settings: settings)
        state.apply(mesh.workloads.values.map { .workload($0) } + mesh.services.values.map { .service($0) })
        var random = SystemRandomNumberGenerator()
        let route = try state.route(
            from: mesh.workload("east//Pod/shop/client"), sourceAddress: IPAddress(10, 1, 0, 1),
            to: Endpoint(IPAddress(10, 0, 0, 1), 80), random: &random)
        guard case .doubleHBONE(let double) = route else {
            Issue.record("\(route)")
            return
        }
        #expect(double.dial == Endpoint(IPAddress(203, 0, 113, 9), 15008))
        #expect(double.authority.description == "web.shop.svc.cluster.local:80")
        #expect(double.gatewayIdentities.map(\.description) == ["spiffe://cluster.local/ns/istio-system/sa/ew"])
        #expect(double.expectedIdentities.map(\.description) == ["spiffe://cluster.local/ns/shop/sa/web"])
    }

    @Test("R34: what a cluster keeps to itself is not told of; one copy that is local keeps the others out")
    func scopes() throws {
        let far = Self.pod("web-1", app: "web", "10.8.0.1") + Self.gateway("west-net", "203.0.113.9")
        let west = Self.network("west-net") + far
        let private_ = Self.service("web", "10.9.0.1", labels: "")
        let shared = Self.service("web", "10.9.0.1")
        let east = Self.network("east-net")
        #expect(try mesh(east, west + private_).services.isEmpty)
        let only = try mesh(east, west + shared)
        #expect(try only.service(Self.key.hostname).addresses.map(\.network) == ["west-net"])
        #expect(only.workloads[Self.standIn] != nil)
        let kept = try mesh(east + Self.service("web", "10.0.0.1", labels: ""), west + shared)
        #expect(try kept.service(Self.key.hostname).addresses.map(\.network) == ["east-net"])
        #expect(kept.workloads[Self.standIn] == nil)
        let entry = """
            ---
            apiVersion: networking.istio.io/v1
            kind: ServiceEntry
            metadata: {name: web, namespace: shop}
            spec: {hosts: [web.shop.svc.cluster.local], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}]}

            """
        let owned = try mesh(east + entry, west + shared)
        #expect(try owned.service(Self.key.hostname).addresses.isEmpty)
        #expect(owned.workloads[Self.standIn] == nil)
        // The first scope that matches counts.
        var configuration = Self.configuration()
        configuration.serviceScopes.insert(
            .init(services: LabelSelector(labels: ["istio.io/global": "true"]), scope: .local), at: 0)
        #expect(try mesh(east, west + shared, configuration).services.isEmpty)
    }

    @Test("R34: in one network workloads of other clusters are told of one by one, and without anybody's policies")
    func flat() throws {
        let east =
            Self.network("one") + Self.service("web", "10.0.0.1") + """
                ---
                apiVersion: security.istio.io/v1
                kind: PeerAuthentication
                metadata: {name: default, namespace: istio-system}
                spec: {mtls: {mode: STRICT}}
                ---
                apiVersion: security.istio.io/v1
                kind: AuthorizationPolicy
                metadata: {name: some, namespace: shop}
                spec: {selector: {matchLabels: {app: web}}, action: DENY, rules: [{}]}

                """ + Self.pod("near", app: "web", "10.1.0.1")
        let west =
            Self.network("one") + Self.service("web", "10.9.0.1") + Self.service("own", "10.9.0.2", labels: "")
            + Self.pod("web-1", app: "web", "10.8.0.1") + Self.pod("own-1", app: "own", "10.8.0.2")
        let mesh = try mesh(east, west)
        let web = try mesh.workload("west//Pod/shop/web-1")
        #expect(web.services == [Self.key: [80: 80]] && web.clusterID == "west")
        #expect(web.authorizationPolicies.isEmpty, "they are enforced where it runs, by its own control plane")
        #expect(try mesh.workload("east//Pod/shop/near").authorizationPolicies.count == 2)
        let own = try mesh.workload("west//Pod/shop/own-1")
        #expect(own.services.isEmpty && own.addresses == [IPAddress(10, 8, 0, 2)])
        #expect(try mesh.service(Self.key.hostname).subjectAltNames.isEmpty)
        #expect(mesh.workloads.count == 3)
    }

    @Test("R34: this cluster's copy counts; ports that differ and networks without a way in are told of")
    func warnings() throws {
        let east = Self.network("east-net") + Self.service("web", "10.0.0.1", ports: "{port: 80}")
        let west =
            Self.network("west-net") + Self.service("web", "10.9.0.1", ports: "{port: 81}")
            + Self.pod("web-1", app: "web", "10.8.0.1")
        let mesh = try mesh(east, west)
        #expect(try mesh.service(Self.key.hostname).ports.map(\.servicePort) == [80])
        #expect(
            mesh.clusterWarnings.map(\.message) == [
                "its endpoints in network west-net cannot be reached: the network has no gateway",
                "its ports in cluster west are not those in east, which count",
            ])
        #expect(mesh.workloads.isEmpty)
    }

    @Test(
        "R2: a stand-in's uid says network, gateway and service; R34: the first gateway is used, this cluster's before others'"
    )
    func firstGateway() throws {
        let remote = """
            ---
            apiVersion: gateway.networking.k8s.io/v1
            kind: Gateway
            metadata: {name: far, namespace: istio-system, labels: {topology.istio.io/network: west-net}}
            spec: {gatewayClassName: istio-remote, addresses: [{value: 198.51.100.2}], listeners: [{name: x, port: 15018, protocol: HBONE}]}

            """
        let west =
            Self.network("west-net") + Self.service("web", "10.9.0.1") + Self.gateway("west-net", "203.0.113.9")
            + Self.pod("web-1", app: "web", "10.8.0.1", ready: "False")
        let mesh = try mesh(Self.network("east-net") + remote, west)
        let uid = "west-net/SplitHorizonWorkload/istio-system/far/198.51.100.2/shop/web.shop.svc.cluster.local"
        let workload = try mesh.workload(uid)
        #expect(workload.networkGateway?.port == 15018 && workload.status == .unhealthy && workload.capacity == 1)
        #expect(mesh.workloads.keys.filter { $0.hasPrefix("NetworkGateway/west-net") }.count == 2)
    }

    @Test("R34: what happens in another cluster and changes nothing that it brings in is no change here")
    func incremental() throws {
        let east = try objects(Self.network("east-net") + Self.pod("client", app: "client", "10.1.0.1"))
        func west(_ more: String) throws -> [RemoteCluster] {
            let text =
                Self.network("west-net") + Self.service("web", "10.9.0.1") + Self.gateway("west-net", "203.0.113.9")
            return [RemoteCluster(id: "west", objects: try objects(text + more))]
        }
        let one = Self.pod("web-1", app: "web", "10.8.0.1")
        var translator = MeshTranslator(MeshTranslation(Self.configuration()))
        guard case .all(let first) = translator.update(to: east, try west(one)) else {
            Issue.record("the first is one of everything")
            return
        }
        #expect(first.resources.contains { $0.name == Self.standIn })
        let unseen = try west(one + Self.pod("quiet", app: "quiet", "10.8.0.5"))
        guard case .some(let none) = translator.update(to: east, unseen) else {
            Issue.record("a pod of no global service concerns nobody here")
            return
        }
        #expect(none.pods.isEmpty && none.others == nil)
        let two = try west(one + Self.pod("web-2", app: "web", "10.8.0.2"))
        guard case .some(let next) = translator.update(to: east, two), let others = next.others else {
            Issue.record("another endpoint counts")
            return
        }
        #expect(next.pods.isEmpty)
        let standIn = others.resources.values.joined().compactMap { resource -> Workload? in
            guard case .workload(let workload) = resource, workload.uid == Self.standIn else { return nil }
            return workload
        }
        #expect(standIn.map(\.capacity) == [2])
    }
}
