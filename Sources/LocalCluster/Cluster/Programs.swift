import Foundation
import Glibc

/// The programs a cluster is made of.
public struct Programs: Sendable {
    public var apus: String
    /// The CNI plugin; its folder is searched for plugins first.
    public var plugin: String
    /// The keeper.
    public var sockets: String
    /// Folders with Debian's plugins, in order.
    public var pluginFolders: [String]

    /// The three programs in one folder, as a build leaves them.
    public init(folder: String) throws {
        apus = "\(folder)/apus"
        plugin = "\(folder)/apus-cni"
        sockets = "\(folder)/apus-sockets"
        for path in [apus, plugin, sockets] where access(path, X_OK) != 0 {
            throw LocalClusterError(.environment, "\(path) is missing", hint: "make build, or swift build")
        }
        pluginFolders = [folder, "/usr/lib/cni", "/opt/cni/bin"]
        for plugin in ["bridge", "host-local"] where Self.find(plugin, in: pluginFolders) == nil {
            throw LocalClusterError(
                .environment, "the CNI plugin \(plugin) is missing", hint: "apt-get install containernetworking-plugins"
            )
        }
    }

    /// Those beside the running program.
    public init() throws {
        let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        try self.init(folder: URL(fileURLWithPath: own).deletingLastPathComponent().path)
    }

    static func find(_ plugin: String, in folders: [String]) -> String? {
        folders.map { "\($0)/\(plugin)" }.first { access($0, X_OK) == 0 }
    }
}
