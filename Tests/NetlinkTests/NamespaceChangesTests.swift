import Addressing
import Glibc
import LinuxNetwork
import Testing

@testable import Netlink

@Suite("Hearing of changes in other namespaces", .serialized)
struct NamespaceChangesTests {
    /// What is heard within a moment.
    private static func heard(_ changes: borrowing NamespaceChanges) -> Set<NamespaceChanges.Place> {
        var entries = changes.descriptors.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        guard poll(&entries, nfds_t(entries.count), 200) > 0 else { return [] }
        return changes.take()
    }

    @Test("rules, routes, links and tables of a namespace that has a number are heard of, others' are not")
    func hears() throws {
        let pod = try NetworkNamespace.make()
        let stranger = try NetworkNamespace.make()
        let home = try NetworkNamespace.make()
        try home.run {
            let changes = try NamespaceChanges()
            var routes = try RouteSocket()
            let number = try routes.number(of: pod)
            #expect(try routes.number(of: pod) == number)
            _ = changes.take()

            try pod.run {
                var routes = try RouteSocket()
                try routes.setUp(1)
            }
            #expect(Self.heard(changes) == [.namespace(number)])
            try pod.run {
                var routes = try RouteSocket()
                try routes.add(PolicyRule(.v4, priority: 7, mark: 1, mask: 1, table: 100))
            }
            #expect(Self.heard(changes) == [.namespace(number)])
            try pod.run {
                var nftables = try NftablesSocket()
                var batch = Nftables.Batch()
                batch.addTable("test", comment: nil)
                try nftables.commit(batch)
            }
            #expect(Self.heard(changes) == [.namespace(number)])
            try stranger.run {
                var routes = try RouteSocket()
                try routes.setUp(1)
            }
            #expect(Self.heard(changes).isEmpty)
            try routes.setUp(1)
            #expect(Self.heard(changes) == [.own])
        }
    }

    @Test("more than the sockets hold is told as anywhere")
    func overflow() throws {
        let pod = try NetworkNamespace.make()
        let home = try NetworkNamespace.make()
        try home.run {
            let changes = try NamespaceChanges()
            var smallest: CInt = 0
            for descriptor in changes.descriptors {
                setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &smallest, socklen_t(MemoryLayout<CInt>.size))
            }
            var routes = try RouteSocket()
            _ = try routes.number(of: pod)
            try pod.run {
                var routes = try RouteSocket()
                for priority in UInt32(1)...200 {
                    try routes.add(PolicyRule(.v4, priority: priority, mark: 1, mask: 1, table: 100))
                }
            }
            #expect(Self.heard(changes).contains(.anywhere))
        }
    }
}
