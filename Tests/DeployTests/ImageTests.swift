import Foundation
import Testing

/// What can be known of the image without building it.
@Suite("Image")
struct ImageTests {
    private static func lines() throws -> [String] {
        try Chart.file("deploy/Containerfile").split(separator: "\n").map(String.init)
    }

    @Test func itHoldsEveryProgramThatAContainerStarts() throws {
        let text = try Self.lines().joined(separator: "\n")
        let installed = try #require(text.firstMatch(of: /for program in ([a-z -]+);/)).output.1.split(separator: " ")
        let pods = try Chart.render().map { $0["spec", "template", "spec", "containers"].items }.joined()
        let started = Set(pods.compactMap { $0["command"].texts.first })
        #expect(started == ["/usr/local/bin/apus", "/usr/local/bin/apus-sockets"])
        // The agent copies the plugin from beside itself.
        for program in ["apus", "apus-cni", "apus-sockets"] { #expect(installed.contains(Substring(program))) }
        let manifest = try Chart.file("Package.swift")
        for program in installed { #expect(manifest.contains(".executable(name: \"\(program)\"")) }
    }

    @Test func everyArgumentIsExplained() throws {
        let lines = try Self.lines()
        let arguments = lines.filter { $0.hasPrefix("ARG ") }
            .compactMap { $0.dropFirst(4).split(separator: "=", omittingEmptySubsequences: false).first }
        #expect(arguments.count == 3)
        for argument in arguments { #expect(lines.contains { $0.hasPrefix("#   \(argument) ") }, "\(argument)") }
    }

    @Test func itRunsAsNobodyWithPowers() throws {
        let lines = try Self.lines()
        #expect(lines.last { $0.hasPrefix("USER ") } == "USER 15000:15000")
        #expect(lines.count { $0.hasPrefix("FROM ") } == 2)
    }
}
