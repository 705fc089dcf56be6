import Foundation
import Testing

@testable import LocalCluster

/// Whole meshes on this machine, with the programs of this build. As root; one after another, since each wants the
/// machine for itself.
@Suite("End to end", .serialized)
enum EndToEnd {}

/// A mesh with the pods of `examples/shop`, for the time of one test.
enum TestMesh {
    static func repository(_ path: String) -> String {
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent(path).path
    }

    /// Other programs than those built beside the tests: `APUS_TEST_PROGRAMS=.build/release` shows a release build.
    static let programsFolder = ProcessInfo.processInfo.environment["APUS_TEST_PROGRAMS"].map {
        URL(fileURLWithPath: $0, relativeTo: URL(fileURLWithPath: repository("."))).standardizedFileURL.path
    }

    static func programs() throws -> Programs {
        if let programsFolder { try Programs(folder: programsFolder) } else { try Programs() }
    }

    /// Builds it, runs `body`, takes it down, and sees to it that nothing is left.
    /// - Parameter enrolled: whether the namespace is labelled and the wire has shown it before `body` begins.
    static func run(enrolled: Bool = true, _ body: (Stage) throws -> Void) throws {
        let cluster = try LocalCluster(.init(kind: .test, programs: programs()))
        do {
            try cluster.source.copy(from: repository("examples/shop"))
            try cluster.up()
            try cluster.startPods()
            let stage = try Stage(cluster)
            try Waiting.untilTrue("the server to answer", within: .seconds(20)) {
                // It is refused until the server listens.
                (try? stage.driver.get(stage.http(), path: "/ready").status) == 200
            }
            if enrolled { try stage.enrol() }
            try body(stage)
        } catch {
            let words = cluster.nodes.map { "node \($0.name):\n  \($0.lastWords())" }.joined(separator: "\n")
            // The first error is the one to tell.
            try? cluster.down()
            throw Failure(error: error, logs: words)
        }
        try cluster.down()
        #expect(cluster.layout.existingNamespaces() == [])
        #expect(!FileManager.default.fileExists(atPath: cluster.layout.folder))
        let left = RunRecord.all().filter { $0.layout == cluster.layout }
        #expect(left.isEmpty)
    }

    /// An error with what the nodes' programs said last.
    struct Failure: Error, CustomStringConvertible {
        let error: any Error
        let logs: String
        var description: String { "\(error)\n\(logs)" }
    }
}

extension Stage {
    /// How many descriptors each process of the nodes has open, by node and role.
    func descriptors() -> [String: Int] {
        var counts: [String: Int] = [:]
        for node in cluster.nodes {
            for role in LocalNode.Role.allCases {
                for process in node.processes(role) {
                    counts["\(node.name) \(role.rawValue)"] = Files.names(in: "/proc/\(process.pid)/fd").count
                }
            }
        }
        return counts
    }

    /// Waits until no process has more descriptors than it had; fewer is the stock's business.
    func expectNoDescriptorsLeft(since before: [String: Int], within timeout: Duration = .seconds(20)) throws {
        var grown: [String] = []
        try Waiting.untilTrue(
            "descriptors to be closed", within: timeout, every: .milliseconds(200),
            detail: { grown.joined(separator: ", ") }
        ) {
            let now = descriptors()
            grown = before.compactMap { name, count in
                // A listener's accept queue, a log being turned: a few come and go.
                now[name, default: 0] > count + 4 ? "\(name): \(count) -> \(now[name, default: 0])" : nil
            }
            return grown.isEmpty
        }
    }

    /// A request through the tunnel works.
    func expectServed() throws {
        let observed = try observedGet()
        #expect(observed.answer.status == 200)
        #expect(observed.inClear == 0)
        #expect(observed.traffic.bytes(port: Stage.hbonePort) > 0)
    }
}
