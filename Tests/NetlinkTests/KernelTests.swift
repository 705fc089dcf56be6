import Addressing
import CNftables
import Glibc
import LinuxNetwork
import Testing

@testable import Netlink

/// Requests that the kernel answers, each in a namespace of its own.
@Suite("Netlink and the kernel", .serialized)
struct KernelTests {
    @Test("links are made, joined, moved and deleted; addresses and routes come and go")
    func links() throws {
        let here = try NetworkNamespace.make()
        let there = try NetworkNamespace.make()
        let descriptor = there.raw
        try here.run { () throws(NetlinkError) in
            var routes = try RouteSocket()
            #expect(try routes.links().map(\.name) == ["lo"])
            #expect(try routes.link(named: "missing") == nil)
            try routes.createBridge("br0")
            try routes.createPair("a0", peer: "b0")
            try routes.createPair("a1", peer: "b1", peerNamespace: descriptor)
            let bridge = try routes.link(named: "br0")
            let port = try routes.link(named: "a0")
            #expect(bridge?.kind == "bridge" && port?.kind == "veth" && port?.isUp == false)
            guard let bridge, let port, let peer = try routes.link(named: "b0") else { return }
            #expect(port.peer == peer.index && port.hardwareAddress.count == 6 && port.mtu == 1500)
            try routes.setMaster(port.index, to: bridge.index)
            try routes.setUp(port.index)
            #expect(try routes.link(named: "a0")?.master == bridge.index)
            #expect(try routes.link(named: "a0")?.isUp == true)
            try routes.setMaster(port.index, to: 0)
            #expect(try routes.link(named: "a0")?.master == nil)
            try routes.move(peer.index, toNamespace: descriptor, as: "eth0")
            #expect(try routes.link(named: "b0") == nil)
            #expect(throws: NetlinkError.self) { try routes.createBridge("br0") }

            try routes.setUp(bridge.index)
            for address in [IPAddress(10, 1, 0, 1), IPAddress(v6High: 0xfd00 << 48, low: 1)] {
                let entry = InterfaceAddress(
                    address, prefixLength: address.isV4 ? 24 : 64, interface: bridge.index)
                try routes.add(entry)
                #expect(throws: NetlinkError.self) { try routes.add(entry) }
                try routes.add(entry, existing: .replace)
                #expect(try routes.addresses().contains(entry))
            }
            let wanted = Route(
                to: CIDR(IPAddress(10, 9, 0, 0), length: 16) ?? CIDR(.anyV4), via: IPAddress(10, 1, 0, 7),
                interface: bridge.index, table: 4711, metric: 5)
            try routes.add(wanted)
            #expect(try routes.routes(.v4, table: 4711) == [wanted])
            #expect(try routes.routes(.v4).contains(wanted))
            #expect(try routes.routes(.v6, table: 4711).isEmpty)
            try routes.delete(wanted)
            #expect(try routes.routes(.v4, table: 4711).isEmpty)
            try routes.deleteLink(bridge.index)
            #expect(try routes.link(named: "br0") == nil)
        }
        let names = try there.run { () throws(NetlinkError) in
            var routes = try RouteSocket()
            return Set(try routes.links().map(\.name))
        }
        #expect(names == ["lo", "eth0", "b1"])
    }

    @Test("policy rules with every selector are read back as they were made", arguments: IPAddress.Family.allCases)
    func rules(family: IPAddress.Family) throws {
        let namespace = try NetworkNamespace.make()
        let block = CIDR(family == .v4 ? IPAddress(10, 0, 0, 0) : IPAddress(v6High: 0xfd00 << 48, low: 0), length: 8)
        let made = [
            PolicyRule(family, priority: 100, mark: 0x111, mask: 0xfff, table: 100),
            PolicyRule(family, priority: 101, source: block, destination: block, table: 70_000),
            PolicyRule(family, priority: 102, inputInterface: "lo", inverted: true, table: 7),
            PolicyRule(family, priority: 103, outputInterface: "lo", table: 7),
        ]
        try namespace.run { () throws(NetlinkError) in
            var routes = try RouteSocket()
            let before = try routes.rules(family)
            for rule in made.reversed() { try routes.add(rule) }
            #expect(throws: NetlinkError.self) { try routes.add(made[0]) }
            #expect(try routes.rules(family).filter { (100...103).contains($0.priority) } == made)
            for rule in made { try routes.delete(rule) }
            #expect(try routes.rules(family) == before)
            #expect(throws: NetlinkError.self) { try routes.delete(made[0]) }
        }
    }

