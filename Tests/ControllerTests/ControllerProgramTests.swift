import Foundation
import Kubernetes
import TestSupport
import Testing

@testable import Controller

/// `apus controller` as a program, on an API server.
@Suite("The controller's program", .serialized, .timeLimit(.minutes(2)))
struct ControllerProgramTests {
    private let program = [Places.products.appending(path: "apus").path, "controller"]

    @Test("by a kubeconfig: it serves, leads, and lets go of the lease when it is asked to end")
    func kubeconfig() async throws {
        let api = try await ClusterAPI()
        try await api.namespace("mesh")
        api.admit("t")
        let path = NSTemporaryDirectory() + "apus-kubeconfig-\(UUID().uuidString)"
        try """
        apiVersion: v1
        kind: Config
        current-context: test
        clusters: [{name: test, cluster: {server: "http://127.0.0.1:\(api.port)"}}]
        users: [{name: test, user: {token: t}}]
        contexts: [{name: test, context: {cluster: test, user: test}}]
        """.write(toFile: path, atomically: true, encoding: .utf8)
        defer { unlink(path) }
        let process = try Peer(
            program + ["--kubeconfig", path, "--namespace", "mesh", "--listen", "127.0.0.1:0"])
        try await eventually("the roots are published") { try await api.roots(in: "mesh") != nil }
        func holder() async throws -> String? {
            try await api.client.lease(ClusterControllerSettings.lease, namespace: "mesh")?.holder
        }
        #expect(try await holder()?.isEmpty == false)
        process.signal(SIGTERM)
        try await eventually("it has ended") { !process.isRunning }
        #expect(process.status == 0)
        #expect(try await holder()?.isEmpty == true)
    }

    @Test(
        "what cannot be meant is refused by its option",
        arguments: [
            (["--kubeconfig", "x", "--source", "y"], "--source"),
            (["--in-cluster", "--kubeconfig", "x"], "--kubeconfig"),
            (["--source", "a", "--status", "b"], "--state"), (["--in-cluster", "--jwks", "f"], "--token-issuer"),
            (["--in-cluster", "--token-issuer", "f"], "--jwks"), (["--context", "c"], "--context"),
            (["--in-cluster", "--trusted-node-accounts", "ztunnel"], "--trusted-node-accounts"),
            (["--source", "a", "--status", "b", "--state", "c", "--jwks", "d", "--token-issuer", "e"], "--jwks"),
            (["--in-cluster", "--token-audiences", " ,"], "--token-audiences"),
        ] as [([String], String)])
    func options(arguments: [String], word: String) throws {
        let (status, text) = try PeerRun.run(program + arguments)
        #expect(status == 64)
        #expect(text.contains(word), "\(text)")
    }
}
