import Addressing
import DNS
import Glibc
import LinuxNetwork
import Mesh
import Netlink
import Testing

@testable import Ztunnel

/// What ztunnel serves besides, of sockets it makes itself: SOCKS5, DNS alone, the limits of silent peers.
@Suite("Sockets of its own, by the settings", .serialized, .timeLimit(.minutes(2)))
struct DedicatedTests {
    /// A client with a ztunnel of its own and a server with one.
    private func scene(
        _ configure: (inout ZtunnelConfiguration) -> Void,
        _ body: (TestNode, TestPod, TestPod) async throws -> Void
    ) async throws {
        try await onNode { node in
            let (client, server) = (try await node.pod("client", 1), try await node.pod("server", 2))
            node.store.apply([
                .service(node.web()), .workload(node.workload(client)),
                .workload(node.workload(server, services: [TestNode.web: PortMap([80: 8080])])),
            ])
            try node.startProxy()
            try node.enrol(server)
            let shared = node.proxy
            let network = PodNetwork(try client.namespace.duplicate())
            try node.startProxy {
                $0.isDedicated = true
                $0.workloadInfo = OwnWorkload("shop/client/client")
                $0.ownNetwork = network
                configure(&$0)
            }
            do { try await body(node, client, server) } catch { Issue.record("\(error)\n\(node.evidence)") }
            await shared?.stop()
        }
    }

    /// Says these bytes on the pod's SOCKS5 port.
    private func negotiate(_ client: TestPod, _ bytes: [UInt8]) throws -> FileDescriptor {
        let connection = try client.connect(to: Endpoint(.loopbackV4, 15080))
        try Talk.ready(connection.raw, POLLOUT, "the SOCKS5 port")
        #expect(Glibc.send(connection.raw, bytes, bytes.count, CInt(MSG_NOSIGNAL)) == bytes.count)
        return connection
    }