    @Test("a batch takes effect whole or not at all, and the error names the step and the kernel's reason")
    func transactions() throws {
        let namespace = try NetworkNamespace.make()
        try namespace.run {
            var nftables = try NftablesSocket()
            #expect(try nftables.table("t") == nil)
            let chain = Nftables.Chain(
                "c", .init(.filter, .input, priority: 7, acceptsByDefault: false),
                rules: [
                    Nftables.Rule([.counter, .verdict(.accept)], comment: "one"),
                    Nftables.Rule([.verdict(.jump("d"))]),
                ])
            let wanted = Nftables.Table("t", comment: "mine", chains: [Nftables.Chain("d"), chain])
            var good = Nftables.Batch()
            good.addTable("t", comment: "mine")
            for chain in wanted.chains { good.addChain(chain, table: "t") }
            for rule in chain.rules { good.addRule(rule, chain: "c", table: "t") }
            try nftables.commit(good)
            #expect(try nftables.table("t") == wanted)
            #expect(try nftables.table("another") == nil)

            var bad = Nftables.Batch()
            bad.flush(table: "t")
            bad.addRule(Nftables.Rule([.verdict(.jump("nowhere"))]), chain: "c", table: "t")
            bad.deleteTable("t")
            do {
                try nftables.commit(bad)
                Issue.record("a rule that jumps nowhere was taken")
            } catch let error as NetlinkError {
                #expect(error.operation.hasPrefix("add rule t c") && error.code == ENOENT)
            }
            #expect(try nftables.table("t") == wanted)
            // The same socket goes on.
            var removal = Nftables.Batch()
            removal.removeTable("t")
            removal.removeTable("never-there")
            try nftables.commit(removal)
            try nftables.commit(Nftables.Batch())
            #expect(try nftables.tables().isEmpty)
        }
    }

    @Test("a batch larger than any buffer's default goes in one transaction")
    func largeBatch() throws {
        let namespace = try NetworkNamespace.make()
        try namespace.run {
            var nftables = try NftablesSocket()
            var batch = Nftables.Batch()
            batch.addTable("t")
            batch.addChain(Nftables.Chain("c"), table: "t")
            for index in 0..<3000 {
                batch.addRule(Nftables.Rule([.counter], comment: "rule \(index)"), chain: "c", table: "t")
            }
            try nftables.commit(batch)
            let rules = try nftables.rules(of: "t")
            #expect(rules.map(\.rule.comment) == (0..<3000).map { "rule \($0)" })
        }
    }

    @Test("a table that libnftables makes is understood, what we do not write included")
    func foreignTable() throws {
        let namespace = try NetworkNamespace.make()
        let table = try namespace.run { () -> Nftables.Table? in
            let context = try #require(nft_ctx_new(UInt32(NFT_CTX_DEFAULT)))
            defer { nft_ctx_free(context) }
            let text = """
                add table inet t
                add chain inet t c { type nat hook prerouting priority -100; }
                add rule inet t c ip daddr 10.0.0.1 tcp dport 80 counter redirect to :8080 comment "web"
                add rule inet t c limit rate 5/second return
                """
            #expect(nft_run_cmd_from_buffer(context, text) == 0)
            var nftables = try NftablesSocket()
            return try nftables.table("t")
        }
        let chain = try #require(table?.chains.first)
        #expect(chain.base == .init(.nat, .prerouting, priority: -100))
        #expect(chain.rules.first?.comment == "web")
        #expect(chain.rules.first?.expressions.contains(.redirect) == true)
        #expect(chain.rules.first?.expressions.contains(.compare(.equal, [10, 0, 0, 1])) == true)
        #expect(chain.rules.last?.expressions.last == .verdict(.returning))
        guard case .other("limit", _) = chain.rules.last?.expressions.first else {
            Issue.record("the limit is lost")
            return
        }
    }

