import Glibc

/// Where a node's container runtime looks for CNI configuration and plugins, and how Apus takes its place there.
public struct NodePlatform: Hashable, Sendable {
    /// How the plugin gets into the chain.
    public enum Mode: String, Hashable, Sendable, CaseIterable {
        /// A list of Apus's own that sorts before the primary's and follows it: the primary may rewrite its file at boot
        /// without a pod slipping past the mesh.
        case owned
        /// An entry in the primary's own list.
        case chained
        /// A configuration that multus finds by its network's name, `apus-cni`.
        case multus
    }

    /// For logs: `k3s`, `OpenShift`, ...
    public let name: String
    public let configurationFolder: String
    public let pluginFolder: String
    public let mode: Mode

    public static let standard = NodePlatform(
        name: "standard", configurationFolder: "/etc/cni/net.d", pluginFolder: "/opt/cni/bin", mode: .owned)

    /// Tells the platform from the folders that it alone has.
    /// - Parameter root: What stands for `/`.
    public static func detect(root: String = "") -> NodePlatform {
        func isFolder(_ path: String) -> Bool {
            var info = stat()
            return stat(root + path, &info) == 0 && info.st_mode & S_IFMT == S_IFDIR
        }
        func platform(_ name: String, _ configuration: String, _ plugins: String, _ mode: Mode) -> NodePlatform {
            NodePlatform(
                name: name, configurationFolder: root + configuration, pluginFolder: root + plugins, mode: mode)
        }
        let k3s = "/var/lib/rancher/k3s"
        let microK8s = "/var/snap/microk8s/current"
        if isFolder("/etc/cni/multus/net.d"), isFolder("/var/lib/cni/bin") {
            return platform("OpenShift", "/etc/cni/multus/net.d", "/var/lib/cni/bin", .multus)
        }
        if isFolder("\(microK8s)/args/cni-network") {
            return platform("MicroK8s", "\(microK8s)/args/cni-network", "\(microK8s)/opt/cni/bin", .owned)
        }
        if isFolder("\(k3s)/agent/etc/cni/net.d") {
            // Older releases have their plugins in a folder that changes with every release, behind a link.
            let plugins = isFolder("\(k3s)/data/cni") ? "\(k3s)/data/cni" : "\(k3s)/data/current/bin"
            return platform("k3s", "\(k3s)/agent/etc/cni/net.d", plugins, .owned)
        }
        if isFolder("/home/kubernetes/bin") {
            return platform("GKE", "/etc/cni/net.d", "/home/kubernetes/bin", .owned)
        }
        let usual = standard
        return platform(usual.name, usual.configurationFolder, usual.pluginFolder, usual.mode)
    }
}

/// What is to be put in place, and where.
public struct InstallerConfiguration: Hashable, Sendable {
    public var platform: String
    public var configurationFolder: String
    public var pluginFolder: String
    public var mode: NodePlatform.Mode
    /// The `apus-cni` that is copied.
    public var pluginSource: String
    /// What the plugin is told: where the agent is, and whom it never takes in.
    public var agentSocket: String
    public var exemptNamespaces: [String]
    /// Where libcni remembers which pods were attached, and with which list.
    public var attachmentCache = "/var/lib/cni/results"
    /// How often all is looked at, however quiet the folders are.
    public var interval = Duration.seconds(30)
    /// How long the folders must be quiet after a change before it is looked at.
    public var settle = Duration.milliseconds(100)
    /// How many times what others have changed is put back within ``window``; beyond that it is a conflict.
    public var rewriteLimit = 5
    public var window = Duration.seconds(60)
    /// How long a conflict is left alone at first, and at the longest.
    public var truce = Duration.seconds(60)
    public var longestTruce = Duration.seconds(600)

    public init(
        _ platform: NodePlatform, pluginSource: String, agentSocket: String, exemptNamespaces: Set<String>
    ) {
        self.platform = platform.name
        configurationFolder = platform.configurationFolder
        pluginFolder = platform.pluginFolder
        mode = platform.mode
        self.pluginSource = pluginSource
        self.agentSocket = agentSocket
        self.exemptNamespaces = exemptNamespaces.sorted()
    }

    static let pluginName = "apus-cni"
    public var pluginPath: String { "\(pluginFolder)/\(Self.pluginName)" }
}
