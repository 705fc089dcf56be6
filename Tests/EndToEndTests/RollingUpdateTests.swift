import Glibc
import Testing

@testable import LocalCluster

extension EndToEnd {
    /// The DaemonSet's rolling update, on a node under load: surge 1, unavailable 0.
    @Suite("Rolling update", .serialized)
    struct RollingUpdateTests {
        /// n1 is the client's node, n2 the server's: once the outgoing half is replaced, once the incoming one.
        @Test(arguments: ["n1", "n2"])
        func noConnectionIsRefusedWhileAllThreeProgramsAreReplaced(on name: String) throws {
            try TestMesh.run { stage in
                let node = try stage.cluster.node(name)
                var pod = try Self.moveIntoAPod(stage, node)
                let rate = DeathTests.rate / 3
                try stage.driver.startLoad(stage.echo(), perSecond: rate, for: .seconds(20))
                Waiting.pause(.seconds(1))
                for generation in 2...3 {
                    let old = "old-\(generation)"
                    try stage.driver.open(old, to: stage.echo())
                    let next = try ContainerPod(generation, on: node, of: stage.cluster)
                    try next.waitReady()
                    // The old keeper has nothing any more, and stays: ended, it would be started again and take all back.
                    #expect(pod.isWhole)
                    #expect(try !pod.isServing)
                    // What was open stays with the ztunnel that has it, until that one ends.
                    #expect(try stage.driver.exchange(old, "still-here") == "still-here")
                    #expect(pod.end().allSatisfy { $0.value == 0 }, "\(node.lastWords())")
                    #expect(try next.isReady)
                    pod = next
                }
                let report = try stage.driver.awaitLoad(within: .seconds(60))
                #expect(report.count(.served) == report.samples.count)
                #expect(report.samples.count >= rate * 20)
                #expect(node.logLines(with: "ermission denied") + node.logLines(with: "not permitted") == [])
                // The last one's agent, keeper and ztunnel take a pod in.
                try stage.cluster.waitForAgent(node)
                let late = try stage.startGuest("late", on: node)
                #expect(try late.client().get(stage.http(), path: "/late", within: .seconds(10)).status == 200)
                try stage.expectServed()
                #expect(pod.end().allSatisfy { $0.value == 0 }, "\(node.lastWords())")
                // So that the mesh can be taken down as it was put up.
                try stage.cluster.startAgent(node)
                try stage.cluster.waitForNode(node)
            }
        }

        /// The node as `--spawn` left it becomes a pod's: the same takeover, from programs without a container.
        private static func moveIntoAPod(_ stage: Stage, _ node: LocalNode) throws -> ContainerPod {
            let spawned = node.processes(.sockets) + node.processes(.ztunnel)
            stage.cluster.process("agent-\(node.name)")?.terminate()
            let pod = try ContainerPod(1, on: node, of: stage.cluster)
            try pod.waitReady()
            for process in spawned where process.isAlive { _ = process.signal(SIGTERM) }
            try Waiting.untilTrue("the spawned programs to end", within: .seconds(20)) {
                !spawned.contains { $0.isAlive }
            }
            try stage.expectServed()
            return pod
        }
    }
}
