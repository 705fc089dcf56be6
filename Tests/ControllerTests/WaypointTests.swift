import Addressing
import Mesh
import Testing

@testable import Controller
@testable import ObjectSource

@Suite("Waypoints")
struct WaypointTests {
    private func gateway(
        _ name: String = "wp", namespace: String = "shop", metadata: String = "", address: String = "value: 10.96.0.9",
        from: String = "", listener: String = "name: mesh, port: 15008, protocol: HBONE",
        className: String = "istio-waypoint"
    ) -> String {
        """
        ---
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: {name: \(name), namespace: \(namespace), \(metadata)}
        spec: {gatewayClassName: \(className), listeners: [{\(listener)\(from.isEmpty ? "" : ", allowedRoutes: {namespaces: {\(from)}}")}]}
        status: {addresses: [\(address.isEmpty ? "" : "{\(address)}")]}

        """
    }

    private func namespace(_ labels: String, name: String = "shop", annotations: String = "") -> String {
        "---\n{apiVersion: v1, kind: Namespace, metadata: {name: \(name), labels: {\(labels)}, annotations: {\(annotations)}}}\n"
    }

    private func service(_ labels: String = "", annotations: String = "") -> String {
        """
        ---
        apiVersion: v1
        kind: Service
        metadata: {name: web, namespace: shop, labels: {\(labels)}, annotations: {\(annotations)}}
        spec: {selector: {app: web}, ports: [{port: 80}]}

        """
    }

    private func pod(
        _ name: String = "web-1", labels: String = "app: web", ip: String = "10.0.0.1", account: String = "web"
    )
        -> String
    {
        """
        ---
        apiVersion: v1
        kind: Pod
        metadata: {name: \(name), namespace: shop, labels: {\(labels)}}
        spec: {serviceAccountName: \(account)}
        status: {phase: Running, podIPs: [{ip: \(ip)}]}

        """
    }

    private static let host = "web.shop.svc.cluster.local"
    private static let pod = "Kubernetes//Pod/shop/web-1"
    private static func address(_ last: UInt8) -> GatewayAddress {
        GatewayAddress(.address(NetworkAddress(address: IPAddress(10, 96, 0, last))))
    }

    @Test(
        "R27: the nearest label decides which waypoint a service has, and none opts out",
        arguments: [
            ("", "", nil), ("istio.io/use-waypoint: wp", "", UInt8(9)), ("", "istio.io/use-waypoint: wp", 9),
            ("istio.io/use-waypoint: none", "istio.io/use-waypoint: wp", nil),
            ("istio.io/use-waypoint: other", "istio.io/use-waypoint: wp", 8),
            ("istio.io/use-waypoint: unready", "istio.io/use-waypoint: wp", nil),
            ("istio.io/use-waypoint: absent", "istio.io/use-waypoint: wp", nil),
            ("istio.io/use-waypoint: workloads", "", nil),
            ("istio.io/use-waypoint: far, istio.io/use-waypoint-namespace: infra", "", 7),
            ("istio.io/use-waypoint: closed, istio.io/use-waypoint-namespace: infra", "", nil),
            ("istio.io/use-waypoint: wp, gateway.istio.io/managed: istio.io-mesh-controller", "", nil),
        ] as [(String, String, UInt8?)])
    func serviceWaypoint(own: String, inherited: String, expected: UInt8?) throws {
        let mesh = try Published(
            service(own) + namespace(inherited) + gateway() + gateway("other", address: "value: 10.96.0.8")
                + gateway("unready", address: "")
                + gateway("workloads", metadata: "labels: {istio.io/waypoint-for: workload}")
                + gateway("far", namespace: "infra", address: "value: 10.96.0.7", from: "from: All")
                + gateway("closed", namespace: "infra"))
        let found = try mesh.service(Self.host)
        #expect(found.waypoint == expected.map(Self.address))
        #expect(found.weightedWaypoints.isEmpty)
        #expect(found.visibility == .everywhere)
    }

    @Test(
        "R19: the waypoint of a workload has to be one for workloads",
        arguments: [
            ("service", "app: web, istio.io/use-waypoint: wp", "", false),
            ("workload", "app: web, istio.io/use-waypoint: wp", "", true),
            ("all", "app: web", "istio.io/use-waypoint: wp", true),
            ("none", "app: web, istio.io/use-waypoint: wp", "", false),
            ("service", "app: web", "istio.io/use-waypoint: wp", false),
        ])
    func workloadWaypoint(traffic: String, labels: String, inherited: String, expected: Bool) throws {
        let mesh = try Published(
            pod(labels: labels) + namespace(inherited)
                + gateway(metadata: "labels: {istio.io/waypoint-for: \(traffic)}"))
        #expect(try mesh.workload(Self.pod).waypoint == (expected ? Self.address(9) : nil))
    }

