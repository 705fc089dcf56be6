import CNI
import Foundation
import Glibc
import LinuxNetwork

/// Takes the plugin out of a node again, in the order that never keeps a pod from being deleted: its place in the
/// configuration first, and the program only when no running pod was attached with it, since a runtime that finds no
/// program for DEL keeps the pod for ever. Doing it again is no error. Blocks.
public struct CNIUninstaller: Sendable {
    /// What was done, for an operator.
    public struct Report: Equatable, Sendable {
        /// Files that were removed or, where others' plugins are in them, changed.
        public var changed: [String] = []
        /// Why the program is still there; `nil` when it is not.
        public var pluginKept: String?
    }

    private let configuration: InstallerConfiguration

    public init(_ configuration: InstallerConfiguration) { self.configuration = configuration }

    public func run() throws(AgentError) -> Report {
        var report = Report()
        let folder = NetworkFolder(path: configuration.configurationFolder)
        for name in NetworkFolder.ownedNames + [NetworkFolder.multusName] where try folder.remove(name) {
            report.changed.append("\(folder.path)/\(name)")
        }
        for file in try folder.read().files where file.list.plugins.contains(where: ChainEntry.isOurs) {
            guard file.list.hasForeignPlugins else {
                try folder.remove(file.name)
                report.changed.append("\(folder.path)/\(file.name)")
                continue
            }
            guard !file.isLink else {
                throw AgentError(
                    .file, "\(folder.path)/\(file.name) has an entry of apus-cni and is a symbolic link",
                    hint: "remove the entry by hand, then run this again")
            }
            try folder.write(ChainEntry.removed(from: file.list).bytes, as: file.name, mode: file.mode)
            report.changed.append("\(folder.path)/\(file.name)")
        }
        report.pluginKept = try attachedPods()
        if report.pluginKept == nil, try FileList.remove(configuration.pluginPath) {
            report.changed.append(configuration.pluginPath)
        }
        return report
    }

    /// Whether pods were attached with our plugin, by what libcni remembers of each for its DEL.
    private func attachedPods() throws(AgentError) -> String? {
        let folder = configuration.attachmentCache
        var attached = 0
        for name in try FileList.names(in: folder) {
            let path = "\(folder)/\(name)"
            do {
                guard let bytes = try AtomicFile.read(path, limit: 8 << 20) else { continue }
                guard case .object(let entry) = try JSONReader.read(bytes) else { continue }
                guard case .string(let text) = entry["config"], let config = Data(base64Encoded: text) else { continue }
                if try NetworkList(Array(config)).plugins.contains(where: ChainEntry.isOurs) { attached += 1 }
            } catch {
                // On doubt the program stays: it does no harm, and DEL without it does.
                return "\(path) cannot be read (\(error)), so a running pod may need it"
            }
        }
        return attached == 0 ? nil : "\(attached) running pods were attached with it; run this again when they are gone"
    }
}
