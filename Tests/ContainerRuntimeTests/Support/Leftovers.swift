import Foundation
import Glibc
import LinuxNetwork
import Testing

@testable import LocalCluster

/// What pods that are gone must not have left on the runtime's node.
enum Leftovers {
    /// Looks in every place that a pod's start writes to.
    static func expectNone(in cluster: RuntimeCluster) async throws {
        #expect(try await cluster.client.sandboxes().map(\.id) == [])
        #expect(Files.names(in: cluster.runtime.namespaces) == [], "network namespaces")
        #expect(Files.names(in: cluster.runtime.attachments) == [], "results kept by libcni")
        #expect(try links(of: cluster.node) == ["cni0", "lo", LocalNode.uplink], "interfaces on the node")
        #expect(leases(on: cluster.node) == [], "host-local's leases")
        #expect(Files.names(in: "\(cluster.node.folder)/pods") == [], "the agent's records")
    }

    /// The names of the node's interfaces.
    static func links(of node: LocalNode) throws -> [String] {
        struct Link: Decodable { let ifname: String }
        let text = try Command.run("ip", "-json", "link", "show", in: node.namespace)
        return try JSONDecoder().decode([Link].self, from: Data(text.utf8)).map(\.ifname).sorted()
    }

    /// host-local keeps one file for every address it has given away, named by the address.
    private static func leases(on node: LocalNode) -> [String] {
        let folder = "\(node.folder)/ipam"
        return Files.names(in: folder).flatMap { Files.names(in: "\(folder)/\($0)") }
            .filter { $0 != "lock" && !$0.hasPrefix("last_reserved_ip") }
    }
}

/// How many descriptors the mesh's processes on a node hold: sockets and network namespaces of pods are held by these
/// alone, so pods that are gone must not show here.
struct NodeDescriptors {
    private let node: LocalNode
    private let counts: [LocalNode.Role: [Int]]

    init(_ node: LocalNode) throws {
        self.node = node
        counts = try Self.count(node)
    }

    /// Waits until the processes of the roles hold no more than they held before: what is drained goes with a delay.
    func expectNoMore(_ roles: LocalNode.Role...) throws {
        for role in roles.isEmpty ? LocalNode.Role.allCases : roles {
            // ztunnel's connection to the certificate authority is made for the first pod, and rests for a while.
            let limits = (counts[role] ?? []).map { role == .ztunnel ? $0 + 1 : $0 }
            var now: [Int] = []
            try Waiting.untilTrue(
                "\(role.rawValue) to hold at most \(limits) descriptors again", within: .seconds(20),
                detail: { "it holds \(now)" }
            ) {
                now = try Self.count(node)[role] ?? []
                return now.count == limits.count && zip(now, limits).allSatisfy { $0 <= $1 }
            }
        }
    }

    private static func count(_ node: LocalNode) throws -> [LocalNode.Role: [Int]] {
        var counts: [LocalNode.Role: [Int]] = [:]
        for role in LocalNode.Role.allCases {
            counts[role] = node.processes(role).map { Files.names(in: "/proc/\($0.pid)/fd").count }
        }
        return counts
    }
}
