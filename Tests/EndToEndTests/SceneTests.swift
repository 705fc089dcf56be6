import Addressing
import Testing

@testable import LocalCluster

extension EndToEnd {
    /// What the demo shows, each on a cluster of its own.
    @Suite("Scenes", .serialized)
    struct SceneTests {
        @Test func beforeTheLabelTrafficIsReadableOnTheWire() throws {
            try TestMesh.run(enrolled: false) { stage in
                let observed = try stage.observedGet()
                #expect(observed.inClear >= 2)
                #expect(observed.traffic.bytes(port: Stage.hbonePort) == 0)
                #expect(Stage.clientSeen(in: observed.answer) == "\(try stage.client.address(.v4))")
            }
        }

        @Test func afterTheLabelTheSameProcessesTalkMutualTLSAndOldConnectionsLive() throws {
            try TestMesh.run(enrolled: false) { stage in
                let processes = [stage.client, stage.server].map { $0.process?.identity }
                try stage.driver.open("old", to: stage.echo())
                #expect(try stage.driver.exchange("old", "before") == "before")
                try stage.enrol()
                var echoed = ""
                let observed = try stage.observedGet(.v4, "secret") {
                    echoed = try stage.driver.exchange("old", "after")
                }
                #expect(echoed == "after")
                let tunnel = Stage.tunnelled(observed.traffic)
                #expect(observed.inClear == 0)
                #expect(tunnel.records > 0)
                #expect(tunnel.isPure)
                // What carried the old connection's line is in clear, as it was before the label.
                #expect(observed.traffic.occurrences(of: "after") > 0)
                #expect(Stage.clientSeen(in: observed.answer) == "\(try stage.client.address(.v4))")
                #expect([stage.client, stage.server].map { $0.process?.identity } == processes)
                #expect(processes.allSatisfy { $0?.isAlive == true })
            }
        }

        @Test func ztunnelNeverTakesThePortOfAConnectionFromBeforeTheLabel() throws {
            try TestMesh.run(enrolled: false) { stage in
                try stage.driver.open("old", to: stage.echo())
                let traffic = try stage.capture()
                #expect(try stage.driver.exchange("old", "before") == "before")
                let seen = try #require(try traffic.stop().streams(toPort: Stage.echoPort).first)
                try stage.enrol()
                // The worst case: the kernel of the server's pod has no other port to give than the old connection's.
                let port = seen.direction.source.port
                try Underlay.set(
                    ["net/ipv4/ip_local_port_range": "\(port) \(port)"], in: stage.server.namespacePath)
                for number in 1...5 {
                    try stage.driver.open("new", to: stage.echo())
                    #expect(try stage.driver.exchange("new", "line \(number)") == "line \(number)")
                    #expect(try stage.driver.exchange("old", "still \(number)") == "still \(number)")
                }
            }
        }

        @Test func aLongAnswerAndAHalfCloseArriveWhole() throws {
            try TestMesh.run { stage in
                let answer = try stage.driver.get(stage.http(), path: "/bytes/1000000", within: .seconds(20))
                #expect(answer.status == 200)
                #expect(answer.body.utf8.count == 1_000_000)
            }
        }

        @Test func aServiceAddressLeadsToItsPod() throws {
            try TestMesh.run { stage in
                for address in ["10.96.0.10:80", "[fd00:96::10]:80"] {
                    let service = try #require(Endpoint(address))
                    let capture = try stage.capture()
                    let answer = try stage.driver.get(service, path: "/by-service")
                    let traffic = try capture.stop()
                    #expect(answer.status == 200)
                    #expect(traffic.occurrences(of: "/by-service") == 0)
                    #expect(traffic.bytes(port: Stage.hbonePort) > 0)
                }
            }
        }

        @Test func aDenyPolicyCutsTheClientOffIsNamedInTheLogAndCanBeTakenBack() throws {
            try TestMesh.run { stage in
                let policy = try #require(Files.text(TestMesh.repository("examples/policies/deny-client.yaml")))
                try stage.cluster.source.put("deny.yaml", policy)
                try Waiting.untilTrue("the client to be cut off, and the log to say why", within: .seconds(20)) {
                    let refused = (try? stage.driver.get(stage.http(), path: "/denied", within: .seconds(2))) == nil
                    return refused && !stage.server.node.logLines(with: "shop/deny-client").isEmpty
                }
                let line = try #require(stage.server.node.logLines(with: "shop/deny-client").last)
                #expect(line.contains("spiffe://cluster.local/ns/shop/sa/client"))
                try stage.cluster.source.remove("deny.yaml")
                try stage.waitOnWire(tunnelled: true)
            }
        }

