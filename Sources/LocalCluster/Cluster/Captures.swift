import LinuxNetwork
import Redirection

/// What Apus puts into a pod's namespace, taken out again without an agent.
enum Captures {
    /// Removes rules, routes and settings. Where there are none this does nothing.
    static func remove(fromNamespace path: String) throws {
        try NftablesBackend().remove(in: NetworkNamespace(path: path))
    }
}
