import Testing

@testable import LocalCluster

extension EndToEnd {
    /// The programs die, the data path goes on or waits, and never bypasses.
    @Suite("Deaths", .serialized)
    struct DeathTests {
        /// New connections a second: what debug builds bear beside their tests. Release builds
        /// (``TestMesh/programs()``) bear the thousand that is promised.
        static let rate = TestMesh.programsFolder == nil ? 300 : 1000

        @Test func withoutAnAgentForTenSecondsNoNewConnectionFails() throws {
            try TestMesh.run { stage in
                try stage.driver.startLoad(stage.echo(), perSecond: Self.rate, for: .seconds(12))
                Waiting.pause(.seconds(1))
                for node in stage.cluster.nodes { try stage.kill(.agent, on: node) }
                let report = try stage.driver.awaitLoad(within: .seconds(40))
                #expect(report.count(.served) == report.samples.count)
                #expect(report.samples.count >= Self.rate * 12)
                // A new agent finds the pods as they are.
                for node in stage.cluster.nodes { try stage.cluster.startAgent(node) }
                for node in stage.cluster.nodes { try stage.cluster.waitForNode(node) }
                try stage.expectServed()
                #expect(try stage.client.kernelState().parts["listeners"]?.contains(":3A99") == true)
                try stage.unenrol()
            }
        }

        @Test("ztunnel is killed: connections begun after it are served within two seconds", arguments: ["n1", "n2"])
        func ztunnel(node name: String) throws {
            try TestMesh.run { stage in
                let node = try stage.cluster.node(name)
                try stage.driver.startLoad(stage.echo(), perSecond: Self.rate, for: .seconds(6))
                Waiting.pause(.seconds(2))
                let killed = try stage.kill(.ztunnel, on: node)
                let report = try stage.driver.awaitLoad(within: .seconds(40))
                let around = report.around(killed.kill)
                #expect(around.connectFailed == 0)
                #expect(around.beforeFailed == 0)
                #expect(around.afterFailed == 0)
                #expect(Duration.nanoseconds(Int64(around.afterSlowest)) <= .seconds(2))
                #expect(around.after >= Self.rate * 3)
                try stage.waitReplaced(killed.process, .ztunnel, on: node)
                try stage.expectServed()
            }
        }

        @Test func withoutKeeperAndZtunnelNothingPassesInClear() throws {
            try TestMesh.run { stage in
                let node = stage.client.node
                // The agent first: it would start the others again.
                try stage.kill(.agent, on: node)
                try stage.kill(.sockets, on: node)
                try stage.kill(.ztunnel, on: node)
                let capture = try stage.capture()
                #expect(throws: LocalClusterError.self) {
                    try stage.driver.get(stage.http(), path: "/in-the-dark", within: .seconds(2))
                }
                #expect(try capture.stop().occurrences(of: "in-the-dark") == 0)
                try stage.cluster.startAgent(node)
                try stage.cluster.waitForNode(node)
                try stage.waitOnWire(tunnelled: true)
            }
        }

        @Test(
            "the keeper is killed: no connection is refused or lost, and new pods are served", arguments: ["n1", "n2"])
        func keeper(node name: String) throws {
            try TestMesh.run { stage in
                let node = try stage.cluster.node(name)
                try stage.driver.open("old", to: stage.echo())
                try stage.driver.startLoad(stage.echo(), perSecond: Self.rate, for: .seconds(4))
                Waiting.pause(.seconds(1))
                let killed = try stage.kill(.sockets, on: node)
                try stage.waitReplaced(killed.process, .sockets, on: node)
                let report = try stage.driver.awaitLoad(within: .seconds(40))
                #expect(report.count(.served) == report.samples.count)
                #expect(report.samples.count >= Self.rate * 4)
                try stage.waitOnWire(tunnelled: true)
                // What is open goes on through the sockets that ztunnel has.
                #expect(try stage.driver.exchange("old", "still-here") == "still-here")
                let late = try stage.startGuest("late", on: node)
                #expect(try late.client().get(stage.http(), path: "/late", within: .seconds(10)).status == 200)
            }
        }

        @Test func aKeeperThatIsTakenOverFromIsNotMissed() throws {
            try TestMesh.run { stage in
                let node = stage.client.node
                try stage.driver.open("old", to: stage.echo())
                try stage.driver.startLoad(stage.echo(), perSecond: Self.rate, for: .seconds(4))
                Waiting.pause(.seconds(1))
                let old = try #require(node.processes(.sockets).last)
                try stage.takeOver(on: node)
                try stage.waitReplaced(old, .sockets, on: node)
                try Waiting.untilTrue("the old keeper to end", within: .seconds(10)) { !old.isAlive }
                let report = try stage.driver.awaitLoad(within: .seconds(40))
                #expect(report.count(.served) == report.samples.count)
                #expect(report.samples.count >= Self.rate * 4)
                #expect(try stage.driver.exchange("old", "still-here") == "still-here")
                let late = try stage.startGuest("later", on: node)
                #expect(try late.client().get(stage.http(), path: "/late", within: .seconds(10)).status == 200)
            }
        }

        @Test func withoutAControllerTheLastStateHolds() throws {
            try TestMesh.run { stage in
                let controller = try #require(stage.cluster.process("controller"))
                controller.terminate()
                try stage.expectServed()
                try stage.cluster.startController()
                try stage.unenrol()
            }
        }

        @Test func aPodThatEndsLeavesNothingOnItsNode() throws {
            try TestMesh.run { stage in
                let before = stage.descriptors()
                for round in 1...3 {
                    let pod = try stage.startGuest("guest-\(round)", on: stage.client.node)
                    #expect(try pod.client().get(stage.http(), path: "/guest", within: .seconds(10)).status == 200)
                    try stage.endGuest(pod)
                }
                try stage.expectNoDescriptorsLeft(since: before)
            }
        }
    }
}