        @Test func anAllowPolicyForSomebodyElseKeepsTheClientOut() throws {
            try TestMesh.run { stage in
                try stage.cluster.source.put(
                    "allow.yaml",
                    """
                    apiVersion: security.istio.io/v1
                    kind: AuthorizationPolicy
                    metadata: {name: only-others, namespace: shop}
                    spec:
                      selector: {matchLabels: {app: server}}
                      action: ALLOW
                      rules: [{from: [{source: {principals: ["cluster.local/ns/other/sa/other"]}}]}]
                    """)
                try Waiting.untilTrue("the client to be kept out", within: .seconds(20)) {
                    (try? stage.driver.get(stage.http(), path: "/kept-out", within: .seconds(2))) == nil
                }
            }
        }

        @Test func wrongYAMLIsNamedAndTheLastGoodStateHolds() throws {
            try TestMesh.run { stage in
                try stage.cluster.source.put(
                    "wrong.yaml",
                    """
                    apiVersion: security.istio.io/v1
                    kind: AuthorizationPolicy
                    metadata: {name: wrong, namespace: shop}
                    spec:
                      action: DENNY
                    """)
                try Waiting.untilTrue("the controller to name the file", within: .seconds(20)) {
                    let log = Files.text("\(stage.cluster.layout.logs)/controller.log") ?? ""
                    return log.contains("wrong.yaml") && log.contains("action")
                }
                try stage.expectServed()
            }
        }

        @Test func strictPeersRefusePlainTextAndPermissiveOnesTakeIt() throws {
            try TestMesh.run { stage in
                // From the client's node, not from a pod: plain text, as from outside the mesh.
                let server = "\(try stage.server.address(.v4))"
                let node = stage.client.node.namespace
                func plain() throws -> Int? {
                    try HTTPProbe.status(of: server, port: Stage.httpPort, path: "/plain", in: node)
                }
                #expect(try plain() == 200)
                try stage.cluster.source.put(
                    "strict.yaml",
                    """
                    apiVersion: security.istio.io/v1
                    kind: PeerAuthentication
                    metadata: {name: strict, namespace: shop}
                    spec: {mtls: {mode: STRICT}}
                    """)
                try Waiting.untilTrue("plain text to be refused", within: .seconds(20)) { try plain() == nil }
                try stage.expectServed()
                try stage.cluster.source.remove("strict.yaml")
                try Waiting.untilTrue("plain text to be taken again", within: .seconds(20)) { try plain() == 200 }
            }
        }

        @Test func afterTheLabelIsGoneNothingIsLeftInThePods() throws {
            try TestMesh.run(enrolled: false) { stage in
                try stage.driver.open("old", to: stage.echo())
                let pods = [stage.client, stage.server]
                let before = try pods.map { try $0.kernelState() }
                try stage.enrol()
                #expect(try !before[0].differences(to: pods[0].kernelState()).isEmpty)
                try stage.driver.open("captured", to: stage.echo())
                try stage.cluster.source.unenrol(namespace: Stage.namespace)
                try stage.cluster.waitReported(enrolled: false, pods)
                // A connection that was captured goes on through the tunnel; it ends when it is closed.
                #expect(try stage.driver.exchange("captured", "still there") == "still there")
                try stage.waitOnWire(tunnelled: false)
                #expect(try stage.driver.exchange("captured", "and now") == "and now")
                try stage.driver.close("captured")
                var left: [String] = []
                try Waiting.untilTrue(
                    "the pods to be as before", within: .seconds(10), detail: { left.joined(separator: "; ") }
                ) {
                    left = try zip(before, pods).flatMap { $0.differences(to: try $1.kernelState()) }
                    return left.isEmpty
                }
                #expect(try stage.driver.exchange("old", "from before") == "from before")
            }
        }

        @Test func aPodStartedInALabelledNamespaceNeverSpeaksInClear() throws {
            try TestMesh.run { stage in
                let capture = try stage.capture()
                let late = try stage.startGuest("late", on: stage.client.node)
                #expect(stage.cluster.reportedRedirection(late) == "enabled")
                let answer = try late.client().get(stage.http(), path: "/first-words", within: .seconds(10))
                let traffic = try capture.stop()
                #expect(answer.status == 200)
                #expect(traffic.occurrences(of: "first-words") == 0)
                try stage.endGuest(late)
            }
        }
    }
}
