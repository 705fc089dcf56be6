import LinuxNetwork
import Redirection

/// What Apus puts into a pod's namespace, taken out again without an agent.
enum Captures {
    /// Removes rules, routes and settings. Where there are none this does nothing.
    static func remove(fromNamespace path: String) throws {
        let namespace = try NetworkNamespace(path: path)
        // Programs are taken off without loading any; a kernel that cannot load them has none.
        try EbpfBackend.removeAttached(in: namespace)
        try NftablesBackend().remove(in: namespace)
    }
}
