import Foundation
import LinuxNetwork
import Redirection
import Testing

/// The examples of docs/redirection.md are run, so that they stay true.
@Suite("docs/redirection.md", .serialized)
struct ManualTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()

    /// The text of the page's fenced block in a language.
    private static func block(_ language: String) throws -> String {
        let page = try String(contentsOf: root.appending(path: "docs/redirection.md"), encoding: .utf8)
        let start = try #require(page.range(of: "```\(language)\n"))
        let rest = page[start.upperBound...]
        return String(rest[..<(try #require(rest.range(of: "```"))).lowerBound])
    }

    @Test("its commands do what it says")
    func commands() throws {
        let name = "apus-manual-\(getpid())"
        let script = try Self.block("sh").replacing("example", with: name)
        defer {
            // Gone already when the script came to its end.
            _ = try? ApusProgram(program: "/usr/bin/env", ["ip", "netns", "delete", name])
        }
        let path = "\(try ApusProgram.folder()):\(ProcessInfo.processInfo.environment["PATH"] ?? "/usr/sbin:/usr/bin")"
        let run = try ApusProgram(program: "/bin/sh", ["-eu", "-c", script], environment: ["PATH": path])
        #expect(run.status == 0, "\(run.errors)")
        #expect(run.output.contains("table inet apus"))
        #expect(run.output.contains("chain nat-output lacks the rule \"apus 2: capture outbound\""))
        #expect(!FileManager.default.fileExists(atPath: "/run/netns/\(name)"))
    }

    @Test("the modules it names are in the product it names")
    func product() throws {
        let manifest = try String(contentsOf: Self.root.appending(path: "Package.swift"), encoding: .utf8)
        let found = manifest.firstMatch(of: /\.library\(name: "Redirection", targets: \[([^\]]*)\]\)/)
        let targets = try #require(found).1.split(separator: ", ").map { $0.trimmingPrefix("\"").dropLast() }
        let page = try String(contentsOf: Self.root.appending(path: "docs/redirection.md"), encoding: .utf8)
        for module in ["Redirection", "LinuxNetwork", "Addressing"] {
            #expect(targets.contains { $0 == module })
            #expect(page.contains("`\(module)`"))
        }
    }

    @Test("its code is this file's, and captures")
    func code() async throws {
        let here = try String(contentsOf: URL(fileURLWithPath: #filePath), encoding: .utf8)
        let lines = try Self.block("swift").split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
        let own = here.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
        #expect(own.joined(separator: "\n").contains(lines.joined(separator: "\n")))
        let differences = try await onThread { () -> [Drift] in
            let network = try Network()
            return try capture("/proc/\(getpid())/fd/\(network.pod.raw)")
        }
        #expect(differences.isEmpty)
    }
}

/// Captures what a namespace sends and receives, and says what differs from that. Blocks.
private func capture(_ path: String) throws -> [Drift] {
    let namespace = try NetworkNamespace(path: path)
    let plan = RedirectionPlan(families: try RedirectionPlan.families(in: namespace), capturesDNS: true)
    let backend = NftablesBackend()
    try backend.apply(plan, in: namespace)
    return try backend.verify(plan, .capturing, in: namespace)
}
