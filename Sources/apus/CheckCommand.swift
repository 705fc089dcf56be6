import ArgumentParser
import Foundation
import LinuxNetwork
import NodeAgent
import ObjectSource
import Redirection

/// `apus check`: whether a node can capture, and which pods could get past it.
struct CheckCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Check this node's kernel, or the pods of a mesh.",
        usage: """
            apus check --node [--json]
            apus check --source DIR --status DIR [--node NAME] [--json]
            """,
        discussion: """
            With --node alone: what capture needs of this machine's kernel, each tried in a scratch network namespace; as \
            root. With --source: the containers of pods in the mesh that may set ztunnel's mark or take capture away. \
            Exit codes: 0 the node can capture, or the pods were read; 1 it cannot, or objects are wrong; 64 wrong \
            arguments.
            """)

    /// The text stands for the flag without a name.
    private static let here = ""

    @Option(
        defaultAsFlag: here,
        help: "Check this node's kernel; with --source, the name of the node whose pods are looked at.")
    var node: String?
    @Option(help: "Folder with the objects a user writes.") var source: String?
    @Option(help: "Folder with what nodes report.") var status: String?
    @Flag(help: "As JSON.") var json = false

    func validate() throws {
        guard source != nil || node == Self.here else {
            throw ValidationError(
                node == nil
                    ? "nothing to check: give --node, or --source and --status"
                    : "--node \(node ?? "") names a node of which pods? Give --source and --status, or --node alone")
        }
        guard source != nil || status == nil else { throw ValidationError("--status needs --source") }
        guard source == nil || node != Self.here else {
            throw ValidationError("with --source, --node needs the name of a node")
        }
    }

    func run() async throws {
        if let source { try checkPods(source) } else { try await checkNode() }
    }

    // MARK: The node

    private struct FeatureLine: Encodable {
        let name: String
        let minimumKernel: String
        let neededBy: [String]
        let isPresent: Bool
        let isRequired: Bool
        let detail: String
        /// Only where the feature is missing.
        let hint: String?
    }

    private func checkNode() async throws {
        let thread = try EventLoopThread<Void>(name: "check") { _ in }
        let found = await thread.perform { _ in NodeCheck.probe() } ?? []
        thread.stop()
        if json {
            let lines = found.map {
                FeatureLine(
                    name: $0.feature.name, minimumKernel: $0.feature.minimumKernel,
                    neededBy: $0.feature.neededBy.map(\.rawValue), isPresent: $0.feature.isPresent,
                    isRequired: $0.isRequired, detail: $0.feature.detail, hint: $0.feature.isPresent ? nil : $0.hint)
            }
            print(try prettyJSON(["features": lines]), terminator: "")
        } else {
            for entry in found {
                let feature = entry.feature
                let state = feature.isPresent ? "ok" : entry.isRequired ? "MISSING" : "absent"
                let backEnds = feature.neededBy.map(\.rawValue).joined(separator: " and ")
                print("\(state)\t\(feature.name) (Linux \(feature.minimumKernel), \(backEnds)): \(feature.detail)")
                if !feature.isPresent { print("\tto get it: \(entry.hint)") }
            }
        }
        if found.isEmpty || found.contains(where: { $0.isRequired && !$0.feature.isPresent }) { throw ExitCode(1) }
    }

    // MARK: Pods

    private struct PodLine: Encodable {
        let namespace: String
        let pod: String
        let container: String
        let powers: [String]
    }

    private func checkPods(_ source: String) throws {
        let objects: FolderObjectSource
        do {
            objects = try FolderObjectSource(source: source, status: status)
        } catch {
            complain("apus check: \(error)")
            throw ExitCode(1)
        }
        defer { objects.close() }
        let snapshot = objects.snapshot()
        let found = MarkingContainer.find(in: snapshot, node: node)
        if json {
            let lines = found.map {
                PodLine(
                    namespace: $0.pod.namespace, pod: $0.pod.name, container: $0.container,
                    powers: $0.powers.map(\.word))
            }
            print(try prettyJSON(["containers": lines]), terminator: "")
        } else {
            for entry in found {
                for power in entry.powers { print("\(entry.pod), container \(entry.container): \(power)") }
            }
            if found.isEmpty { print("no container of a pod in the mesh may set ztunnel's mark") }
        }
        // What a wrong object says is not in the answer, which must not pass for one.
        for problem in snapshot.problems { complain("apus check: \(problem)") }
        if !snapshot.problems.isEmpty { throw ExitCode(1) }
    }
}
