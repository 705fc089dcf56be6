import Addressing
import DNS
import Glibc
import Handover
import LinuxNetwork
import Mesh
import Redirection
import Testing

@testable import Ztunnel

/// The DNS proxy in a pod: real capture, real keeper, real sockets, and name servers that are good, bad and absent.
@Suite("DNS proxy", .serialized)
struct DNSProxyTests {
    /// A pod that asks, and one in which name servers are.
    final class Rig {
        let node: TestNode
        let pod: TestPod
        let other: TestPod
        let app: DNSApplication
        private var servers: [NameServer] = []
        /// Where the application sends its questions: nobody is there.
        let anywhere = Endpoint(IPAddress(10, 99, 0, 200), 53)

        init(
            servers addresses: [String] = ["10.99.0.20"], search: [String] = [],
            backend: any RedirectionBackend = NftablesBackend()
        ) async throws {
            node = try TestNode()
            node.backend = backend
            pod = try await node.pod("client", 10)
            other = try await node.pod("dns", 20)
            app = DNSApplication(pod: pod)
            node.store.apply(
                [
                    .workload(node.workload(pod)),
                    .service(
                        Service(
                            name: "web", namespace: "shop", hostname: "web.shop.svc.cluster.local",
                            addresses: [NetworkAddress(address: IPAddress(10, 96, 0, 80))])),
                ])
            try node.startProxy()
            try node.enrol(pod, dns: PodResolver(servers: addresses, searchDomains: search, timeout: 1, attempts: 2))
        }

        @discardableResult
        func serve(
            on address: IPAddress = .anyV4, _ behaviour: @escaping NameServer.Behaviour
        ) throws -> NameServer {
            let server = try other.namespace.run { try NameServer(address: address, behaviour) }
            servers.append(server)
            return server
        }

        func end() async {
            for server in servers { server.stop() }
            await node.end()
        }
    }

    private func withRig(
        servers: [String] = ["10.99.0.20"], search: [String] = [], _ body: (Rig) throws -> Void
    ) async throws {
        let rig = try await Rig(servers: servers, search: search)
        do {
            try body(rig)
        } catch {
            let evidence = rig.node.evidence
            await rig.end()
            throw Unmet("\(error)\n\(evidence)")
        }
        await rig.end()
    }

