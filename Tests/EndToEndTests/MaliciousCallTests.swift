import Addressing
import Testing

@testable import LocalCluster

extension EndToEnd {
    /// Calls to ztunnel's own ports, to every address where they might be: nothing answers that is not meant to, nothing
    /// loops, and the mesh goes on.
    @Suite("Malicious calls", .serialized)
    struct MaliciousCallTests {
        private static let ports: [UInt16] = [15001, 15006, 15008, 15053, 15000, 15020, 15021]
        /// Metrics and readiness are for everybody who reaches the node.
        private static let open: Set<UInt16> = [15020, 15021]

        /// The anchor's `malicious_calls_inpod`: 35 rows.
        @Test func maliciousCallsInPod() throws {
            try TestMesh.run { stage in
                let before = stage.descriptors()
                let pod = try stage.client.address(.v4)
                let ztunnel = try #require(IPAddress(stage.client.node.address))
                // Outside of every pod, on the other node.
                let outside = stage.server.node.namespace
                var rows = 0
                for port in Self.ports {
                    for address in [pod, ztunnel, .loopbackV4] {
                        let answer = try? stage.driver.get(
                            Endpoint(address, port), path: "/healthz/ready", within: .seconds(2))
                        let expected = address == ztunnel && Self.open.contains(port)
                        #expect((answer != nil) == expected, "captured client to \(address):\(port)")
                        rows += 1
                    }
                    for address in [pod, ztunnel] {
                        let answer = try HTTPProbe.get("\(address)", port: port, path: "/healthz/ready", in: outside)
                        let expected = address == ztunnel && Self.open.contains(port)
                        #expect((answer != nil) == expected, "uncaptured client to \(address):\(port)")
                        rows += 1
                    }
                }
                #expect(rows == 35)
                try stage.expectServed()
                try stage.expectNoDescriptorsLeft(since: before)
            }
        }
    }

    /// Who is captured and who is not, on one node and on two, as in the anchor's matrix.
    @Suite("Capture matrix", .serialized)
    struct CaptureMatrixTests {
        @Test func localCapturedInPod() throws {
            try TestMesh.run { stage in
                let near = try stage.startGuest("near", on: stage.server.node)
                let answer = try near.client().get(stage.http(), path: "/near", within: .seconds(10))
                #expect(answer.status == 200)
                #expect(Stage.clientSeen(in: answer) == "\(try near.address(.v4))")
                try Waiting.untilTrue("a line of the access log from each side", within: .seconds(10)) {
                    let lines = stage.server.node.logLines(with: "src.workload=\"near\"")
                    return lines.contains { $0.contains("direction=\"outbound\"") }
                        && lines.contains { $0.contains("direction=\"inbound\"") && $0.contains("src.identity=") }
                }
            }
        }

        @Test func crossNodeCapturedInPod() throws {
            try TestMesh.run { stage in
                try stage.expectServed()
                #expect(!stage.client.node.logLines(with: "direction=\"outbound\"").isEmpty)
                #expect(!stage.server.node.logLines(with: "direction=\"inbound\"").isEmpty)
            }
        }

        @Test func clientUncapturedInPod() throws {
            try TestMesh.run { stage in
                // The node itself is no pod: plain text into a captured server.
                let status = try HTTPProbe.status(
                    of: "\(try stage.server.address(.v4))", port: Stage.httpPort, path: "/plain",
                    in: stage.client.node.namespace)
                #expect(status == 200)
                try Waiting.untilTrue("the line of the plain connection", within: .seconds(10)) {
                    stage.server.node.logLines(with: "direction=\"inbound\"").contains {
                        !$0.contains("src.identity=")
                    }
                }
            }
        }
    }
}
