import Addressing
import Mesh
import Testing

@testable import DNS

/// Which names the mesh answers, and how: the lookups that users make, as one table.
@Suite struct ResolutionTests {
    static let mesh: MeshState = {
        var state = MeshState()
        let headless = "ns1/headless.ns1.svc.cluster.local"
        state.apply([
            // Kubernetes services.
            .service(
                service(
                    "productpage.ns1.svc.cluster.local", ["9.9.9.9"], namespace: "ns1",
                    ports: [.init(80, target: 8080), .init(443, target: 0)])),
            .service(service("details.ns2.svc.cluster.local", ["11.11.11.11"], namespace: "ns2")),
            .service(service("reviews.ns2.svc.cluster.local", ["12.12.12.12", "fd00::12"], namespace: "ns2")),
            .service(
                service("four.ns1.svc.cluster.local", ["4.4.4.4", "fd00::4"], namespace: "ns1", families: .v4Only)),
            .service(
                service("six.ns1.svc.cluster.local", ["6.6.6.6", "fd00::6"], namespace: "ns1", families: .v6Only)),
            .service(
                service(
                    "headless.ns1.svc.cluster.local", namespace: "ns1",
                    ports: [.init(80, target: 8080), .init(9090, target: 0)])),
            .service(
                service(
                    "unready.ns1.svc.cluster.local", namespace: "ns1",
                    balancing: LoadBalancing(healthPolicy: .allowAll))),
            .service(service("idle.ns1.svc.cluster.local", namespace: "ns1")),
            // Outside of the cluster.
            .service(service("www.google.com", ["1.1.1.1"], namespace: "ns1")),
            .service(service("*.wildcard.com", ["3.3.3.3"], namespace: "ns1")),
            .service(service("*.a.wildcard.com", ["4.3.2.1"], namespace: "ns1")),
            .service(service("google.com.my.domain", ["5.5.5.5"], namespace: "ns1")),
            .service(service("no.address.com", namespace: "ns1")),
            .service(
                service(
                    "block.example.com", namespace: "ns1",
                    blocks: CIDR("10.99.0.0/16").map { [NetworkCIDR(cidr: $0)] } ?? [])),
            // The same name in several namespaces.
            .service(service("shared.com", ["7.0.0.1"], namespace: "ns1")),
            .service(service("shared.com", ["7.0.0.2"], namespace: "ns2", canonical: true)),
            .service(service("shared.com", ["7.0.0.3"], namespace: "ns3")),
            .service(service("preferred.com", ["7.0.1.2"], namespace: "ns2")),
            .service(service("preferred.com", ["7.0.1.9"], namespace: "liked")),
            .service(service("private.com", ["7.0.2.2"], namespace: "ns2", visibility: .namespace)),
            // Of another network.
            .service(service("far.ns1.svc.cluster.local", ["remote/8.8.8.8", "8.8.4.4"], namespace: "ns1")),
            .service(service("farther.ns1.svc.cluster.local", ["remote/8.8.8.9"], namespace: "ns1")),
            // Pods.
            .workload(pod("web-0", ["10.1.1.1", "fd00::101"], services: [headless: [80: 8080, 9090: 9191]])),
            .workload(pod("web-1", ["10.1.1.2"], services: [headless: [80: 8080]])),
            .workload(pod("web-2", ["10.1.1.3"], services: [headless: [80: 8080]], status: .unhealthy)),
            .workload(
                pod("sick", ["10.1.1.4"], services: ["ns1/unready.ns1.svc.cluster.local": [:]], status: .unhealthy)),
            .workload(pod("alone", ["10.1.1.5"])),
            .workload(
                pod("backend", ["10.1.1.6"], services: ["ns1/productpage.ns1.svc.cluster.local": [80: 8080]])),
        ])
        return state
    }()

