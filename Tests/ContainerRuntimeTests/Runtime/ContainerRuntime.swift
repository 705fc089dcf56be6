import Foundation
import Glibc
import LinuxNetwork

@testable import LocalCluster

/// A containerd of the test's own, on a node of a local cluster. Its root, state, mounts and processes are in namespaces
/// that end with it; what is left outside is in the run's folder.
final class ContainerRuntime: Sendable {
    let node: LocalNode
    private let folder: String
    private let lifeline: FileDescriptor
    private let process: ChildProcess

    /// containerd looks for these, and for what the list of plugins names.
    private static let plugins = ["bridge", "host-local", "loopback"]

    var socket: String { "\(folder)/containerd.sock" }
    private var log: String { "\(node.logs)/containerd.log" }
    /// The parent of every container's cgroup.
    var cgroup: String { "/\(Cgroups.name(of: node.layout.run))" }

    /// A command that runs another one where the sandboxes' network namespaces can be seen under the runtime's names.
    func neighbour() throws -> [String] {
        [try Launcher.find("nsenter"), "--mount=/proc/\(process.pid)/ns/mnt", "--"]
    }

    /// A path that containerd named, seen from here.
    func visible(_ path: String) -> String { "/proc/\(process.pid)/root\(path)" }

    /// The folder that the sandboxes' network namespaces are in.
    var namespaces: String { visible("\(folder)/private/state/io.containerd.grpc.v1.cri/netns") }
    /// Where libcni remembers what it has attached.
    var attachments: String { visible("/var/lib/cni/results") }

    /// What the node's agent is started with, beside what every node's is.
    let agentArguments: [String]
    /// Where containerd looks for lists of plugins; in it the one of the primary plugin alone, where the agent installs.
    var configurations: String { "\(folder)/net.d" }
    static let primary = "10-primary.conflist"

    /// Starts containerd in the node's network namespace, and gives it the images.
    /// - Parameter agentInstalls: whether the agent puts apus-cni in place, or it is there before.
    init(on node: LocalNode, programs: Programs, agentInstalls: Bool = false) throws {
        for program in ["containerd", "ctr", "runc", "gcc", "unshare", "nsenter"] { _ = try Launcher.find(program) }
        Cgroups.removeAbandoned()
        self.node = node
        folder = "\(node.folder)/runtime"
        for name in ["private", "bin", "net.d", "image"] { try Files.makeFolder("\(folder)/\(name)") }
        agentArguments =
            agentInstalls
            ? [
                "--install", "--cni-mode", "owned", "--cni-conf-dir", "\(folder)/net.d", "--cni-bin-dir",
                "\(folder)/bin",
            ] : []
        for plugin in Self.plugins + (agentInstalls ? [] : ["apus-cni"]) {
            guard let path = Programs.find(plugin, in: programs.pluginFolders) else {
                throw LocalClusterError(.environment, "the CNI plugin \(plugin) is missing", hint: "make deps")
            }
            try FileManager.default.createSymbolicLink(atPath: "\(folder)/bin/\(plugin)", withDestinationPath: path)
        }
        if agentInstalls {
            try Files.replace("\(folder)/net.d/\(Self.primary)", with: Self.primaryList(of: node, mtu: 1500))
        } else {
            try Files.replace("\(folder)/net.d/10-apus.conflist", with: node.configurationList(onlyPlugin: false))
        }
        try Files.replace("\(folder)/containerd.toml", with: Self.configuration(folder))
        let image = try RuntimeImage.build(in: "\(folder)/image")

        let fifo = "\(folder)/lifeline"
        try check("make \(fifo)") { mkfifo(fifo, 0o600) }
        // Both ends, so that opening it does not wait for the other side; the reader is there for its whole life.
        lifeline = try FileDescriptor.open(fifo, flags: O_RDWR | O_CLOEXEC)
        guard let script = Bundle.module.path(forResource: "containerd", ofType: "sh", inDirectory: "Resources") else {
            throw LocalClusterError(.environment, "the script that starts containerd is missing from the resources")
        }
        process = try ChildProcess.start(
            ["/bin/sh", script, "\(folder)/private", "\(folder)/containerd.toml", fifo], name: "containerd",
            environment: Launcher.environment(), namespace: node.namespace, log: "\(node.logs)/containerd.log")
        do {
            try Waiting.untilTrue("containerd to listen", within: .seconds(30), detail: { self.lastWords }) {
                if let status = process.wait(within: .zero) {
                    throw LocalClusterError(
                        .process, "containerd ended with status \(status)", hint: self.lastWords)
                }
                return access(socket, F_OK) == 0
            }
            var command = Command(["ctr", "--address", socket, "--namespace", "k8s.io", "images", "import"])
            command.arguments += ["--snapshotter", "native", image]
            command.timeout = .seconds(60)
            let result = try command.run()
            guard result.status == 0 else { throw command.failure(result) }
        } catch {
            stop()
            throw error
        }
    }

    deinit { stop() }

    /// Ends containerd and every container. Doing it again does nothing.
    func stop() {
        guard process.isRunning else { return }
        // The end of the shell that waits in the pid namespace takes all with it.
        var newline: UInt8 = 10
        _ = write(lifeline.raw, &newline, 1)
        if process.wait(within: .seconds(10)) == nil {
            process.signal(SIGKILL)
            _ = process.wait(within: .seconds(5))
        }
        Cgroups.remove(node.layout.run)
    }

    var lastWords: String {
        (Files.text(log) ?? "").split(separator: "\n").suffix(12).joined(separator: "\n    ")
    }

    /// The list as the primary plugin writes it, at boot and when its settings change.
    static func primaryList(of node: LocalNode, mtu: Int) throws -> String {
        let text = Data(node.configurationList(onlyPlugin: false).utf8)
        guard var list = try JSONSerialization.jsonObject(with: text) as? [String: Any],
            var bridge = (list["plugins"] as? [[String: Any]])?.first
        else { throw LocalClusterError(.environment, "the node's list of plugins is none") }
        bridge["mtu"] = mtu
        list["plugins"] = [bridge]
        return String(decoding: try JSONSerialization.data(withJSONObject: list), as: UTF8.self)
    }

    private static func configuration(_ folder: String) -> String {
        """
        version = 2
        root = "\(folder)/private/root"
        state = "\(folder)/private/state"
        disabled_plugins = [
            "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
            "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
            "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
            "io.containerd.snapshotter.v1.overlayfs",
        ]
        [grpc]
          address = "\(folder)/containerd.sock"
        [plugins."io.containerd.internal.v1.opt"]
          path = "\(folder)/private/opt"
        [plugins."io.containerd.grpc.v1.cri"]
          sandbox_image = "\(RuntimeImage.sandbox)"
          restrict_oom_score_adj = true
          netns_mounts_under_state_dir = true
          [plugins."io.containerd.grpc.v1.cri".cni]
            bin_dir = "\(folder)/bin"
            conf_dir = "\(folder)/net.d"
          [plugins."io.containerd.grpc.v1.cri".containerd]
            snapshotter = "native"

        """
    }
}