    private func read(_ fd: CInt, _ count: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            try Talk.ready(fd, POLLIN, "an answer")
            var chunk = [UInt8](repeating: 0, count: count - bytes.count)
            let got = recv(fd, &chunk, chunk.count, 0)
            guard got > 0 else { throw Unmet("closed after \(bytes)") }
            bytes += chunk.prefix(got)
        }
        return bytes
    }

    private static let success: [UInt8] = [5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0]

    private static func request(_ target: SocksExchange.Target) -> [UInt8] {
        switch target {
        case .address(let endpoint):
            [5, 1, 0, 5, 1, 0, endpoint.address.isV4 ? 1 : 4] + endpoint.address.bytes
                + [UInt8(endpoint.port >> 8), UInt8(endpoint.port & 0xff)]
        case .host(let name, let port):
            [5, 1, 0, 5, 1, 0, 3, UInt8(name.utf8.count)] + Array(name.utf8) + [UInt8(port >> 8), UInt8(port & 0xff)]
        }
    }

    @Test("SOCKS5: by address and by name of the mesh, through a tunnel; what was sent early arrives")
    func socks() async throws {
        try await scene {
            $0.socksEnabled = true
        } _: { node, client, server in
            let listener = try server.listen(port: 8080)
            let targets: [SocksExchange.Target] = [
                .address(Endpoint(server.v4, 8080)), .address(TestNode.vipEndpoint), .host("web.shop", port: 80),
                .address(Endpoint(server.v6, 8080)),
            ]
            for target in targets {
                let connection = try negotiate(client, Self.request(target) + Array("early".utf8))
                #expect(try read(connection.raw, 12) == Self.success, "\(target)")
                let accepted = try Talk.accept(listener)
                defer { close(accepted.fd) }
                #expect(try Talk.receive(accepted.fd, 5) == "early")
                try Talk.send(accepted.fd, "answer")
                #expect(try Talk.receive(connection.raw, 6) == "answer")
            }
            #expect(try client.tunnels() > 0)
            try eventually("policy's view: the certificate of the client") {
                try node.log().contains(#"src.identity="spiffe://cluster.local/ns/shop/sa/client""#)
            }
        }
    }

    @Test(
        "SOCKS5: a name without addresses, ztunnel's own ports, other commands, silence: an answer or the end, and no loop"
    )
    func hostileSocks() async throws {
        try await scene {
            $0.socksEnabled = true
        } _: { node, client, server in
            // Loopback alone: nobody else can ask.
            let fromOutside = try server.connect(to: Endpoint(client.v4, 15080))
            try expectClosed(fromOutside.raw)

            // Known, and without an endpoint.
            node.store.apply([
                .service(
                    Mesh.Service(
                        name: "idle", namespace: "shop", hostname: "idle.shop.svc.cluster.local", addresses: [],
                        ports: [.init(80, target: 80)]))
            ])
            let unknown = try negotiate(client, Self.request(.host("idle.shop", port: 80)))
            #expect(try read(unknown.raw, 12) == [5, 0, 5, 4, 0, 1, 0, 0, 0, 0, 0, 0])
            try expectClosed(unknown.raw)
            let bind = try negotiate(client, [5, 1, 0, 5, 2, 0, 1])
            #expect(try read(bind.raw, 12) == [5, 0, 5, 7, 0, 1, 0, 0, 0, 0, 0, 0])
            try expectClosed(bind.raw)
            for port: UInt16 in [15001, 15006, 15008, 15080] {
                for address in [IPAddress.loopbackV4, client.v4] {
                    let call = try negotiate(client, Self.request(.address(Endpoint(address, port))))
                    #expect(try read(call.raw, 12) == Self.success)
                    try expectClosed(call.raw, "\(address):\(port)")
                }
            }
            try eventually("each is told as what it is") {
                node.sample("apus_early_denials_total", #"direction="outbound""#, #"reason="recursive""#) == 8
            }
            #expect(node.sample("istio_tcp_connections_opened_total") == 0)
        }
    }

    @Test("ENABLE_PROXY=false: DNS is served where ISTIO_META_DNS_PROXY_ADDR says, and nothing else listens")
    func dnsAlone() async throws {
        try await scene {
            $0.proxyEnabled = false
            $0.dnsProxyAddress = "127.0.0.3:5300"
        } _: { node, client, _ in
            let listening = try client.namespace.run { () throws(NetlinkError) in
                var diagnostics = try SocketDiagnostics()
                return try diagnostics.tcpSockets(in: [.listening]).map(\.local)
            }
            #expect(listening.map(\.description) == ["127.0.0.3:5300"])
            let name = try #require(DNSName("web.shop.svc.cluster.local"))
            let query = DNSQuery(asking: name, .a)
            let socket = try client.namespace.run { () throws(SystemError) in
                let socket = try Sockets.udp(dualStack: false)
                _ = try Sockets.connect(
                    socket.raw, to: Endpoint(IPAddress(127, 0, 0, 3), 5300), dualStack: false)
                return socket.release()
            }
            defer { close(socket) }
            let asked = query.bytes(id: 7)
            #expect(Glibc.send(socket, asked, asked.count, 0) == asked.count)
            try Talk.ready(socket, POLLIN, "an answer")
            var bytes = [UInt8](repeating: 0, count: 4096)
            let got = recv(socket, &bytes, bytes.count, 0)
            let reply = try #require(UpstreamReply(Array(bytes.prefix(max(got, 0))), to: query, id: 7))
            #expect(reply.addresses(of: name).addresses == [TestNode.vip])
        }
    }

    @Test("KEEPALIVE_* and USER_TIMEOUT_ENABLED: on what was accepted and on what was opened, handed over or not")
    func silenceLimits() async throws {
        func options(_ fd: CInt) -> [CInt] {
            [(SOL_SOCKET, SO_KEEPALIVE)].map { option(fd, $0, $1) }
                + [TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT].map {
                    option(fd, CInt(IPPROTO_TCP), $0)
                }
        }
        try await onNode { node in
            let (client, server) = (try await node.pod("client", 1), try await node.pod("server", 2))
            node.store.apply([.workload(node.workload(client)), .workload(node.workload(server, hbone: false))])
            try node.startProxy {
                $0.keepalive = .init(idle: .seconds(60), interval: .seconds(5), retries: 3)
                $0.userTimeoutEnabled = true
            }
            try node.enrol(client)
            let listener = try server.listen(port: 8080)
            let held = try Held(client, to: Endpoint(server.v4, 8080), accepting: listener)
            // Ztunnel is this process: its sockets of the pod's connection are among our descriptors.
            let expected: [CInt] = [1, 60, 5, 3, 75_000]
            let application = try #require(Sockets.localEndpoint(held.client.raw))
            var found: Set<String> = []
            for fd in 3..<CInt(4096) where fd != held.client.raw && fd != held.server {
                let (local, remote) = (Sockets.localEndpoint(fd), Sockets.peerEndpoint(fd))
                if remote == application { found.insert("accepted \(options(fd) == expected)") }
                if local?.address == client.v4, remote == Endpoint(server.v4, 8080), local != application {
                    found.insert("opened \(options(fd) == expected)")
                }
            }
            // Other tests' sockets may have the same addresses, and have the usual limits.
            #expect(found.isSuperset(of: ["accepted true", "opened true"]), "\(found)")
        }
    }

    private func option(_ fd: CInt, _ level: CInt, _ name: CInt) -> CInt {
        var (value, length) = (CInt(-1), socklen_t(MemoryLayout<CInt>.size))
        return getsockopt(fd, level, name, &value, &length) == 0 ? value : -1
    }
}
