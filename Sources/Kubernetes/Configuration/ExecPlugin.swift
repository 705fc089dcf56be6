import Dispatch
import Foundation
import ObjectSource
import Synchronization

/// A program that is asked for credentials (`client.authentication.k8s.io/v1`), as clouds have them.
public struct ExecPlugin: Sendable, Hashable {
    static let apiVersions = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"]
    static let maximumAnswer = 1 << 20

    public var command: String
    public var arguments: [String]
    public var environment: [String: String]
    public var apiVersion: String
    /// What to tell who does not have the program.
    public var installHint: String
    /// How long it may take.
    public var timeout: Duration

    public init(
        command: String, arguments: [String] = [], environment: [String: String] = [:],
        apiVersion: String = "client.authentication.k8s.io/v1", installHint: String = "",
        timeout: Duration = .seconds(30)
    ) {
        self.command = command
        self.arguments = arguments
        self.environment = environment
        self.apiVersion = apiVersion
        self.installHint = installHint
        self.timeout = timeout
    }

    func run() async throws(KubernetesError) -> PluginCredential {
        let output: [UInt8]
        do {
            output = try await Task.detachedOnQueue { try execute() }
        } catch {
            throw KubernetesError(error, doing: "run \(command)")
        }
        return try PluginCredential(output, of: self)
    }

    /// Blocks, for ``timeout`` at the longest.
    private func execute() throws -> [UInt8] {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["--", command] + arguments
        var variables = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        variables["KUBERNETES_EXEC_INFO"] = String(
            decoding: JSON.object([
                "apiVersion": .string(apiVersion), "kind": "ExecCredential", "spec": ["interactive": false],
            ]).bytes, as: UTF8.self)
        process.environment = variables
        let (output, complaints) = (Pipe(), Pipe())
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        process.standardError = complaints
        do {
            try process.run()
        } catch {
            throw KubernetesError(
                .credentials, "cannot run \(command)", cause: error.localizedDescription, hint: installHint)
        }
        let (answer, words) = (Gathered(output, limit: Self.maximumAnswer), Gathered(complaints, limit: 4096))
        let deadline = DispatchTime.now() + .milliseconds(Int(timeout / .milliseconds(1)))
        guard answer.wait(until: deadline), Self.ends(process, by: deadline) else {
            process.terminate()
            throw KubernetesError(
                .credentials, "\(command) gave no credentials in time", cause: "not within \(timeout)")
        }
        guard process.terminationStatus == 0 else {
            _ = words.wait(until: .now() + .milliseconds(100))
            throw KubernetesError(
                .credentials, "\(command) ended with status \(process.terminationStatus)",
                cause: String(decoding: words.bytes, as: UTF8.self).trimmed, hint: installHint)
        }
        return answer.bytes
    }

    private static func ends(_ process: Process, by deadline: DispatchTime) -> Bool {
        let ended = DispatchSemaphore(value: 0)
        DispatchQueue.global().async {
            process.waitUntilExit()
            ended.signal()
        }
        return ended.wait(timeout: deadline) == .success
    }
}

/// What comes out of a pipe until its end, read as it comes so that the writer is never held up.
private final class Gathered: Sendable {
    private let content = Mutex<[UInt8]>([])
    private let ended = DispatchSemaphore(value: 0)

    init(_ pipe: Pipe, limit: Int) {
        let (file, content, ended) = (pipe.fileHandleForReading, Box(self), ended)
        DispatchQueue.global().async {
            while true {
                let data = file.availableData
                if data.isEmpty { break }
                content.value?.content.withLock { $0 += data.prefix(max(0, limit - $0.count)) }
            }
            ended.signal()
        }
    }

    /// Lets the reader go on draining for a program that outlives its use.
    private final class Box: @unchecked Sendable {
        // Weak references are safe to read from any thread.
        weak var value: Gathered?
        init(_ value: Gathered) { self.value = value }
    }

    var bytes: [UInt8] { content.withLock { $0 } }
    func wait(until deadline: DispatchTime) -> Bool { ended.wait(timeout: deadline) == .success }
}

extension Task where Success == Never, Failure == Never {
    /// Runs what blocks where it holds up no other task.
    static func detachedOnQueue<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            DispatchQueue.global().async { continuation.resume(with: Result { try body() }) }
        }
    }
}

/// What a plugin gave.
struct PluginCredential: Sendable, Hashable {
    struct Certificate: Sendable, Hashable {
        var chain: String
        var key: String
    }

    var token: String?
    var certificate: Certificate?
    /// Seconds since 1970; `nil`: until it is refused.
    var expiry: Int64?

    /// Renewed this long before its end.
    static let margin: Int64 = 30

    var isGood: Bool { isGood(at: Int64(Date().timeIntervalSince1970)) }
    func isGood(at now: Int64) -> Bool { expiry.map { now < $0 - Self.margin } ?? true }

    init(_ output: [UInt8], of plugin: ExecPlugin) throws(KubernetesError) {
        func wrong(_ what: String) -> KubernetesError {
            KubernetesError(.credentials, "\(plugin.command) gave no credentials", cause: what)
        }
        let root: DocumentNode
        do throws(JSONProblem) {
            root = try DocumentTree(json: output).root
        } catch {
            throw wrong("\(error)")
        }
        guard root["kind"]?.string == "ExecCredential" else { throw wrong("its output is no ExecCredential") }
        guard root["apiVersion"]?.string == plugin.apiVersion else {
            throw wrong("apiVersion is \(root["apiVersion"]?.string ?? "missing"), not \(plugin.apiVersion)")
        }
        guard let status = root["status"] else { throw wrong("status is missing") }
        token = status["token"]?.string?.trimmed
        switch (status["clientCertificateData"]?.string, status["clientKeyData"]?.string) {
        case (let chain?, let key?): certificate = Certificate(chain: chain, key: key)
        case (nil, nil): break
        default: throw wrong("clientCertificateData and clientKeyData stand only together")
        }
        guard token?.isEmpty == false || certificate != nil else { throw wrong("neither a token nor a certificate") }
        if let text = status["expirationTimestamp"]?.string {
            guard let seconds = ObjectMeta.seconds(of: text) else {
                throw wrong("expirationTimestamp \"\(text.prefix(40))\" is no time")
            }
            expiry = seconds
        }
    }
}