    struct Lookup: Sendable, CustomTestStringConvertible {
        let name: String
        var type = RecordType.a
        var client = DNSClient(namespace: "ns1")
        let expected: String
        var testDescription: String { "\(name) \(type)" }

        init(_ name: String, _ expected: String) { (self.name, self.expected) = (name, expected) }

        init(_ name: String, _ type: RecordType, _ expected: String) {
            (self.name, self.type, self.expected) = (name, type, expected)
        }

        init(_ name: String, by client: DNSClient, _ expected: String) {
            (self.name, self.client, self.expected) = (name, client, expected)
        }

        init(_ name: String, _ type: RecordType, by client: DNSClient, _ expected: String) {
            (self.name, self.type, self.client, self.expected) = (name, type, client, expected)
        }
    }

    static let dual = DNSClient(namespace: "other")
    static let v4 = DNSClient(namespace: "ns1", ipv6: false)
    static let negative = " | auth cluster.local SOA "

    static let lookups: [Lookup] = [
        // Full names, and the steps a resolver takes through its search list.
        Lookup("productpage.ns1.svc.cluster.local", "NOERROR aa: productpage.ns1.svc.cluster.local A 9.9.9.9"),
        Lookup("productpage", "NOERROR aa: productpage A 9.9.9.9"),
        Lookup("productpage.ns1", "NOERROR aa: productpage.ns1 A 9.9.9.9"),
        Lookup("productpage.ns1.svc", "NOERROR aa: productpage.ns1.svc A 9.9.9.9"),
        Lookup("PRODUCTPAGE.ns1.SVC.cluster.local", "NOERROR aa: productpage.ns1.svc.cluster.local A 9.9.9.9"),
        Lookup("details", "forward"),
        Lookup("details.ns2", "NOERROR aa: details.ns2 A 11.11.11.11"),
        Lookup("details.ns2.svc", "NOERROR aa: details.ns2.svc A 11.11.11.11"),
        Lookup(
            "details.ns2.ns1.svc.cluster.local",
            "NOERROR aa: details.ns2.ns1.svc.cluster.local CNAME details.ns2, details.ns2 A 11.11.11.11"),
        Lookup(
            "details.ns2.svc.svc.cluster.local",
            "NOERROR aa: details.ns2.svc.svc.cluster.local CNAME details.ns2.svc, details.ns2.svc A 11.11.11.11"),
        Lookup("details.ns1.svc.cluster.local", "forward"),
        Lookup("unknown.ns1.svc.cluster.local", "forward"),
        // Names outside of the cluster, as they are and behind search domains.
        Lookup("www.google.com", "NOERROR aa: www.google.com A 1.1.1.1"),
        Lookup(
            "www.google.com.ns1.svc.cluster.local",
            "NOERROR aa: www.google.com.ns1.svc.cluster.local CNAME www.google.com, www.google.com A 1.1.1.1"),
        Lookup(
            "www.google.com.cluster.local",
            "NOERROR aa: www.google.com.cluster.local CNAME www.google.com, www.google.com A 1.1.1.1"),
        Lookup("www.bing.com", "forward"),
        Lookup("google.com", "forward"),
        Lookup("com", "forward"),
        Lookup(".", "forward"),
        Lookup(
            "google.com.my.domain", by: DNSClient(namespace: "ns1", searchDomains: ["my.domain"]),
            "NOERROR aa: google.com.my.domain A 5.5.5.5"),
        Lookup(
            "www.google.com.my.domain", by: DNSClient(namespace: "ns1", searchDomains: ["my.domain"]),
            "NOERROR aa: www.google.com.my.domain CNAME www.google.com, www.google.com A 1.1.1.1"),
        Lookup("www.google.com.my.domain", "forward"),
        // Wildcards: the most specific wins, there is no alias, and none matches everything.
        Lookup("foo.wildcard.com", "NOERROR aa: foo.wildcard.com A 3.3.3.3"),
        Lookup("b.a.wildcard.com", "NOERROR aa: b.a.wildcard.com A 4.3.2.1"),
        Lookup("c.b.a.wildcard.com", "NOERROR aa: c.b.a.wildcard.com A 4.3.2.1"),
        Lookup("x.y.wildcard.com", "NOERROR aa: x.y.wildcard.com A 3.3.3.3"),
        Lookup("wildcard.com", "forward"),
        Lookup(
            "foo.wildcard.com.ns1.svc.cluster.local",
            "NOERROR aa: foo.wildcard.com.ns1.svc.cluster.local A 3.3.3.3"),
        Lookup("foo.wildcard.com", .aaaa, "NOERROR aa | auth foo.wildcard.com SOA "),
        // Families.
        Lookup("reviews.ns2.svc.cluster.local", .aaaa, "NOERROR aa: reviews.ns2.svc.cluster.local AAAA fd00::12"),
        Lookup("reviews.ns2.svc.cluster.local", .aaaa, by: v4, "NOERROR aa" + negative),
        Lookup("productpage.ns1.svc.cluster.local", .aaaa, "NOERROR aa" + negative),
        Lookup("four.ns1.svc.cluster.local", "NOERROR aa: four.ns1.svc.cluster.local A 4.4.4.4"),
        Lookup("four.ns1.svc.cluster.local", .aaaa, "NOERROR aa" + negative),
        Lookup("six.ns1.svc.cluster.local", "NOERROR aa" + negative),
        Lookup("six.ns1.svc.cluster.local", .aaaa, "NOERROR aa: six.ns1.svc.cluster.local AAAA fd00::6"),
        // Headless services answer with their endpoints that may get traffic, under the cluster's domain only.
        Lookup(
            "headless.ns1.svc.cluster.local",
            "NOERROR aa: headless.ns1.svc.cluster.local A 10.1.1.1, headless.ns1.svc.cluster.local A 10.1.1.2"),
        Lookup("headless.ns1.svc.cluster.local", .aaaa, "NOERROR aa: headless.ns1.svc.cluster.local AAAA fd00::101"),
        Lookup("unready.ns1.svc.cluster.local", "NOERROR aa: unready.ns1.svc.cluster.local A 10.1.1.4"),
        Lookup("idle.ns1.svc.cluster.local", "NOERROR aa" + negative),
        Lookup("no.address.com", "forward"),
        // Blocks of addresses are no addresses.
        Lookup("block.example.com", "forward"),
        // Which of several services.
        Lookup("shared.com", "NOERROR aa: shared.com A 7.0.0.1"),
        Lookup("shared.com", by: dual, "NOERROR aa: shared.com A 7.0.0.2"),
        Lookup("preferred.com", by: dual, "NOERROR aa: preferred.com A 7.0.1.2"),
        Lookup(
            "preferred.com", by: DNSClient(namespace: "other", preferredNamespace: "liked"),
            "NOERROR aa: preferred.com A 7.0.1.9"),
        Lookup("private.com", "forward"),
        Lookup("private.com", by: DNSClient(namespace: "ns2"), "NOERROR aa: private.com A 7.0.2.2"),
        // Networks.
        Lookup("far.ns1.svc.cluster.local", "NOERROR aa: far.ns1.svc.cluster.local A 8.8.4.4"),
        Lookup(
            "far.ns1.svc.cluster.local", by: DNSClient(namespace: "ns1", network: "remote"),
            "NOERROR aa: far.ns1.svc.cluster.local A 8.8.8.8"),
        Lookup("farther.ns1.svc.cluster.local", "NOERROR aa" + negative),
        // Types.
        Lookup("www.google.com", .txt, "forward"),
        Lookup("www.google.com", .mx, "forward"),
        Lookup("www.google.com", .https, "NOERROR aa | auth www.google.com SOA "),
        Lookup("www.bing.com", .https, "forward"),
        Lookup("www.google.com", .any, "NOERROR aa: www.google.com A 1.1.1.1"),
        Lookup("www.google.com", .cname, "forward"),
        Lookup(
            "www.google.com.ns1.svc.cluster.local", .cname,
            "NOERROR aa: www.google.com.ns1.svc.cluster.local CNAME www.google.com"),
        Lookup("productpage.ns1.svc.cluster.local", .soa, "forward"),
        Lookup("cluster.local", .ns, "forward"),
        // SRV by port number, and for a whole service; by the port's name others know.
        Lookup(
            "_80._tcp.productpage.ns1.svc.cluster.local", .srv,
            "NOERROR aa: _80._tcp.productpage.ns1.svc.cluster.local SRV 80 productpage.ns1.svc.cluster.local"
                + " | more productpage.ns1.svc.cluster.local A 9.9.9.9"),
        Lookup("_81._tcp.productpage.ns1.svc.cluster.local", .srv, "forward"),
        Lookup("_http._tcp.productpage.ns1.svc.cluster.local", .srv, "forward"),
        Lookup("_headless._tcp.productpage.ns1.svc", .srv, "forward"),
        Lookup("_80._udp.productpage.ns1.svc.cluster.local", .srv, "forward"),
        Lookup("_sip._tcp.www.google.com", .srv, "forward"),
        Lookup("_tcp.headless.ns1.svc.cluster.local", .a, "forward"),
        Lookup(
            "_9090._tcp.headless.ns1.svc.cluster.local", .srv,
            "NOERROR aa: _9090._tcp.headless.ns1.svc.cluster.local SRV 9191 web-0.headless.ns1.svc.cluster.local"
                + " | more web-0.headless.ns1.svc.cluster.local A 10.1.1.1, "
                + "web-0.headless.ns1.svc.cluster.local AAAA fd00::101"),
        // Single pods.
        Lookup(
            "web-0.headless.ns1.svc.cluster.local", "NOERROR aa: web-0.headless.ns1.svc.cluster.local A 10.1.1.1"),
        Lookup(
            "web-0.headless.ns1.svc.cluster.local", .aaaa,
            "NOERROR aa: web-0.headless.ns1.svc.cluster.local AAAA fd00::101"),
        Lookup("web-1.headless.ns1.svc.cluster.local", .aaaa, "NOERROR aa" + negative),
        Lookup("web-0.headless", "NOERROR aa: web-0.headless A 10.1.1.1"),
        Lookup("web-0.headless.ns1.svc", "NOERROR aa: web-0.headless.ns1.svc A 10.1.1.1"),
        Lookup(
            "web-0.headless.ns1.svc.svc.cluster.local",
            "NOERROR aa: web-0.headless.ns1.svc.svc.cluster.local CNAME web-0.headless.ns1.svc, "
                + "web-0.headless.ns1.svc A 10.1.1.1"),
        Lookup(
            "10-1-1-1.headless.ns1.svc.cluster.local",
            "NOERROR aa: 10-1-1-1.headless.ns1.svc.cluster.local A 10.1.1.1"),
        Lookup("web-2.headless.ns1.svc.cluster.local", "forward"),
        Lookup("backend.productpage.ns1.svc.cluster.local", "forward"),
        Lookup("10-1-1-5.ns1.pod.cluster.local", "NOERROR aa: 10-1-1-5.ns1.pod.cluster.local A 10.1.1.5"),
        Lookup("10-1-1-5.ns2.pod.cluster.local", "forward"),
        Lookup("10-1-1-99.ns1.pod.cluster.local", "forward"),
        Lookup(
            "fd00--101.ns1.pod.cluster.local", .aaaa,
            "NOERROR aa: fd00--101.ns1.pod.cluster.local AAAA fd00::101"),
        // Addresses.
        Lookup("9.9.9.9.in-addr.arpa", .ptr, "NOERROR aa: 9.9.9.9.in-addr.arpa PTR productpage.ns1.svc.cluster.local"),
        Lookup(
            "1.1.1.10.in-addr.arpa", .ptr,
            "NOERROR aa: 1.1.1.10.in-addr.arpa PTR web-0.headless.ns1.svc.cluster.local"),
        Lookup("5.1.1.10.in-addr.arpa", .ptr, "NOERROR aa: 5.1.1.10.in-addr.arpa PTR 10-1-1-5.ns1.pod.cluster.local"),
        Lookup("1.0.99.10.in-addr.arpa", .ptr, "forward"),
        Lookup("2.2.0.7.in-addr.arpa", .ptr, "forward"),
        Lookup("9.9.9.in-addr.arpa", .ptr, "forward"),
        Lookup(
            "2.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", .ptr,
            "NOERROR aa: 2.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa PTR "
                + "reviews.ns2.svc.cluster.local"),
    ]

