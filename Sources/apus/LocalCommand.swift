import ArgumentParser
import Foundation
import Glibc
import LocalCluster
import Redirection

/// `apus local`: namespaces of this machine as nodes and pods.
struct LocalCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "local", abstract: "Nodes and pods from this machine's network namespaces.",
        subcommands: [
            Attach.self, Exec.self, Label.self, List.self, SoakCommand.self, PodServerCommand.self,
            PodClientCommand.self,
        ])

    struct Attach: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "attach",
            abstract: "Put given namespaces into a mesh, each on a node of its own, until SIGTERM.")

        @Option(help: "NETNS=NAMESPACE/POD: a path or a name below /run/netns, and the pod it is to be. Repeatable.")
        var netns: [String]
        @Option(help: "Where logs and the access log stay; without it they go with the run.") var workDir: String?
        @Option(help: "ztunnel's worker threads on each node.") var workers = 1
        @Option(
            help: "What captures the namespaces' traffic: nftables, ebpf or auto; the agents' default unless given.")
        var redirection: RedirectionMode?
        @Option(
            help: """
                How the agents know ztunnel's sockets: sealed, or istio for the mark alone, by which the owner of the \
                namespaces can look past capture, as the benchmark does.
                """)
        var redirectionMark = "istio"

        func run() throws {
            let interrupts = Interrupts()
            clearAbandoned()
            let attachment = try Attachment(
                netns.map { try ForeignPod(argument: $0) }, workers: workers, redirection: redirection?.rawValue,
                redirectionMark: redirectionMark, logFolder: workDir.map { "\($0)/logs" })
            do { try attachment.up() } catch {
                complain("\(error)")
                try attachment.down()
                throw ExitCode(1)
            }
            print("attached; run \(attachment.layout.run)")
            fflush(nil)
            _ = interrupts.wait()
            try attachment.down()
        }
    }

    struct RunOption: ParsableArguments {
        @Option(help: "The run; the only one when there is one.") var run: String?

        func layout() throws -> RunLayout {
            if let run {
                guard let layout = RunLayout(run: run) else { throw ValidationError("\(run) is no id of a run") }
                return layout
            }
            let runs = RunRecord.all().map(\.layout)
            guard let only = runs.first, runs.count == 1 else {
                throw ValidationError(
                    runs.isEmpty
                        ? "nothing runs; `apus demo up` starts something"
                        : "say which with --run: \(runs.map(\.run).joined(separator: ", "))")
            }
            return only
        }
    }

    struct Exec: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "exec", abstract: "Run a command in the network namespace of a pod or a node.")

        @OptionGroup var chosen: RunOption
        @Argument(help: "NAMESPACE/POD, or a node: n1, n2.") var place: String
        @Argument(parsing: .postTerminator, help: "The command, after --.") var command: [String]

        func run() throws {
            let layout = try chosen.layout()
            let parts = place.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
            let namespace: String
            if parts.count == 2 {
                namespace = layout.podNamespace(parts[0], parts[1])
            } else if let index = Int(place.dropFirst()), place.hasPrefix("n") {
                namespace = layout.nodeNamespace(index)
            } else {
                throw ValidationError("\(place) is neither NAMESPACE/POD nor a node")
            }
            throw ExitCode(try Foreground.run(command, inNamespace: RunLayout.namespacePath(namespace)))
        }
    }

    struct Label: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "label", abstract: "Set or, with KEY-, remove a label of a namespace.")

        @OptionGroup var chosen: RunOption
        @Argument(help: "The namespace.") var namespace: String
        @Argument(help: "KEY=VALUE or KEY-.") var label: String

        func run() throws {
            let source = SourceFolder(path: try chosen.layout().source)
            if let equals = label.firstIndex(of: "=") {
                try source.label(
                    namespace: namespace, String(label[..<equals]), String(label[label.index(after: equals)...]))
            } else if label.hasSuffix("-") {
                try source.label(namespace: namespace, String(label.dropLast()), nil)
            } else {
                throw ValidationError("\(label) is neither KEY=VALUE nor KEY-")
            }
        }
    }

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(commandName: "list", abstract: "List the runs on this machine.")

        func run() {
            for (layout, record) in RunRecord.all() {
                let state = record.map {
                    $0.isOwned ? "owned by process \($0.owner.pid)" : $0.stays ? "standing" : "abandoned"
                }
                print("\(layout.run)\t\(record?.kind.rawValue ?? "unknown")\t\(state ?? "abandoned")\t\(layout.folder)")
            }
        }
    }

    /// The demo's server. Hidden: it is a pod's command.
    struct PodServerCommand: ParsableCommand {
        static let configuration = CommandConfiguration(commandName: "pod-server", shouldDisplay: false)
        @Option var http: [UInt16] = []
        @Option var echo: [UInt16] = []

        func run() throws { try PodServer(httpPorts: http, echoPorts: echo).run() }
    }

    /// The demo's client. Hidden: it is a pod's command.
    struct PodClientCommand: ParsableCommand {
        static let configuration = CommandConfiguration(commandName: "pod-client", shouldDisplay: false)

        func run() throws {
            try PodClient().run(controlSocket: ProcessInfo.processInfo.environment[PodControl.environmentName])
        }
    }
}
