import CNI
import Foundation
import Glibc
import LinuxNetwork

/// One node of a local cluster: a namespace with an agent in it, which starts keeper and ztunnel.
public struct LocalNode: Sendable {
    public let index: Int
    public let name: String
    public let layout: RunLayout
    /// Where the logs of its processes and pods go.
    public let logs: String

    init(index: Int, layout: RunLayout, logs: String? = nil) {
        self.index = index
        let name = "n\(index)"
        self.name = name
        self.layout = layout
        self.logs = logs.map { "\($0)/\(name)" } ?? "\(layout.node(name))/logs"
    }

    public var folder: String { layout.node(name) }
    public var cniSocket: String { "\(folder)/cni.sock" }
    public var keeperSocket: String { "\(folder)/keeper.sock" }
    public var ztunnelSocket: String { "\(folder)/ztunnel/ztunnel.sock" }
    /// The control sockets of the pods' programs.
    var podFolder: String { "\(folder)/control" }

    public var namespaceName: String { layout.nodeNamespace(index) }
    public var namespace: String { RunLayout.namespacePath(namespaceName) }
    /// The node's address on the underlay.
    public var address: String { RunLayout.underlayV4(RunLayout.nodeHost(index)) }
    /// The interface to the other nodes.
    public static let uplink = "up0"
    /// The uid that ztunnel runs as.
    public static let ztunnelUser: UInt32 = 15000

    func makeFolders() throws {
        // Other users may pass through to ztunnel's own folder, and see nothing on the way.
        try Files.makeFolder(folder, mode: 0o711)
        try Files.makeFolder(logs)
        try Files.makeFolder(podFolder, mode: 0o700)
    }

    /// Debian's bridge and host-local speak up to CNI 1.0.0, so the list does.
    func configurationList(onlyPlugin: Bool) -> String {
        let plugin = """
            {"type": "apus-cni", "agentSocket": "\(cniSocket)", "exemptNamespaces": ["kube-system", "istio-system"]}
            """
        let bridge = """
            {"type": "bridge", "bridge": "cni0", "isGateway": true, "isDefaultGateway": true, "hairpinMode": true,
             "ipMasq": false, "ipam": {"type": "host-local", "dataDir": "\(folder)/ipam",
             "ranges": [[{"subnet": "\(RunLayout.podsV4(index))"}], [{"subnet": "\(RunLayout.podsV6(index))"}]]}}
            """
        let plugins = onlyPlugin ? [plugin] : [bridge, plugin]
        return
            "{\"cniVersion\": \"1.0.0\", \"name\": \"apus-\(name)\", \"plugins\": [\(plugins.joined(separator: ","))]}"
    }

    func containerNetwork(_ programs: Programs, onlyPlugin: Bool = false) throws -> ContainerNetwork {
        try ContainerNetwork(
            list: configurationList(onlyPlugin: onlyPlugin), pluginFolders: programs.pluginFolders,
            cache: "\(folder)/cni/results", namespace: namespace)
    }

    /// What the agent is started with.
    func agentArguments(_ configuration: LocalCluster.Configuration) -> [String] {
        let objects =
            configuration.kubeconfig.map { ["--kubeconfig", $0] }
            ?? ["--source", layout.source, "--status", layout.status]
        let tokens = configuration.controllerKubeconfig == nil ? ["--token-socket", layout.tokenSocket] : []
        return [configuration.programs.apus, "agent", "--node", name, "--run-dir", folder] + objects + tokens + [
            "--spawn", "--controller", layout.controllerURL, "--ztunnel-uid",
            "\(Self.ztunnelUser)", "--log-dir", logs, "--workers", "\(configuration.workers)",
        ]
    }

    // MARK: Its processes

    /// The part that a process plays on the node.
    public enum Role: String, Sendable, CaseIterable { case agent, sockets, ztunnel }

    /// The node's processes of one role, the oldest first.
    public func processes(_ role: Role) -> [ProcessIdentity] {
        var info = stat()
        guard stat(namespace, &info) == 0 else { return [] }
        let id = NamespaceID(device: UInt64(info.st_dev), inode: UInt64(info.st_ino))
        return ProcessIdentity.all(in: [id]).filter { process in
            let arguments = process.arguments
            guard let program = arguments.first?.split(separator: "/").last else { return false }
            switch role {
            case .sockets: return program == "apus-sockets"
            case .agent, .ztunnel: return program == "apus" && arguments.dropFirst().first == role.rawValue
            }
        }.sorted { $0.startTime < $1.startTime }
    }

    /// The last lines of the node's logs, for an error.
    public func lastWords(lines: Int = 8) -> String {
        Files.names(in: logs).map { name in
            let text = Files.text("\(logs)/\(name)") ?? ""
            return "\(name): " + text.split(separator: "\n").suffix(lines).joined(separator: "\n    ")
        }.joined(separator: "\n  ")
    }

    /// The lines in any of the node's logs that hold all of the texts.
    public func logLines(with texts: String...) -> [String] {
        Files.names(in: logs).flatMap { name in
            (Files.text("\(logs)/\(name)") ?? "").split(separator: "\n").map(String.init)
                .filter { line in texts.allSatisfy { line.contains($0) } }
        }
    }
}
