import ArgumentParser
import Foundation
import NodeAgent

/// The agent's options for its place in the container runtime's configuration.
struct InstallerOptions: ParsableArguments {
    @Flag(help: "Put the CNI plugin and its place in the runtime's configuration in place, and keep them there.")
    var install = false

    @Flag(help: "Take the CNI plugin out of the runtime's configuration again, then end. Needs no other option.")
    var uninstall = false

    @Option(help: "With --install: owned (a list that sorts before the primary's), chained, multus or auto.")
    var cniMode = "auto"

    @Option(help: "The runtime's folder of CNI configurations. (default: as the platform has it)")
    var cniConfDir: String?

    @Option(help: "The runtime's folder of CNI plugins. (default: as the platform has it)")
    var cniBinDir: String?

    func validate() throws {
        guard !install || !uninstall else { throw ValidationError("--install and --uninstall exclude each other") }
        guard cniMode == "auto" || NodePlatform.Mode(rawValue: cniMode) != nil else {
            throw ValidationError("--cni-mode \(cniMode): expected owned, chained, multus or auto")
        }
        for (name, path) in [("--cni-conf-dir", cniConfDir), ("--cni-bin-dir", cniBinDir)] {
            guard path?.hasPrefix("/") != false else { throw ValidationError("\(name): expected an absolute path") }
        }
    }

    /// What is given, and for the rest what the platform has.
    func configuration(agentSocket: String, exemptNamespaces: String) throws -> InstallerConfiguration {
        let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        let plugin = URL(fileURLWithPath: own).deletingLastPathComponent().path + "/apus-cni"
        var result = InstallerConfiguration(
            NodePlatform.detect(), pluginSource: plugin, agentSocket: agentSocket,
            exemptNamespaces: Set(exemptNamespaces.split(separator: ",").map(String.init)))
        if let mode = NodePlatform.Mode(rawValue: cniMode) { result.mode = mode }
        if let cniConfDir { result.configurationFolder = cniConfDir }
        if let cniBinDir { result.pluginFolder = cniBinDir }
        return result
    }
}