    @Test("13. what becomes of a question", arguments: lookups)
    func lookup(_ lookup: Lookup) throws {
        let query = try #require(parsed(queryBytes(lookup.name, lookup.type)))
        let question = try #require(query.question)
        var random = FixedRandom()
        let resolver = Resolver(client: lookup.client, mesh: Self.mesh)
        switch resolver.resolve(question, using: &random) {
        case .forward: #expect(lookup.expected == "forward")
        case .answer(let answer):
            let reply = answer.reply(to: query, limit: DNSMessage.longest, serial: 1)
            #expect(sorted(line(reply)) == sorted(lookup.expected))
        }
    }

    /// Addresses come in any order.
    private func sorted(_ text: String) -> [String] {
        text.replacing("aa: ", with: "aa:, ").replacing(" | more ", with: ", | more, ").split(separator: ", ")
            .map(String.init).sorted()
    }

    @Test("13. answers of our own live for 30 seconds")
    func timeToLiveIsThirtySeconds() throws {
        let query = try #require(parsed(queryBytes("productpage.ns1.svc.cluster.local")))
        var random = FixedRandom()
        guard
            case .answer(let answer) = Resolver(client: DNSClient(namespace: "ns1"), mesh: Self.mesh).resolve(
                try #require(query.question), using: &random)
        else {
            Issue.record("not answered")
            return
        }
        let reply = try DNSMessage(parsing: answer.reply(to: query, limit: 512, serial: 1))
        #expect(reply.records.map(\.timeToLive) == [30])
        #expect(reply.header.recursionAvailable && reply.header.isAuthoritative)
    }

    @Test func addressesAreShuffled() throws {
        let query = try #require(parsed(queryBytes("headless.ns1.svc.cluster.local")))
        let question = try #require(query.question)
        let resolver = Resolver(client: DNSClient(namespace: "ns1"), mesh: Self.mesh)
        var orders: Set<String> = []
        for seed in 0..<64 as Range<UInt64> {
            var random = FixedRandom(seed)
            guard case .answer(let answer) = resolver.resolve(question, using: &random) else { continue }
            orders.insert(line(answer.reply(to: query, limit: 512, serial: 1)))
        }
        #expect(orders.count == 2)
    }

    @Test func otherClassesAreForwarded() throws {
        let query = try #require(parsed(queryBytes("productpage.ns1.svc.cluster.local", recordClass: 3)))
        var random = FixedRandom()
        let resolver = Resolver(client: DNSClient(namespace: "ns1"), mesh: Self.mesh)
        #expect(resolver.resolve(try #require(query.question), using: &random) == .forward)
    }

    @Test func aNameWithALabelThatIsNoHostNameIsForwarded() throws {
        var bytes = queryBytes("productpage.ns1.svc.cluster.local")
        bytes[13] = 0x2e
        let query = try #require(parsed(bytes))
        var random = FixedRandom()
        let resolver = Resolver(client: DNSClient(namespace: "ns1"), mesh: Self.mesh)
        #expect(resolver.resolve(try #require(query.question), using: &random) == .forward)
    }
}
