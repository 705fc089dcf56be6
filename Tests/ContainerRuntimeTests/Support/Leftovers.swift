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
    }

    private static func links(of node: LocalNode) throws -> [String] {
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
