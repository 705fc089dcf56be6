import Foundation
import Testing

@testable import LocalCluster

extension EndToEnd {
    /// Everything on the API server: agents, ztunnels and the controller, with certificates by TokenReview.
    @Suite("All of it on Kubernetes", .serialized)
    struct ControlPlaneTests {
        @Test func podsTalkMutualTLSByLabelPoliciesHoldAndTheAPIServerMayGo() async throws {
            try await KubernetesMesh.run(everything: true) { mesh, stage in
                let clear = try stage.observedGet()
                #expect(clear.inClear >= 2 && clear.traffic.bytes(port: Stage.hbonePort) == 0)
                try mesh.label()
                try stage.waitOnWire(tunnelled: true)
                let observed = try stage.observedGet(.v4, "secret")
                let tunnel = Stage.tunnelled(observed.traffic)
                #expect(observed.inClear == 0 && tunnel.records > 0 && tunnel.isPure)

                // A policy that names the client cuts it off, by the identity that its certificate shows.
                let deny = TestMesh.repository("examples/policies/deny-client.yaml")
                try mesh.kubectl("apply", "-f", deny)
                try Waiting.untilTrue("the client to be cut off, and the log to say why", within: .seconds(20)) {
                    let refused = (try? stage.driver.get(stage.http(), path: "/denied", within: .seconds(2))) == nil
                    return refused && !stage.server.node.logLines(with: "shop/deny-client").isEmpty
                }
                let line = try #require(stage.server.node.logLines(with: "shop/deny-client").last)
                #expect(line.contains("spiffe://cluster.local/ns/shop/sa/client"))
                try mesh.kubectl("delete", "-f", deny)
                try stage.waitOnWire(tunnelled: true)

                // From the client's node: plain text, as from outside the mesh.
                let (server, node) = ("\(try stage.server.address(.v4))", stage.client.node.namespace)
                func plain() throws -> Int? {
                    try HTTPProbe.status(of: server, port: Stage.httpPort, path: "/plain", in: node)
                }
                #expect(try plain() == 200)
                let strict = """
                    apiVersion: security.istio.io/v1
                    kind: PeerAuthentication
                    metadata: {name: strict, namespace: shop}
                    spec: {mtls: {mode: STRICT}}
                    """
                try mesh.kubectl("apply", "-f", "-", input: strict)
                try Waiting.untilTrue("plain text to be refused", within: .seconds(20)) { try plain() == nil }
                try stage.expectServed()

                // The API server goes and comes back: what is open goes on, what is new is served, STRICT holds.
                try stage.driver.open("old", to: stage.echo())
                #expect(try stage.driver.exchange("old", "before") == "before")
                await mesh.server.stop()
                #expect(try stage.driver.exchange("old", "without it") == "without it")
                try stage.expectServed()
                #expect(try plain() == nil)
                try await mesh.server.resume()
                #expect(try stage.driver.exchange("old", "with it again") == "with it again")
                try mesh.kubectl("delete", "-f", "-", input: strict)
                try Waiting.untilTrue("plain text to be taken again", within: .seconds(40)) { try plain() == 200 }
                #expect(try stage.driver.exchange("old", "after all") == "after all")
            }
        }
    }
}
