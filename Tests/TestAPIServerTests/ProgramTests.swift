import Foundation
import Kubernetes
import TestSupport
import Testing

/// `test-apiserver`, which lies beside the tests once everything is built.
@Suite("The program")
struct ProgramTests {
    private func program() throws -> URL {
        let bundle = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        return URL(fileURLWithPath: bundle).deletingLastPathComponent().appending(path: "test-apiserver")
    }

    private func folder() throws -> URL {
        let folder = FileManager.default.temporaryDirectory.appending(path: "apus-server-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        return folder
    }

    @Test("it writes a kubeconfig that is its owner's alone, serves whom it lets in, and ends when it is asked to")
    func serves() async throws {
        let folder = try folder()
        defer { try? FileManager.default.removeItem(at: folder) }  // In the machine's temporary files otherwise.
        let config = folder.appending(path: "config").path
        let output = Pipe()
        let process = try Peer(
            [try program().path, "--kubeconfig", config, "--client-certificate"], output: .pipe(output))
        try await eventually("the kubeconfig is there") { FileManager.default.fileExists(atPath: config) }
        let attributes = try FileManager.default.attributesOfItem(atPath: config)
        #expect(attributes[.posixPermissions] as? Int == 0o600)
        let client = KubernetesClient(try Kubeconfig(path: config).configuration())
        try await eventually("it serves") { (try? await client.list(.namespaces))?.items.count == 4 }
        await client.close()
        process.signal(SIGTERM)
        try await eventually("it has ended") { !process.isRunning }
        #expect(process.status == 0)
        let said = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        #expect(said.hasPrefix("serving at https://127.0.0.1:"))
    }

    @Test(
        "what cannot be meant is refused by its option",
        arguments: [
            (["--port", "70000", "--kubeconfig", "c"], "--port"),
            (["--bookmarks", "1", "--kubeconfig", "c"], "--bookmarks"),
            ([], "--kubeconfig"), (["--kubeconfig", "/nonexistent/folder/config"], "--kubeconfig"),
        ] as [([String], String)])
    func options(arguments: [String], word: String) async throws {
        let run = try await Tools.run(try program().path, arguments)
        #expect(run.code != 0)
        #expect(run.errors.contains(word), "\(run.errors)")
    }
}
