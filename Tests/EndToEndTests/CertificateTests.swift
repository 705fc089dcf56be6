import Foundation
import Testing

@testable import LocalCluster

extension EndToEnd {
    /// Certificates of whole nodes, as ztunnel itself reports them.
    @Suite("Certificates", .serialized)
    struct CertificateTests {
        private static let guest = "spiffe://cluster.local/ns/shop/sa/client"

        /// The states of a node's certificates by identity.
        private func states(_ node: LocalNode) throws -> [String: String] {
            guard let answer = try HTTPProbe.get("127.0.0.1", port: 15000, path: "/config_dump", in: node.namespace),
                let document = try JSONSerialization.jsonObject(with: Data(answer.body.utf8)) as? [String: Any],
                let entries = document["certificates"] as? [[String: Any]]
            else { return [:] }
            var states: [String: String] = [:]
            for entry in entries {
                guard let identity = entry["identity"] as? String, let state = entry["state"] as? String else {
                    continue
                }
                let chain = entry["certChain"] as? [[String: String]] ?? []
                // Available means that there is something to show.
                states[identity] = state == "Available" && chain.allSatisfy { $0["pem"] == nil } ? "empty" : state
            }
            return states
        }

        @Test("test_prefetch_forget_certs")
        func testPrefetchForgetCerts() throws {
            try TestMesh.run { stage in
                let node = stage.server.node
                #expect(try states(node)["spiffe://cluster.local/ns/shop/sa/server"] == "Available")
                #expect(try states(node)[Self.guest] == nil)
                // A pod that has not said a word yet.
                let guest = try stage.startGuest("visitor", on: node)
                try Waiting.untilTrue("the guest's certificate to be fetched", within: .seconds(20)) {
                    try states(node)[Self.guest] == "Available"
                }
                try stage.endGuest(guest)
                try Waiting.untilTrue("the guest's certificate to be forgotten", within: .seconds(20)) {
                    try states(node)[Self.guest] == nil
                }
                #expect(try states(node)["spiffe://cluster.local/ns/shop/sa/server"] == "Available")
            }
        }
    }
}
