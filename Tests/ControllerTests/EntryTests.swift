import Addressing
import Discovery
import Mesh
import Testing

@testable import Controller
@testable import ObjectSource

@Suite("Service entries and workload entries")
struct EntryTests {
    private static let prefix = "Kubernetes/networking.istio.io"

    private func entry(_ spec: String, name: String = "ext", namespace: String = "shop", metadata: String = "")
        -> String
    {
        """
        ---
        apiVersion: networking.istio.io/v1
        kind: ServiceEntry
        metadata: {name: \(name), namespace: \(namespace), \(metadata)}
        spec: {\(spec)}

        """
    }

    private func workloadEntry(_ spec: String, metadata: String = "") -> String {
        """
        ---
        apiVersion: networking.istio.io/v1
        kind: WorkloadEntry
        metadata: {name: vm, namespace: shop, \(metadata)}
        spec: {\(spec)}

        """
    }

    private static let ports =
        "ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, targetPort: 8443, protocol: TLS}]"

    private func key(_ host: String, _ namespace: String = "shop") -> NamespacedHostname {
        NamespacedHostname(namespace: namespace, hostname: host)
    }

    @Test("R30: a service for each host, with addresses and blocks as written")
    func services() throws {
        let mesh = try Published(
            entry(
                "hosts: [a.example, b.example], addresses: [240.1.1.1, 10.7.1.9/16], resolution: STATIC, "
                    + "subjectAltNames: [\"spiffe://td/ns/a/sa/b\"], \(Self.ports)"))
        #expect(Set(mesh.services.keys) == [key("a.example"), key("b.example")])
        let service = try mesh.service("a.example")
        #expect(service.name == "ext")
        #expect(service.addresses == [NetworkAddress(address: IPAddress(240, 1, 1, 1))])
        #expect(service.blocks.map(\.description) == ["/10.7.0.0/16"])
        #expect(
            service.ports == [.init(80, target: 80, appProtocol: .http11), .init(443, target: 8443, appProtocol: .tls)])
        #expect(service.subjectAltNames == ["spiffe://td/ns/a/sa/b"])
        #expect(service.loadBalancing == nil)
        #expect(service.canonical)
        #expect(service.visibility == .everywhere)
        #expect(mesh.workloads.isEmpty)
    }

    @Test(
        "R30: addresses chosen for a host, where the resolution has use for them",
        arguments: [
            ("a.example", "DNS", ["240.240.0.1"]), ("a.example", "NONE", []), ("\"*.a.example\"", "DNS", []),
            ("\"*.a.example\"", "DYNAMIC_DNS", ["240.240.0.1"]), ("b.example", "DNS", ["240.240.0.2"]),
        ])
    func allocated(host: String, resolution: String, expected: [String]) throws {
        let mesh = try Published(
            entry("hosts: [\(host)], resolution: \(resolution), \(Self.ports)") + """
                status:
                  addresses:
                    - {value: 240.240.0.1, host: "\(host == "b.example" ? "a.example" : host.filter { $0 != "\"" })"}
                    - {value: 240.240.0.2, host: b.example}
                """)
        let service = try mesh.service(host.filter { $0 != "\"" })
        #expect(service.addresses.map(\.address.description) == expected)
        let passthrough = LoadBalancing(mode: .passthrough, healthPolicy: .allowAll)
        #expect(service.loadBalancing == (resolution == "NONE" ? passthrough : nil))
    }

    @Test("R30: who sees a host, by the labels of its namespace")
    func visibility() throws {
        var configuration = MeshConfiguration()
        configuration.entryVisibility = [
            .init(namespaces: LabelSelector(labels: ["see": "none"]), visibility: .none),
            .init(namespaces: LabelSelector(labels: ["see": "own"]), visibility: .namespace),
        ]
        func mesh(_ label: String) throws -> Published {
            try Published(
                "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {see: \(label)}}}\n"
                    + entry("hosts: [a.example], resolution: DNS, \(Self.ports)"), configuration)
        }
        #expect(try mesh("none").services.isEmpty)
        #expect(try mesh("none").workloads.isEmpty)
        #expect(try mesh("own").service("a.example").visibility == .namespace)
        // R28: hidden from others, it is no answer for them.
        #expect(try mesh("own").service("a.example").canonical == false)
        #expect(try mesh("all").service("a.example").visibility == .everywhere)
    }

    @Test("R31: endpoints in the entry are workloads")
    func endpoints() throws {
        let mesh = try Published(
            entry(
                """
                hosts: [a.example, b.example], resolution: STATIC, \(Self.ports), endpoints: [
                  {address: 192.0.2.1, ports: {http: 8080}, locality: r/z/s, weight: 5, serviceAccount: ext,
                   labels: {app: legacy, version: v9}},
                  {address: db.example, network: far, locality: r}]
                """))
        let map: PortMap = [80: 8080, 443: 8443]
        let first = try mesh.workload("\(Self.prefix)/ServiceEntry/shop/ext/192.0.2.1")
        #expect(first.addresses.map(\.description) == ["192.0.2.1"])
        #expect(first.services == [key("a.example"): map, key("b.example"): map])
        #expect(first.locality == Locality(region: "r", zone: "z", subzone: "s"))
        #expect(first.capacity == 5)
        #expect(first.serviceAccount == "ext")
        #expect(first.canonicalName == "legacy")
        #expect(first.canonicalRevision == "v9")
        #expect(first.status == .healthy)
        let second = try mesh.workload("\(Self.prefix)/ServiceEntry/shop/ext/db.example")
        #expect(second.addresses.isEmpty)
        #expect(second.hostname == "db.example")
        #expect(second.network == "far")
        #expect(second.locality == Locality(region: "r"))
        #expect(second.capacity == 1)
        #expect(mesh.workloads.count == 2)
    }

    @Test(
        "R31: without endpoints the host itself is one, where its name is resolved",
        arguments: [
            ("DNS", 2), ("DNS_ROUND_ROBIN", 2), ("DYNAMIC_DNS", 2), ("STATIC", 0), ("NONE", 0),
            ("DNS, workloadSelector: {labels: {app: x}}", 0),
        ])
    func implicit(resolution: String, count: Int) throws {
        let mesh = try Published(entry("hosts: [a.example, b.example], \(Self.ports), resolution: \(resolution)"))
        #expect(mesh.workloads.count == count)
        guard count > 0 else { return }
        let workload = try mesh.workload("\(Self.prefix)/ServiceEntry/shop/ext/b.example")
        #expect(workload.hostname == "b.example")
        #expect(workload.services == [key("b.example"): [80: 80, 443: 8443]])
    }

    @Test("R32: a workload entry: identity, ports, weight, and the services that select it")
    func workloadEntries() throws {
        let service = """
            ---
            apiVersion: v1
            kind: Service
            metadata: {name: web, namespace: shop}
            spec: {selector: {app: vm}, ports: [{name: http, port: 80, targetPort: 8080}, {name: x, port: 81},
              {name: named, port: 82, targetPort: odd}, {name: lost, port: 83, targetPort: missing}]}

            """
        let policy = """
            ---
            apiVersion: security.istio.io/v1
            kind: AuthorizationPolicy
            metadata: {name: p, namespace: shop}
            spec: {selector: {matchLabels: {app: vm}}}
            """
        let mesh = try Published(
            workloadEntry(
                "address: 192.0.2.5, ports: {http: 9090, odd: 7}, labels: {app: vm}, serviceAccount: vm, weight: 3, "
                    + "locality: r/z") + service
                + entry("hosts: [a.example], workloadSelector: {labels: {app: vm}}, resolution: STATIC, \(Self.ports)")
                + policy)
        let workload = try mesh.workload("\(Self.prefix)/WorkloadEntry/shop/vm")
        #expect(
            workload.services == [
                key("web.shop.svc.cluster.local"): [80: 9090, 81: 81, 82: 7], key("a.example"): [80: 9090, 443: 8443],
            ])
        #expect(workload.identity.description == "spiffe://cluster.local/ns/shop/sa/vm")
        #expect(workload.status == .healthy)
        #expect(workload.capacity == 3)
        #expect(workload.locality == Locality(region: "r", zone: "z"))
        #expect(workload.authorizationPolicies == ["shop/p"])
        #expect(workload.tunnelProtocol == .none)
        let native = try Published(
            workloadEntry("address: 192.0.2.5", metadata: "labels: {networking.istio.io/tunnel: http}"))
        #expect(try native.workload("\(Self.prefix)/WorkloadEntry/shop/vm").nativeTunnel)
        // Only a network that has a gateway makes an entry without an address reachable.
        #expect(try Published(workloadEntry("network: far")).workloads.isEmpty)
    }

    @Test("R17: service entries select pods; R18: by the name of the port, else the target, else the number")
    func podsOfEntries() throws {
        let pod = """
            apiVersion: v1
            kind: Pod
            metadata: {name: web, namespace: shop, labels: {app: web}}
            spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
            status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}

            """
        let mesh = try Published(
            pod
                + entry(
                    "hosts: [a.example], workloadSelector: {labels: {app: web}}, resolution: STATIC, ports: "
                        + "[{number: 80, name: http}, {number: 81, name: x, targetPort: 8181}, {number: 82, name: y}]")
                + entry(
                    "hosts: [b.example], workloadSelector: {labels: {app: db}}, resolution: STATIC", name: "other"))
        let workload = try mesh.workload("Kubernetes//Pod/shop/web")
        #expect(workload.services == [key("a.example"): [80: 8080, 81: 8181, 82: 82]])
        // R21
        #expect(workload.capacity == 1)
    }

    @Test("R28: one meaning for a host in a namespace, one canonical namespace for all")
    func hosts() throws {
        let service = """
            ---
            apiVersion: v1
            kind: Service
            metadata: {name: web, namespace: shop}
            spec: {ports: [{port: 80}]}

            """
        let old = "creationTimestamp: 2020-01-01T00:00:00Z"
        let new = "creationTimestamp: 2021-01-01T00:00:00Z"
        func spec(_ host: String) -> String { "hosts: [\(host)], resolution: DNS, \(Self.ports)" }
        let mesh = try Published(
            service + entry(spec("web.shop.svc.cluster.local"), name: "usurper", metadata: old)
                + entry(spec("a.example"), name: "young", metadata: new)
                + entry(spec("a.example"), name: "old", namespace: "shop", metadata: old)
                + entry(
                    spec("a.example"), name: "oldest", namespace: "far",
                    metadata: "creationTimestamp: 2019-01-01T00:00:00Z")
                + entry(spec("web.shop.svc.cluster.local"), name: "elsewhere", namespace: "far", metadata: old))
        #expect(try mesh.service("web.shop.svc.cluster.local").name == "web")
        #expect(try mesh.service("web.shop.svc.cluster.local").canonical)
        #expect(try mesh.service("web.shop.svc.cluster.local", "far").canonical == false)
        #expect(try mesh.service("a.example").name == "old")
        #expect(try mesh.service("a.example").canonical == false)
        #expect(try mesh.service("a.example", "far").canonical)
        // Who lost has no endpoints.
        #expect(
            Set(mesh.workloads.keys) == [
                "\(Self.prefix)/ServiceEntry/shop/old/a.example", "\(Self.prefix)/ServiceEntry/far/oldest/a.example",
                "\(Self.prefix)/ServiceEntry/far/elsewhere/web.shop.svc.cluster.local",
            ])
    }

    @Test(
        "what is wrong is said by field",
        arguments: [
            ("hosts: []", "spec.hosts: is missing"), ("hosts: [\"a b\"]", "spec.hosts: \"a b\" is no host name"),
            ("hosts: [a.example], addresses: [x]", "spec.addresses: \"x\" is no address or block of addresses"),
            (
                "hosts: [a.example], endpoints: [{address: \"??\"}]",
                "spec.endpoints[0].address: \"??\" is neither an IP address nor a host name"
            ),
            (
                "hosts: [a.example], endpoints: [{address: 1.2.3.4, weight: -1}]",
                "spec.endpoints[0].weight: expected a whole number from 0, found \"-1\""
            ),
            (
                "hosts: [a.example], endpoints: [{address: 1.2.3.4}], workloadSelector: {labels: {a: b}}",
                "spec.workloadSelector: cannot stand beside endpoints"
            ),
            ("hosts: [a.example], port: []", "spec.port: unknown field; did you mean ports?"),
        ])
    func wrong(spec: String, expected: String) {
        let found = DocumentReader.read(Array(entry(spec).utf8), file: "t.yaml")
        guard case .failure(let problems) = found else {
            Issue.record("accepted")
            return
        }
        #expect(problems.list.map { "\($0.field): \($0.message)" } == [expected])
    }
}