    @Test("R19: a waypoint's pods have no waypoint, and say how they are reached")
    func instance() throws {
        let text =
            pod(labels: "gateway.networking.k8s.io/gateway-name: wp") + namespace("istio.io/use-waypoint: wp")
            + gateway(
                metadata:
                    "labels: {istio.io/waypoint-for: all}, annotations: {ambient.istio.io/waypoint-inbound-binding: PROXY/15088}"
            )
        let workload = try Published(text).workload(Self.pod)
        #expect(workload.waypoint == nil)
        #expect(workload.applicationTunnel == .init(framing: .proxy, port: 15088))
    }

    @Test("R27: a host name is preferred as a waypoint's address")
    func hostname() throws {
        let text =
            service("istio.io/use-waypoint: wp")
            + gateway(address: "value: 10.96.0.9}, {type: Hostname, value: wp.shop")
        #expect(
            try Published(text).service(Self.host).waypoint
                == GatewayAddress(.hostname(NamespacedHostname(namespace: "shop", hostname: "wp.shop"))))
    }

    @Test(
        "R27: a second waypoint with a part of the traffic",
        arguments: [
            ("next", "25", UInt32(25), ""), ("next", "0", 0, ""), ("next", "101", nil, "CanaryInvalidWeight"),
            ("next", "x", nil, "CanaryInvalidWeight"), ("wp", "10", nil, "CanarySameAsPrimary"),
            ("absent", "10", nil, "CanaryNotReady"),
        ] as [(String, String, UInt32?, String)])
    func canary(name: String, weight: String, expected: UInt32?, problem: String) throws {
        let mesh = try Published(
            service(
                "istio.io/use-waypoint: wp, istio.io/use-waypoint-canary: \(name)",
                annotations: "istio.io/use-waypoint-canary-weight: \"\(weight)\"") + gateway()
                + gateway("next", address: "value: 10.96.0.8"))
        let found = try mesh.service(Self.host)
        #expect(found.waypoint == Self.address(9))
        let parts: [Mesh.Service.WeightedWaypoint] =
            expected.map { [.init(Self.address(9), weight: 100 - $0), .init(Self.address(8), weight: $0)] } ?? []
        #expect(found.weightedWaypoints == parts)
        #expect(mesh.conditions.first?.isTrue == true)
        #expect(problem.isEmpty || mesh.conditions.first?.message.contains(problem) == true)
    }

    @Test(
        "R35: labels of namespaces: ingress through the waypoint, who may attach",
        arguments: [("", "", false), ("true", "", true), ("", "true", true), ("false", "true", false)])
    func ingress(own: String, inherited: String, expected: Bool) throws {
        func label(_ value: String) -> String {
            value.isEmpty ? "" : "istio.io/ingress-use-waypoint: \"\(value)\", "
        }
        let text =
            service(label(own) + "istio.io/use-waypoint: wp, istio.io/use-waypoint-namespace: infra")
            + namespace(label(inherited) + "team: a")
            + gateway(namespace: "infra", from: "from: Selector, selector: {matchLabels: {team: a}}")
        let found = try Published(text).service(Self.host)
        #expect(found.ingressUseWaypoint == expected)
        #expect(found.waypoint == Self.address(9))
    }

    @Test("R44: who has a waypoint takes connections from it alone")
    func waypointOnly() throws {
        var configuration = MeshConfiguration()
        configuration.allowsWaypointsOnly = true
        let text =
            pod() + pod("wp-1", labels: "gateway.networking.k8s.io/gateway-name: wp", ip: "10.0.0.2", account: "wp")
            + pod("free", labels: "app: free", ip: "10.0.0.3") + service("istio.io/use-waypoint: wp") + gateway()
        let mesh = try Published(text, configuration)
        let key = "shop/istio_allow_waypoint_shop_wp"
        #expect(
            mesh.policies[key]?.rules == [
                .init(clauses: [.init(matches: [.init(principals: [.exact("cluster.local/ns/shop/sa/wp")])])])
            ])
        #expect(mesh.policies[key]?.action == .allow)
        #expect(mesh.policies[key]?.scope == .workloadSelector)
        #expect(try mesh.workload(Self.pod).authorizationPolicies == [key])
        #expect(try mesh.workload("Kubernetes//Pod/shop/free").authorizationPolicies == [])
        #expect(try mesh.workload("Kubernetes//Pod/shop/wp-1").authorizationPolicies == [])
        #expect(try Published(text).policies.isEmpty)
    }

    @Test("R7: what a service is told about its waypoint, each reporter by its own name")
    func conditions() throws {
        let entry = """
            ---
            apiVersion: networking.istio.io/v1
            kind: WorkloadEntry
            metadata: {name: vm, namespace: shop, labels: {istio.io/use-waypoint: absent}}
            spec: {address: 192.0.2.1}

            """
        let policy = """
            ---
            apiVersion: security.istio.io/v1
            kind: AuthorizationPolicy
            metadata: {name: p, namespace: shop}
            spec: {action: DENY, rules: [{to: [{operation: {paths: [/x]}}]}]}
            """
        let found = try Published(service("istio.io/use-waypoint: wp") + gateway() + entry + policy).conditions
        #expect(
            found.map { [$0.reporter.rawValue, $0.type, "\($0.isTrue)", $0.reason] } == [
                ["istio-ambient-ztunnel-policy", "ZtunnelAccepted", "false", "UnsupportedValue"],
                ["istio-ambient-service", "istio.io/WaypointBound", "true", "WaypointAccepted"],
                ["istio-ambient-workloadentry", "istio.io/WaypointBound", "false", "WaypointMissing"],
            ])
        #expect(found[0].message.contains("paths"))
        #expect(found[1].message.hasPrefix("Successfully attached to waypoint shop/wp."))
    }

    @Test(
        "R45: policies with a target: whether there is one, and whether it has a waypoint",
        arguments: [
            ("shop", "group: gateway.networking.k8s.io, kind: Gateway, name: wp", "Accepted"),
            ("shop", "group: gateway.networking.k8s.io, kind: Gateway, name: none", "TargetNotFound"),
            ("shop", "kind: Service, name: web", "Accepted"), ("shop", "kind: Service, name: bare", "AncestorNotBound"),
            ("shop", "kind: Service, name: none", "TargetNotFound"),
            ("shop", "group: networking.istio.io, kind: ServiceEntry, name: ext", "AncestorNotBound"),
            ("shop", "group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint", "Invalid"),
            ("istio-system", "group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint", "Accepted"),
            ("istio-system", "group: gateway.networking.k8s.io, kind: GatewayClass, name: foreign", "Invalid"),
            ("shop", "group: apps, kind: Deployment, name: x", "Invalid"),
        ])
    func targets(namespace: String, target: String, expected: String) throws {
        let text =
            service("istio.io/use-waypoint: wp") + gateway() + """
                ---
                {apiVersion: v1, kind: Service, metadata: {name: bare, namespace: shop}, spec: {ports: [{port: 1}]}}
                ---
                apiVersion: networking.istio.io/v1
                kind: ServiceEntry
                metadata: {name: ext, namespace: shop}
                spec: {hosts: [a.example]}
                ---
                apiVersion: gateway.networking.k8s.io/v1
                kind: GatewayClass
                metadata: {name: istio-waypoint}
                spec: {controllerName: istio.io/mesh-controller}
                ---
                apiVersion: gateway.networking.k8s.io/v1
                kind: GatewayClass
                metadata: {name: foreign}
                spec: {controllerName: example.com/other}
                ---
                apiVersion: security.istio.io/v1
                kind: AuthorizationPolicy
                metadata: {name: p, namespace: \(namespace)}
                spec: {targetRefs: [{\(target)}]}
                """
        let found = try Published(text).conditions.filter { $0.reporter == .waypointPolicy }
        #expect(found.map(\.reason) == [expected])
        #expect(found.first?.isTrue == (expected == "Accepted"))
    }

    @Test("R33: a gateway of a network is a workload; R11: and the way into it")
    func networkGateways() throws {
        let root = """
            ---
            {apiVersion: v1, kind: Namespace, metadata: {name: istio-system, labels: {topology.istio.io/network: net1}}}

            """
        let remote = """
            ---
            apiVersion: gateway.networking.k8s.io/v1
            kind: Gateway
            metadata: {name: far, namespace: istio-system, labels: {topology.istio.io/network: net2}, annotations: {gateway.istio.io/service-account: ew}}
            spec: {gatewayClassName: istio-remote, addresses: [{value: 198.51.100.2}], listeners: [{name: x, port: 15018, protocol: HBONE}]}
            ---
            apiVersion: networking.istio.io/v1
            kind: WorkloadEntry
            metadata: {name: vm, namespace: shop}
            spec: {network: net2}

            """
        let mesh = try Published(
            root + pod() + remote
                + gateway("ew", metadata: "labels: {topology.istio.io/network: net1}", address: "value: 198.51.100.1")
                + gateway(
                    "http", metadata: "labels: {topology.istio.io/network: net1}",
                    listener: "name: h, port: 80, protocol: HTTP"))
        #expect(mesh.workloads.keys.filter { $0.hasPrefix("NetworkGateway") }.count == 2)
        let local = try mesh.workload("NetworkGateway/net1/198.51.100.1/15008")
        #expect(local.serviceAccount == "ew")
        #expect(local.namespace == "shop")
        let far = try mesh.workload("NetworkGateway/net2/198.51.100.2/15018")
        #expect(far.identity.description == "spiffe://cluster.local/ns/istio-system/sa/ew")
        #expect(far.network == "net2")
        let pod = try mesh.workload(Self.pod)
        #expect(pod.network == "net1")
        #expect(
            pod.networkGateway
                == GatewayAddress(.address(NetworkAddress(network: "net1", address: IPAddress(198, 51, 100, 1)))))
        let vm = try mesh.workload("Kubernetes/networking.istio.io/WorkloadEntry/shop/vm")
        #expect(
            vm.networkGateway
                == GatewayAddress(
                    .address(NetworkAddress(network: "net2", address: IPAddress(198, 51, 100, 2))), port: 15018))
    }
}
