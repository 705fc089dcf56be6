import Glibc
import LinuxNetwork

/// The run directory and the two sockets in it, with the owners and permissions that keep others out.
struct RunDirectory {
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    let path: String
    let ztunnelUID: UInt32

    var keeperSocket: String { path + "/keeper.sock" }
    var ztunnelDirectory: String { path + "/ztunnel" }
    var ztunnelSocket: String { ztunnelDirectory + "/ztunnel.sock" }

    /// The way to the keeper that serves here; `nil` when there is none.
    func connectToLiveKeeper() throws(SystemError) -> SeqpacketSocket? {
        do {
            return try SeqpacketSocket.connect(path: keeperSocket)
        } catch {
            guard error.code == ENOENT || error.code == ECONNREFUSED else { throw error }
            return nil
        }
    }

    /// Makes the directory (0711: ztunnel's user passes through, and sees nothing) or looks whether it is fit.
    func prepare(_ log: Log) throws {
        if mkdir(path, 0o711) != 0, errno != EEXIST { throw SystemError("make \(path)") }
        let info = try Self.directory(path)
        guard info.st_uid == geteuid(), info.st_mode & 0o022 == 0 else {
            throw Failure(description: "\(path) must belong to root and be writable by nobody else")
        }
        if ztunnelUID != 0, info.st_mode & 0o001 == 0 {
            log.warn("users other than root cannot pass through the run directory", ["path": path])
        }
    }

    /// - Throws: When another keeper serves here.
    func refuseLiveKeepers() throws {
        for socket in [keeperSocket, ztunnelSocket] { try Self.refuseLiveKeeper(at: socket) }
    }

    func listenForAgent() throws -> SeqpacketSocket {
        try Self.removeStale(keeperSocket)
        return try SeqpacketSocket.listen(path: keeperSocket, mode: 0o600)
    }

    /// The directory belongs to ztunnel's user in the end, but to root while the socket is made: ztunnel cannot put
    /// anything in the place of what gets a new owner here.
    func listenForZtunnel() throws -> SeqpacketSocket {
        if mkdir(ztunnelDirectory, 0o700) != 0, errno != EEXIST { throw SystemError("make \(ztunnelDirectory)") }
        let directory = try FileDescriptor.open(ztunnelDirectory, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        try check("chown \(ztunnelDirectory)") { fchown(directory.raw, 0, 0) }
        try check("chmod \(ztunnelDirectory)") { fchmod(directory.raw, 0o700) }
        try Self.removeStale(ztunnelSocket)
        let socket = try SeqpacketSocket.listen(path: ztunnelSocket, mode: 0o600)
        try check("chown \(ztunnelSocket)") { lchown(ztunnelSocket, ztunnelUID, ztunnelUID) }
        try check("chown \(ztunnelDirectory)") { fchown(directory.raw, ztunnelUID, ztunnelUID) }
        return socket
    }

    /// At the end. What is not there any more is as good as removed.
    func removeSockets() {
        _ = unlink(keeperSocket)
        _ = unlink(ztunnelSocket)
    }

    private static func directory(_ path: String) throws -> stat {
        var info = stat()
        try check("look at \(path)") { lstat(path, &info) }
        guard info.st_mode & S_IFMT == S_IFDIR else { throw Failure(description: "\(path) is not a directory") }
        return info
    }

    /// A socket that a dead keeper left answers "connection refused"; anything else means that one is alive.
    private static func refuseLiveKeeper(at path: String) throws {
        do {
            _ = try SeqpacketSocket.connect(path: path)
        } catch {
            switch error.code {
            case ENOENT, ECONNREFUSED, ENOTDIR: return
            case EAGAIN: break
            default: throw error
            }
        }
        throw Failure(description: "another apus-sockets is alive: it answers at \(path)")
    }

    private static func removeStale(_ path: String) throws {
        var info = stat()
        guard lstat(path, &info) == 0 else { return }
        guard info.st_mode & S_IFMT == S_IFSOCK else {
            throw Failure(description: "\(path) exists and is not a socket; move it out of the way")
        }
        try check("remove the stale \(path)") { unlink(path) }
    }
}
