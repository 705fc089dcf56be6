import Foundation

@testable import LocalCluster

/// Envoy as a peer of another make, with a configuration of its own.
final class Envoy {
    private let process: ChildProcess
    private let namespace: String
    private let log: String
    private static let adminPort: UInt16 = 19000

    /// Envoy's program, which `scripts/envoy` finds or installs.
    /// - Throws: Where there is none. A test without it is a test that failed.
    static func program() throws -> String {
        var command = Command([TestMesh.repository("scripts/envoy")])
        command.timeout = .seconds(240)
        let result = try command.run()
        guard result.status == 0 else { throw command.failure(result) }
        return result.text.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// Starts it in a namespace and waits until it serves.
    /// - Parameter resources: listeners and clusters, as YAML below `static_resources`.
    init(_ name: String, in namespace: String, _ layout: RunLayout, resources: String) throws {
        self.namespace = namespace
        let folder = "\(layout.folder)/envoy-\(name)"
        try Files.makeFolder(folder, mode: 0o700)
        log = "\(folder)/log"
        try Files.replace(
            "\(folder)/envoy.yaml",
            with: """
                admin:
                  address: {socket_address: {address: 127.0.0.1, port_value: \(Self.adminPort)}}
                static_resources:
                \(resources.split(separator: "\n").map { "  \($0)" }.joined(separator: "\n"))
                """)
        process = try ChildProcess.start(
            [
                Self.program(), "-c", "\(folder)/envoy.yaml", "--concurrency", "1", "--disable-hot-restart",
                "--log-level", "info",
            ], name: "envoy \(name)", environment: Launcher.environment(), namespace: namespace, log: log)
        do {
            try Waiting.untilTrue("Envoy to serve", within: .seconds(30), detail: { self.lastWords }) {
                guard process.isRunning else {
                    throw LocalClusterError(.process, "Envoy ended at its start", hint: lastWords)
                }
                return try HTTPProbe.status(of: "127.0.0.1", port: Self.adminPort, path: "/ready", in: namespace) == 200
            }
        } catch {
            process.terminate()
            throw error
        }
    }

    deinit { process.terminate() }

    var lastWords: String { (Files.text(log) ?? "").split(separator: "\n").suffix(12).joined(separator: "\n") }

    /// The sum of its counters whose names end in that.
    func counter(_ suffix: String) throws -> Int {
        let answer = try HTTPProbe.get("127.0.0.1", port: Self.adminPort, path: "/stats?usedonly", in: namespace)
        guard let answer, answer.status == 200 else {
            throw LocalClusterError(.traffic, "Envoy's counters cannot be read", hint: lastWords)
        }
        return answer.body.split(separator: "\n").reduce(0) { sum, line in
            let sides = line.split(separator: ":")
            guard sides.count == 2, sides[0].hasSuffix(suffix) else { return sum }
            return sum + (Int(sides[1].trimmingCharacters(in: .whitespaces)) ?? 0)
        }
    }
}