    @Test("what the mesh knows is answered over UDP and TCP, IPv4 and IPv6")
    func answersFromTheMesh() async throws {
        try await withRig { rig in
            let server = try rig.serve { [TestMessage.reply($0.bytes, [9])] }
            let query = TestMessage.query("web.shop.svc.cluster.local")
            let reply = try #require(try rig.app.ask(query, at: rig.anywhere))
            #expect(try TestMessage.addresses(reply) == ["10.96.0.80"])
            let v6 = Endpoint(try #require(IPAddress("fd00:99::200")), 53)
            #expect(try TestMessage.addresses(#require(try rig.app.ask(query, at: v6))) == ["10.96.0.80"])
            let both = try rig.app.askOverTCP([query, TestMessage.query("web", id: 8)], at: rig.anywhere)
            #expect(try both.map { try TestMessage.addresses($0) } == [["10.96.0.80"], ["10.96.0.80"]])
            #expect(server.heard.isEmpty)
        }
    }

    @Test("the rest goes to the pod's name server and comes back as it is, but for id and authority")
    func forwards() async throws {
        try await withRig { rig in
            let server = try rig.serve { [TestMessage.reply($0.bytes, [1, 2])] }
            let reply = try #require(try rig.app.ask(TestMessage.query("wWw.example.com", id: 77), at: rig.anywhere))
            let message = try DNSMessage(parsing: reply)
            #expect(message.header.id == 77 && !message.header.isAuthoritative && message.header.recursionAvailable)
            #expect(try TestMessage.addresses(reply) == ["10.0.0.1", "10.0.0.2"])
            #expect(server.heard.first?.source?.address == rig.pod.v4)
            let overTCP = try rig.app.askOverTCP([TestMessage.query("www.example.com")], at: rig.anywhere)
            #expect(try TestMessage.addresses(overTCP[0]) == ["10.0.0.1", "10.0.0.2"])
            #expect(server.heard.map(\.overTCP) == [false, true])
        }
    }

    @Test("ids and source ports upstream are random, and never the client's id")
    func randomUpstream() async throws {
        try await withRig { rig in
            let server = try rig.serve { [TestMessage.reply($0.bytes)] }
            for index in 0..<24 {
                _ = try rig.app.ask(TestMessage.query("n\(index).example.com", id: 0x4242), at: rig.anywhere)
            }
            let heard = server.heard
            #expect(heard.count == 24)
            #expect(Set(heard.map { $0.bytes[0..<2] }).count > 20)
            #expect(Set(heard.compactMap { $0.source?.port }).count > 20)
            #expect(heard.count { $0.bytes[0] == 0x42 && $0.bytes[1] == 0x42 } < 3)
        }
    }

    @Test("replies with a wrong id or question are passed over, the right one after them is taken")
    func liars() async throws {
        try await withRig { rig in
            try rig.serve { query in
                let right = TestMessage.reply(query.bytes, [1])
                var wrongID = TestMessage.reply(query.bytes, [66])
                wrongID[1] ^= 0xff
                var wrongQuestion = TestMessage.reply(query.bytes, [67])
                wrongQuestion[13] ^= 1
                return [[], [1, 2, 3], wrongID, wrongQuestion, Array(right.dropLast()), query.bytes, right]
            }
            let reply = try #require(try rig.app.ask(TestMessage.query("www.example.com"), at: rig.anywhere))
            #expect(try TestMessage.addresses(reply) == ["10.0.0.1"])
        }
    }

    @Test("garbage alone ends in SERVFAIL, after every server was asked")
    func garbage() async throws {
        try await withRig { rig in
            let server = try rig.serve { query in [Array(repeating: 0xff, count: 100), Array(query.bytes.prefix(3))] }
            let reply = try #require(try rig.app.ask(TestMessage.query("www.example.com", id: 5), at: rig.anywhere))
            #expect(try TestMessage.code(reply) == "SERVFAIL")
            #expect(reply[1] == 5)
            #expect(server.heard.count == 2)
        }
    }

    @Test("a silent server and one that refuses are followed by the next")
    func nextServer() async throws {
        // .21 is nobody; .20 has the address of the pod with the server.
        try await withRig(servers: ["10.99.0.21", "10.99.0.20"]) { rig in
            try rig.serve { [TestMessage.reply($0.bytes, [3])] }
            let reply = try #require(try rig.app.ask(TestMessage.query("www.example.com"), at: rig.anywhere))
            #expect(try TestMessage.addresses(reply) == ["10.0.0.3"])
        }
    }

    @Test("a server that fails is followed by the next, and its refusal is passed on when nobody does better")
    func failingServer() async throws {
        try await withRig { rig in
            let server = try rig.serve { [TestMessage.reply($0.bytes, [], code: 5)] }
            let reply = try #require(try rig.app.ask(TestMessage.query("www.example.com"), at: rig.anywhere))
            #expect(try TestMessage.code(reply) == "REFUSED")
            #expect(server.heard.count == 2)
            try #expect(
                TestMessage.code(#require(try rig.app.ask(TestMessage.query("x.y"), at: rig.anywhere))) == "REFUSED")
        }
    }

    @Test("NXDOMAIN is an answer")
    func nameError() async throws {
        try await withRig { rig in
            let server = try rig.serve { [TestMessage.reply($0.bytes, [], code: 3)] }
            let reply = try #require(try rig.app.ask(TestMessage.query("www.example.com"), at: rig.anywhere))
            #expect(try TestMessage.code(reply) == "NXDOMAIN")
            #expect(server.heard.count == 1)
        }
    }

    @Test("a truncated reply is asked for again over TCP, and cut to what the client takes")
    func truncation() async throws {
        try await withRig { rig in
            let many = (0..<100).map { UInt8($0) }
            let server = try rig.serve { query in
                query.overTCP
                    ? [TestMessage.reply(query.bytes, many)] : [TestMessage.reply(query.bytes, [], truncated: true)]
            }
            let large = TestMessage.query("www.example.com", edns: 4096)
            let whole = try #require(try rig.app.ask(large, at: rig.anywhere))
            #expect(try TestMessage.addresses(whole).count == 100)
            #expect(server.heard.map(\.overTCP) == [false, true])
            // Without EDNS no more than 512 bytes: never an amplification.
            let small = try #require(try rig.app.ask(TestMessage.query("www.example.com"), at: rig.anywhere))
            #expect(small.count <= 512)
            #expect(try DNSMessage(parsing: small).header.isTruncated)
        }
    }

    @Test("a response is not answered, and a message that cannot be read gets a bare FORMERR")
    func noAnswerToAnswers() async throws {
        try await withRig { rig in
            let proxy = Endpoint(.loopbackV4, ZtunnelPort.dns)
            let response = TestMessage.query("www.example.com", flags: 0x8180)
            #expect(try rig.app.ask(response, at: proxy, milliseconds: 300) == nil)
            #expect(try rig.app.ask([1, 2, 3], at: proxy, milliseconds: 300) == nil)
            let cut = Array(TestMessage.query("www.example.com").dropLast(2))
            let reply = try #require(try rig.app.ask(cut, at: proxy))
            #expect(try TestMessage.code(reply) == "FORMERR")
            #expect(reply.count == 12)
        }
    }

    /// istio#55962: what is no query is for the server it was sent to.
    @Test("UPDATE reaches the server that the application addressed, over UDP and TCP")
    func update() async throws {
        try await withRig(servers: ["10.99.0.21"]) { rig in
            let server = try rig.serve { [TestMessage.reply($0.bytes, [], code: 0)] }
            let update = TestMessage.query("zone.example.com", .soa, id: 9, flags: 0x2800)
            let there = Endpoint(rig.other.v4, 53)
            let reply = try #require(try rig.app.ask(update, at: there))
            #expect(try TestMessage.code(reply) == "NOERROR")
            #expect(reply[1] == 9)
            let overTCP = try rig.app.askOverTCP([update], at: there)
            #expect(overTCP.first?[1] == 9)
            #expect(server.heard.map(\.overTCP) == [false, true])
            #expect(server.heard.allSatisfy { $0.bytes == update })
        }
    }

    @Test("a resolver inside of the pod asks through the proxy and is never asked by it")
    func noLoop() async throws {
        try await withRig(servers: ["127.0.0.1", "10.99.0.10", "::1"]) { rig in
            let inside = try rig.pod.namespace.run {
                try NameServer { [TestMessage.reply($0.bytes, [8])] }
            }
            defer { inside.stop() }
            let outside = try #require(try rig.app.ask(TestMessage.query("www.example.com"), at: rig.anywhere))
            #expect(try TestMessage.code(outside) == "SERVFAIL")
            #expect(inside.heard.isEmpty)
            // The pod's own questions to it are not captured.
            for address in [IPAddress.loopbackV4, rig.pod.v4] {
                let own = try #require(
                    try rig.app.ask(TestMessage.query("www.example.com"), at: Endpoint(address, 53)))
                #expect(try TestMessage.addresses(own) == ["10.0.0.8"])
            }
        }
    }

    @Test("nobody outside of the pod can ask the proxy")
    func notFromOutside() async throws {
        try await withRig { rig in
            let stranger = DNSApplication(pod: rig.other)
            let query = TestMessage.query("web.shop.svc.cluster.local")
            // The network says that nobody is there, or nothing.
            let reply = try? stranger.ask(query, at: Endpoint(rig.pod.v4, ZtunnelPort.dns), milliseconds: 300)
            #expect(reply == nil || reply == .some(nil))
        }
    }

    @Test("a pod that the mesh does not know gets SERVFAIL after the wait")
    func unknownWorkload() async throws {
        try await withRig { rig in
            rig.node.store.apply([.remove(rig.node.workload(rig.pod).uid)])
            let reply = try #require(try rig.app.ask(TestMessage.query("web"), at: rig.anywhere))
            #expect(try TestMessage.code(reply) == "SERVFAIL")
        }
    }

    @Test("the search list of the pod counts")
    func searchList() async throws {
        try await withRig(search: ["my.domain"]) { rig in
            try rig.serve { [TestMessage.reply($0.bytes, [], code: 3)] }
            let reply = try #require(
                try rig.app.ask(TestMessage.query("web.shop.svc.my.domain"), at: rig.anywhere))
            #expect(try TestMessage.addresses(reply) == ["10.96.0.80"])
        }
    }

    @Test("questions and what became of them are counted")
    func metrics() async throws {
        try await withRig { rig in
            try rig.serve { [TestMessage.reply($0.bytes)] }
            _ = try rig.app.ask(TestMessage.query("web"), at: rig.anywhere)
            _ = try rig.app.ask(TestMessage.query("www.example.com"), at: rig.anywhere)
            let text = rig.node.metrics.exposition()
            let labels = #"request_query_type="A",request_protocol="udp",source_canonical_service="client""#
            #expect(text.contains("istio_dns_requests_total{\(labels)"))
            #expect(text.contains("istio_dns_upstream_requests_total{\(labels)"))
            #expect(text.contains("istio_dns_upstream_request_duration_seconds_bucket{\(labels)"))
        }
    }
}
