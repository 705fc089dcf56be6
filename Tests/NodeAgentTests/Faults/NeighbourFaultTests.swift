import Glibc
import LinuxNetwork
import Netlink
import ObjectSource
import Redirection
import TestSupport
import Testing

@testable import NodeAgent

/// Damage to what others made for a pod: its sockets, its namespace, its programs.
@Suite("Sockets, namespaces and programs that go away", .serialized)
struct NeighbourFaultTests {
    private func enrolled(
        backend: any RedirectionBackend = NftablesBackend(),
        configure: (inout NodeAgentConfiguration) -> Void = { _ in }
    ) async throws -> (LiveNode, FakePod) {
        let node = try await LiveNode(backend: backend, configure: configure)
        node.source.setNamespace("shop", ambient: true)
        node.source.setPod("web", uid: "u-1")
        let pod = try FakePod()
        try #require(await node.call(.add, "c1", pod).code == 0)
        try await eventually("quiet") { await node.agent.isQuiet }
        return (node, pod)
    }

    @Test(
        "a listener that is closed under everybody is made again, by the real keeper", arguments: [15001, 15006, 15008])
    func listener(port: UInt16) async throws {
        let (node, pod) = try await enrolled { $0.verifyInterval = .milliseconds(200) }
        let keeper = try #require(node.pid(of: NodePrograms.keeperName))
        try await eventually("proven") { await node.agent.managedPods().first?.isProven == true }
        let before = try DescriptorCensus(of: keeper)
        try pod.namespace.value.run {
            var diagnostics = try SocketDiagnostics()
            for socket in try diagnostics.tcpSockets(in: [.listening]) where socket.local.port == port {
                try diagnostics.destroy(socket)
            }
        }
        try await eventually("it listens again") { try await node.isWhole(pod) }
        try await eventually("proven") { await node.agent.managedPods().first?.isProven == true }
        try await eventually("the keeper holds what it held") { try DescriptorCensus(of: keeper) == before }
        #expect(await node.call(.check, "c1", pod).code == 0)
        try await node.stop()
    }

    @Test("a sandbox that is made again: the pod has its capture in the new namespace, and the old one is let go")
    func namespaceReplaced() async throws {
        let (node, first) = try await enrolled()
        let keeper = try #require(node.pid(of: NodePrograms.keeperName))
        let before = try DescriptorCensus(of: keeper)
        var old: FakePod? = first
        var container = 1
        for makesNewContainer in [true, false, true] {
            let new = try FakePod()
            if makesNewContainer { container += 1 }
            #expect(await node.call(.add, "c\(container)", new).code == 0)
            try await eventually("whole in the new namespace") { try await node.isWhole(new) }
            if let old {
                #expect(try !old.hasCapture())
                #expect(try ParallelCallTests.listeningPorts(old).isEmpty)
            }
            // The old sandbox's DEL comes late.
            if makesNewContainer { #expect(await node.call(.delete, "c\(container - 1)", old).code == 0) }
            #expect(try await node.isWhole(new))
            #expect(await node.agent.managedPods().count == 1)
            old = new
        }
        try await eventually("the keeper holds one pod's descriptors") { try DescriptorCensus(of: keeper) == before }
        #expect(await node.call(.delete, "c\(container)", old).code == 0)
        old = nil
        try await node.stop()
    }

    @Test("a program that is detached, or its place with it, is back within a second", arguments: [false, true])
    func programDetached(withPlace: Bool) async throws {
        let (node, pod) = try await enrolled(backend: try EbpfBackend())
        let link = try await Self.link(pod)
        let backend = try EbpfBackend()
        let plan = RedirectionPlan(
            families: try RedirectionPlan.families(in: pod.namespace.value), dropsUncaptured: true, requiresSeal: true)
        try await eventually("the link is covered", within: .seconds(2)) {
            try backend.verify(plan, .capturing, in: pod.namespace.value).isEmpty
        }
        let before = Self.repairedPrograms(node)
        try pod.namespace.value.run {
            var routes = try RouteSocket()
            guard !withPlace else { return try routes.deleteClsact(link) }
            for filter in try routes.filters(link, .egress).classifiers { try routes.delete(filter) }
        }
        // Detached or attached again by now; that it was the former the figure below tells.
        try await eventually("attached again", within: .seconds(1)) {
            try backend.verify(plan, .capturing, in: pod.namespace.value).isEmpty
        }
        try await eventually("counted") { Self.repairedPrograms(node) > before }
        #expect(await node.call(.delete, "c1", pod).code == 0)
        try await node.stop()
    }

    private static func repairedPrograms(_ node: LiveNode) -> Int {
        let line = node.registry.exposition().split(separator: "\n").first {
            $0.hasPrefix("apus_agent_drift_repairs_total{reason=\"program\"}")
        }
        return line?.split(separator: " ").last.flatMap { Int($0) } ?? 0
    }

    /// Gives the pod an interface beside lo.
    private static func link(_ pod: FakePod) async throws -> UInt32 {
        try pod.namespace.value.run {
            var routes = try RouteSocket()
            try routes.createBridge("eth0")
            let link = try #require(try routes.link(named: "eth0"))
            try routes.setUp(link.index)
            return link.index
        }
    }
}
