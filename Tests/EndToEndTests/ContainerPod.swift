import Foundation
import Glibc
import LinuxNetwork

@testable import LocalCluster

/// The chart's pod on a node of a local cluster: agent, keeper and ztunnel started apart, each with the capabilities, the
/// mounts and the arguments that its container has, and nobody to start them but this.
///
/// What differs: objects come from the cluster's folders, and the three share the node's network namespace, so that each
/// pod's ports are its own.
final class ContainerPod {
    let generation: Int
    let node: LocalNode
    private(set) var containers: [LocalNode.Role: ChildProcess] = [:]
    private let programs: Programs
    private let logs: String

    /// A container's capabilities, as deploy/helm/apus has them (`NodePodTests` holds them there).
    private static let capabilities: [LocalNode.Role: [String]] = [
        .agent: ["net_admin", "net_broadcast", "sys_admin", "sys_ptrace"],
        .sockets: ["chown", "dac_override", "net_admin", "sys_admin"], .ztunnel: [],
    ]

    init(_ generation: Int, on node: LocalNode, of cluster: LocalCluster) throws {
        self.generation = generation
        self.node = node
        programs = cluster.configuration.programs
        logs = node.logs
        try start(
            .sockets,
            [
                programs.sockets, "--run-dir", node.folder, "--ztunnel-uid", "\(LocalNode.ztunnelUser)", "--takeover",
                "--linger",
            ])
        try start(.ztunnel, [programs.apus, "ztunnel", "--successor"], ztunnelVariables(cluster.layout))
        try start(
            .agent,
            [
                programs.apus, "agent", "--node", node.name, "--run-dir", node.folder, "--source",
                cluster.layout.source,
                "--status", cluster.layout.status, "--host-proc", hostProc, "--standby", "--probe-exemption", "off",
                "--metrics-address", "127.0.0.1:\(port(14))",
            ])
    }

    deinit { for process in containers.values { process.terminate() } }

    private func port(_ number: Int) -> UInt16 { UInt16(16_000 + generation * 100 + number) }
    private var hostProc: String { "\(node.folder)/host-proc" }

    private func ztunnelVariables(_ layout: RunLayout) -> [String: String] {
        let folder = "\(node.folder)/ztunnel"
        return [
            "INPOD_UDS": "\(folder)/ztunnel.sock", "NODE_NAME": node.name, "AUTH_TOKEN": "\(folder)/token",
            "XDS_ADDRESS": layout.controllerURL, "CA_ADDRESS": layout.controllerURL,
            "XDS_ROOT_CA": "\(folder)/root-cert.pem",
            "CA_ROOT_CA": "\(folder)/root-cert.pem", "TERMINATION_GRACE_PERIOD_SECONDS": "5",
            "ZTUNNEL_WORKER_THREADS": "2", "APUS_ADMIN_ADDRESS": "127.0.0.1:\(port(0))",
            "APUS_STATS_ADDRESS": "127.0.0.1:\(port(20))", "APUS_READINESS_ADDRESS": "127.0.0.1:\(port(21))",
        ]
    }

    /// As a container runtime would: mounts of its own, /proc/sys read-only, capabilities bounded, ztunnel's user.
    private func start(
        _ role: LocalNode.Role, _ arguments: [String], _ variables: [String: String] = [:]
    ) throws {
        var bound = ["-all"]
        bound += Self.capabilities[role, default: []].map { "+\($0)" }
        var privileges = ["setpriv", "--bounding-set", bound.joined(separator: ","), "--inh-caps", "-all"]
        if role == .ztunnel {
            let user = "\(LocalNode.ztunnelUser)"
            privileges += ["--reuid", user, "--regid", user, "--clear-groups", "--no-new-privs"]
        }
        // The node is told from the container by its first process, in whose namespaces it is. The machine's may be out of
        // sight, so here it is the shell that starts the agent, in a process namespace that stands for the node's.
        var namespaces = ["/usr/bin/unshare", "--mount", "--propagation", "slave"]
        var script = ""
        if role == .agent {
            try FileManager.default.createDirectory(atPath: hostProc, withIntermediateDirectories: true)
            namespaces += ["--pid", "--fork", "--kill-child"]
            script = "mount -t proc proc \"$0\" && "
        }
        script += "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && "
        script += role == .agent ? "{ \"$@\" & wait $!; }" : "exec \"$@\""
        containers[role] = try ChildProcess.start(
            namespaces + ["/bin/sh", "-c", script, hostProc] + privileges + arguments,
            name: "\(role.rawValue)-\(generation)", environment: Launcher.environment(adding: variables),
            namespace: node.namespace, log: "\(logs)/\(role.rawValue)-\(generation).log")
    }

    /// The agent's own process: its container's first is the shell that stands for the node's.
    private var agent: ProcessIdentity? {
        node.processes(.agent).first { $0.arguments.contains("127.0.0.1:\(port(14))") }
    }

    // MARK: What Kubernetes asks

    /// As kubelet's probes have it: the keeper's at its start, the others' readiness.
    var isReady: Bool {
        get throws {
            guard isWhole, try isServing else { return false }
            for number in [14, 21] {
                let status = try? HTTPProbe.status(
                    of: "127.0.0.1", port: port(number), path: "/healthz/ready", in: node.namespace)
                guard status == 200 else { return false }
            }
            return true
        }
    }

    /// No container has ended, which would have it started again.
    var isWhole: Bool { containers.values.allSatisfy(\.isRunning) }

    /// What the keeper's startup probe says, in its container.
    var isServing: Bool {
        get throws {
            guard let keeper = containers[.sockets] else { return false }
            let probe = try ChildProcess.start(
                [
                    "/usr/bin/nsenter", "--mount=/proc/\(keeper.pid)/ns/mnt", programs.sockets, "--run-dir",
                    node.folder,
                    "--serving",
                ], name: "serving", environment: Launcher.environment(), namespace: nil, log: "/dev/null")
            return probe.wait(within: .seconds(5)) == 0
        }
    }

    func waitReady(within timeout: Duration = .seconds(30)) throws {
        try Waiting.untilTrue(
            "pod \(generation) to be ready", within: timeout, every: .milliseconds(100),
            detail: { node.lastWords(lines: 20) }
        ) { try isReady }
    }

    /// Ends it as kubelet does: SIGTERM to all containers at once, SIGKILL after the grace period.
    /// - Returns: How each ended: 0 when it did what it was told.
    func end(gracePeriod: Duration = .seconds(30)) -> [LocalNode.Role: Int32?] {
        for (role, process) in containers where role != .agent { process.signal(SIGTERM) }
        // One that has ended already shows in its code.
        _ = agent?.signal(SIGTERM)
        let deadline = ContinuousClock.now + gracePeriod
        var codes: [LocalNode.Role: Int32?] = [:]
        for (role, process) in containers {
            codes[role] = process.wait(within: max(.zero, deadline - .now))
            process.terminate(within: .zero)
        }
        containers = [:]
        return codes
    }
}
