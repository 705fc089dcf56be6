import Glibc
import LinuxNetwork
import Netlink
import Testing

@Suite("A transaction that something is in the way of", .serialized)
struct BusyTransactionTests {
    /// A chain that cannot be deleted while another one jumps to it.
    private static func prepare(_ namespace: borrowing NetworkNamespace) throws {
        try namespace.run {
            var nftables = try NftablesSocket()
            var batch = Nftables.Batch()
            batch.addTable("t")
            batch.addChain(Nftables.Chain("target"), table: "t")
            batch.addChain(Nftables.Chain("user"), table: "t")
            batch.addRule(Nftables.Rule([.verdict(.jump("target"))]), chain: "user", table: "t")
            try nftables.commit(batch)
        }
    }

    private static func deletion() -> Nftables.Batch {
        var batch = Nftables.Batch()
        batch.deleteChain("target", table: "t")
        return batch
    }

    @Test("is tried again until it is out of the way")
    func passes() throws {
        let namespace = try NetworkNamespace.make()
        try Self.prepare(namespace)
        let other = try namespace.duplicate()
        let thread = try EventLoopThread<Void>(name: "neighbour") { _ in }
        defer { thread.stop() }
        let neighbour = SharedSocket(other)
        thread.submit { _ in
            // By then the first attempt has failed: it is made at once.
            poll(nil, 0, 10)
            neighbour.release()
        }
        try namespace.run {
            var nftables = try NftablesSocket()
            try nftables.commit(Self.deletion())
            #expect(try nftables.chains(of: "t").map(\.name) == ["user"])
        }
    }

    @Test("is given up after a bounded time, with what the kernel says, and the next one works")
    func isGivenUp() throws {
        let namespace = try NetworkNamespace.make()
        try Self.prepare(namespace)
        try namespace.run {
            var nftables = try NftablesSocket()
            let begun = ContinuousClock.now
            do throws(NetlinkError) {
                try nftables.commit(Self.deletion())
                Issue.record("the chain is in use")
            } catch {
                #expect(error.code == EBUSY)
                #expect(error.operation.contains("target"))
            }
            #expect(ContinuousClock.now - begun < .seconds(2))
            var batch = Nftables.Batch()
            batch.removeTable("t")
            try nftables.commit(batch)
            #expect(try nftables.tables().isEmpty)
        }
    }

    /// The neighbour, on its own thread.
    private final class SharedSocket: Sendable {
        private let namespace: NetworkNamespace

        init(_ namespace: consuming NetworkNamespace) { self.namespace = namespace }

        func release() {
            do {
                try namespace.run {
                    var nftables = try NftablesSocket()
                    var batch = Nftables.Batch()
                    batch.flush(table: "t", chain: "user")
                    try nftables.commit(batch)
                }
            } catch {
                Issue.record("the neighbour has failed: \(error)")
            }
        }
    }
}
