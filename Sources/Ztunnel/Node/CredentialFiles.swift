import Glibc
import Identity
import LinuxNetwork

/// The files that ztunnel goes to its control plane with: its token, and the roots it believes.
public enum CredentialFiles {
    /// Waits until they are there, for as long as it takes them to be put there by whoever started ztunnel; an agent
    /// starts it before it has asked for the token, so that neither waits for the other.
    ///
    /// - Parameter limit: After this time it is the connection's turn to say what is missing.
    public static func wait(for configuration: ZtunnelConfiguration, limit: Duration = .seconds(30)) async {
        let files = paths(configuration)
        @Sendable func areThere() -> Bool { files.allSatisfy { access($0, R_OK) == 0 } }
        if areThere() { return }
        let folders = Set(files.map { file in file.lastIndex(of: "/").map { String(file[..<$0]) } ?? "." })
        let milliseconds = Int(limit / .milliseconds(1))
        await withCheckedContinuation { continuation in
            do {
                let thread = try startThread(name: "credentials") {
                    _ = FileWait.until(in: folders.sorted(), milliseconds: milliseconds, areThere)
                    continuation.resume()
                }
                pthread_detach(thread)
            } catch {
                // Then the connection tries, and tries again.
                continuation.resume()
            }
        }
    }

    /// Those that are files; either may be given as text as well.
    static func paths(_ configuration: ZtunnelConfiguration) -> Set<String> {
        var paths: Set<String> = []
        if case .file(let path) = ClientToken(configuration.token) { paths.insert(path) }
        for roots in [configuration.xdsRoots, configuration.caRoots] {
            if case .file(let path) = ServerRoots(roots) { paths.insert(path) }
        }
        return paths
    }
}
