import Glibc
import LinuxNetwork

extension Program {
    /// Whether the keeper that serves is this container's own: what Kubernetes asks before it ends the old one. Containers
    /// of two pods share the run directory, so that someone answers there says little.
    /// - Returns: The exit code, 0 for yes.
    static func answerServing(_ arguments: Arguments) -> CInt {
        let directory = RunDirectory(path: arguments.runDirectory, ztunnelUID: arguments.ztunnelUID)
        do {
            guard let socket = try directory.connectToLiveKeeper() else {
                return say("no keeper serves at \(directory.keeperSocket)")
            }
            let peer = try socket.peerCredentials()
            // Another process namespace's processes have no number here (0).
            guard peer.pid > 0, let theirs = mounts(of: "\(peer.pid)"), theirs == mounts(of: "self") else {
                return say("the keeper at \(directory.keeperSocket) is another container's")
            }
            return 0
        } catch {
            return say("\(error)")
        }
    }

    /// The mount namespace of a process, which a container has for itself; `nil` when it may not be known.
    private static func mounts(of process: String) -> ino_t? {
        var info = stat()
        return stat("/proc/\(process)/ns/mnt", &info) == 0 ? info.st_ino : nil
    }

    private static func say(_ text: String) -> CInt {
        let line = Array("apus-sockets: \(text)\n".utf8)
        _ = line.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
        return 1
    }
}
