import Addressing
import Mesh
import Testing

@testable import Controller

@Suite("Services")
struct ServiceTests {
    private func service(_ spec: String, metadata: String = "", more: String = "") throws -> Mesh.Service {
        try Translated(
            """
            apiVersion: v1
            kind: Service
            metadata: {name: web, namespace: shop, \(metadata)}
            spec: {\(spec)}
            \(more)
            """
        ).service("web")
    }

    @Test("R23: the golden service, with its addresses")
    func golden() throws {
        let found = try service(
            #"clusterIPs: [10.96.0.1, "fd00:96::1"], ipFamilies: [IPv4, IPv6], ports: ["#
                + "{name: http, port: 80, targetPort: web}, {name: tls-x, port: 443, targetPort: 8443}]")
        #expect(
            found
                == Mesh.Service(
                    name: "web", namespace: "shop", hostname: "web.shop.svc.cluster.local",
                    addresses: [
                        NetworkAddress(address: IPAddress(10, 96, 0, 1)),
                        NetworkAddress(address: IPAddress(v6High: 0xfd00_0096 << 32, low: 1)),
                    ],
                    ports: [.init(80, target: 0, appProtocol: .http11), .init(443, target: 8443, appProtocol: .tls)],
                    ipFamilies: .dual, canonical: true))
    }

    @Test("R22: host names, external names are not published, headless services have no address")
    func addresses() throws {
        #expect(try service("clusterIP: None, ports: [{port: 80}]").addresses.isEmpty)
        #expect(throws: Translated.Missing.self) { try service("type: ExternalName, externalName: x.example") }
    }

    @Test(
        "R24: application protocols",
        arguments: [
            ("name: http", Mesh.Service.AppProtocol.http11), ("name: http-web", .http11), ("name: http2", .http2),
            ("name: grpc-x", .grpc), ("name: grpc-web", .unknown), ("name: https", .tls), ("name: tls", .tls),
            ("name: tcp-x", .tcp), ("name: mysql", .unknown), ("name: httpx", .unknown),
            ("name: tcp, appProtocol: http2", .http2), ("name: x, appProtocol: kubernetes.io/h2c", .http2),
            ("name: x, appProtocol: kubernetes.io/ws", .http11), ("name: HTTP", .http11),
            ("name: http, protocol: UDP", .unknown), ("name: ''", .unknown),
        ])
    func protocols(port: String, expected: Mesh.Service.AppProtocol) throws {
        #expect(try service("ports: [{port: 80, \(port)}]").ports.map(\.appProtocol) == [expected])
    }

    private static let close = LoadBalancing(preferences: [.network, .region, .zone], mode: .failover)

    @Test(
        "R25: load balancing",
        arguments: [
            ("", "", "", nil),
            ("internalTrafficPolicy: Local", "", "", LoadBalancing(preferences: [.node], mode: .strict)),
            ("trafficDistribution: PreferClose", "", "", close),
            ("trafficDistribution: PreferSameZone", "", "", close),
            (
                "trafficDistribution: PreferSameNode", "", "",
                LoadBalancing(preferences: [.network, .region, .zone, .subzone, .node], mode: .failover)
            ),
            ("", "networking.istio.io/traffic-distribution: PreferClose", "", close),
            ("", "", "networking.istio.io/traffic-distribution: PreferClose", close),
            ("", "networking.istio.io/traffic-distribution: Whatever", "", nil),
            ("publishNotReadyAddresses: true", "", "", LoadBalancing(healthPolicy: .allowAll)),
            (
                "publishNotReadyAddresses: true, trafficDistribution: PreferClose", "", "",
                LoadBalancing(preferences: [.network, .region, .zone], mode: .failover, healthPolicy: .allowAll)
            ),
        ] as [(String, String, String, LoadBalancing?)])
    func loadBalancing(spec: String, annotation: String, onNamespace: String, expected: LoadBalancing?) throws {
        let namespace = """
            ---
            apiVersion: v1
            kind: Namespace
            metadata: {name: shop, annotations: {\(onNamespace)}}
            """
        let found = try service(
            "\(spec)\(spec.isEmpty ? "" : ", ")ports: [{port: 80}]", metadata: "annotations: {\(annotation)}",
            more: namespace)
        #expect(found.loadBalancing == expected)
    }
}