    @Test("sockets are listed with state, ends and mark", arguments: IPAddress.Family.allCases)
    func sockets(family: IPAddress.Family) throws {
        let namespace = try NetworkNamespace.make()
        let loopback: IPAddress = family == .v4 ? .loopbackV4 : .loopbackV6
        let (listener, client) = try namespace.run { () throws -> (CInt, CInt) in
            var routes = try RouteSocket()
            try routes.setUp(1)
            let listener = try Sockets.tcp(dualStack: family == .v6)
            try Sockets.bind(listener.raw, to: Endpoint(loopback, 7777), dualStack: family == .v6)
            try Sockets.listen(listener.raw, backlog: 4)
            let client = try Sockets.tcp(dualStack: family == .v6)
            try Sockets.setMark(client.raw, 0x539)
            _ = try Sockets.connect(client.raw, to: Endpoint(loopback, 7777), dualStack: family == .v6)
            return (listener.release(), client.release())
        }
        defer {
            close(listener)
            close(client)
        }
        try namespace.run {
            var diagnostics = try SocketDiagnostics()
            let listening = try diagnostics.tcpSockets(in: [.listening])
            #expect(listening.map(\.local) == [Endpoint(loopback, 7777)])
            let open = try diagnostics.tcpSockets(in: [.established])
            #expect(open.count == 2)
            let ours = try #require(open.first { $0.remote.port == 7777 })
            #expect(ours.mark == 0x539 && ours.inode != 0 && ours.local.address == loopback)
            #expect(try diagnostics.tcpSockets(in: [.timeWait]).isEmpty)
            #expect(try diagnostics.listenersAlone() == nil)
        }
    }

    @Test("a namespace with listeners alone is told from one with a connection", arguments: IPAddress.Family.allCases)
    func listenersAlone(family: IPAddress.Family) throws {
        let namespace = try NetworkNamespace.make()
        let loopback: IPAddress = family == .v4 ? .loopbackV4 : .loopbackV6
        try namespace.run {
            var routes = try RouteSocket()
            try routes.setUp(1)
            var diagnostics = try SocketDiagnostics()
            #expect(try diagnostics.listenersAlone() == [])
            let listener = try Sockets.tcp(dualStack: family == .v6)
            try Sockets.bind(listener.raw, to: Endpoint(loopback, 7777), dualStack: family == .v6)
            try Sockets.listen(listener.raw, backlog: 4)
            #expect(try diagnostics.listenersAlone()?.map(\.local) == [Endpoint(loopback, 7777)])
            do {
                let client = try Sockets.tcp(dualStack: family == .v6)
                _ = try Sockets.connect(client.raw, to: Endpoint(loopback, 7777), dualStack: family == .v6)
                #expect(try diagnostics.listenersAlone() == nil)
            }
            // The client's end is closed, the one that nobody has accepted is not.
            #expect(try diagnostics.listenersAlone() == nil)
        }
    }

    @Test(
        "the kernel's counters of sockets are read",
        arguments: [
            (
                "sockets: used 26\nTCP: inuse 3 orphan 0 tw 2 alloc 106 mem 25\nUDP: inuse 9 mem 0\n",
                "TCP6: inuse 4\nUDP6: inuse 1\n", 7, 2
            ),
            ("TCP: inuse 1 orphan 0 tw 0 alloc 1 mem 0\n", "", 1, 0),
        ])
    func counters(four: String, six: String, inUse: Int, finished: Int) {
        #expect(SocketCounts(four: four, six: six) == SocketCounts(inUse: inUse, finished: finished))
    }

    @Test(
        "counters that are not there are none",
        arguments: ["", "TCP:", "TCP: inuse", "TCP: inuse x tw 0", "UDP: inuse 1 tw 0"])
    func noCounters(four: String) {
        #expect(SocketCounts(four: four, six: "TCP6: inuse 4\n") == nil)
    }
}
