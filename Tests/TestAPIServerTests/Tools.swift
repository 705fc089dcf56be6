import Foundation
import Kubernetes
import TestSupport
import Testing

@testable import TestAPIServer

/// Clients that were not written here, in the environment that scripts/deploy-python makes.
struct Tools {
    struct Run: Sendable {
        var code: Int32
        var output: String
        var errors: String
        var lines: [String] { output.split(separator: "\n").map(String.init) }
    }

    static let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// Of the Python, beside which the other programs are.
    private static let python = Task { () throws -> String in
        let run = try await Tools.run(
            repository.appending(path: "scripts/deploy-python").path, [], within: .seconds(660))
        guard run.code == 0 else { throw Unusable(description: run.errors) }
        return run.output.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    struct Unusable: Error, CustomStringConvertible { let description: String }

    static func program(_ name: String) async throws -> String {
        let python = URL(fileURLWithPath: try await python.value)
        return name == "python" ? python.path : python.deletingLastPathComponent().appending(path: name).path
    }

    /// Runs a program to its end, which comes by itself in time or is brought about.
    static func run(
        _ program: String, _ arguments: [String], input: String? = nil, home: String? = nil,
        within timeout: DispatchTimeInterval = .seconds(120)
    ) async throws -> Run {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        if let home { process.environment = ProcessInfo.processInfo.environment.merging(["HOME": home]) { $1 } }
        let folder = FileManager.default.temporaryDirectory.appending(path: "apus-tools-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }  // In the machine's temporary files otherwise.
        func open(_ name: String, _ text: String = "") throws -> FileHandle {
            let file = folder.appending(path: name)
            try Data(text.utf8).write(to: file)
            return try FileHandle(forUpdating: file)
        }
        process.standardInput = try open("in", input ?? "")
        (process.standardOutput, process.standardError) = (try open("out"), try open("err"))
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            process.terminationHandler = { _ in continuation.resume() }
            do { try process.run() } catch { continuation.resume(throwing: error) }
            let id = process.processIdentifier
            DispatchQueue.global().asyncAfter(deadline: .now() + timeout) { if process.isRunning { kill(id, SIGKILL) } }
        }
        func read(_ name: String) throws -> String {
            try String(contentsOf: folder.appending(path: name), encoding: .utf8)
        }
        return Run(code: process.terminationStatus, output: try read("out"), errors: try read("err"))
    }
}

/// kubectl with a server of its own.
final class Kubectl: Sendable {
    let server: TestAPIServer
    let folder: URL
    private let program: String

    init(_ change: (inout TestAPIServer.Settings) -> Void = { _ in }, user: TestAPIServer.KubeconfigUser = .admin)
        async throws
    {
        program = try await Tools.program("kubectl")
        var settings = TestAPIServer.Settings()
        change(&settings)
        server = try await TestAPIServer.start(settings)
        folder = FileManager.default.temporaryDirectory.appending(path: "apus-kubectl-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try write("config", server.kubeconfig(user))
        server.perform("POST", "/api/v1/namespaces", ["metadata": ["name": "shop"]])
    }

    deinit { try? FileManager.default.removeItem(at: folder) }  // In the machine's temporary files otherwise.

    @discardableResult
    func write(_ name: String, _ text: String) throws -> String {
        let file = folder.appending(path: name)
        try Data(text.utf8).write(to: file)
        return file.path
    }

    var arguments: [String] { ["--kubeconfig", folder.appending(path: "config").path] }

    /// Runs it; the discovery it caches is its own.
    func run(_ words: String..., input: String? = nil) async throws -> Tools.Run {
        try await run(words, input: input)
    }

    func run(_ words: [String], input: String? = nil) async throws -> Tools.Run {
        try await Tools.run(program, arguments + words, input: input, home: folder.path)
    }

    /// Runs what must succeed.
    func callAsFunction(
        _ words: String..., input: String? = nil, sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> Tools.Run {
        let run = try await run(words, input: input)
        #expect(run.code == 0, "kubectl \(words.joined(separator: " ")): \(run.errors)", sourceLocation: sourceLocation)
        return run
    }

    /// An object as it is stored.
    func stored(_ path: String) -> JSON { server.perform("GET", path).value }

    func createPod(_ name: String, labels: JSON = [:]) {
        let answer = server.perform(
            "POST", "/api/v1/namespaces/shop/pods",
            [
                "metadata": ["name": .string(name), "labels": labels],
                "spec": ["nodeName": "n1", "containers": [["name": "main", "image": "i:1"]]],
            ])
        #expect(answer.code == 201)
    }

    /// A kubectl that goes on until it is ended; its lines as they come.
    func start(_ words: String...) throws -> (process: Peer, output: () throws -> [String]) {
        let path = try write("out-\(UUID().uuidString)", "")
        let output = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        let process = try Peer(
            [program] + arguments + words, adding: ["HOME": folder.path], output: .file(output), errors: .file(output))
        return (process, { try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map(String.init) })
    }
}
