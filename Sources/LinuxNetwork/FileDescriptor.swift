import CLinux
import Glibc

/// One open file descriptor with one owner: closed exactly once, when the owner lets it go.
public struct FileDescriptor: ~Copyable, Sendable {
    /// The number, for calls that only borrow it. It is valid as long as this value lives.
    public let raw: CInt

    /// Takes over a descriptor that nobody else will close.
    public init(owning raw: CInt) { self.raw = raw }

    deinit { _ = Glibc.close(raw) }

    /// Gives the descriptor away: the receiver closes it.
    public consuming func release() -> CInt {
        let raw = raw
        discard self
        return raw
    }

    /// A second descriptor for the same open file, close-on-exec.
    public borrowing func duplicate() throws(SystemError) -> FileDescriptor {
        let raw = raw
        return FileDescriptor(owning: try check("duplicate a descriptor") { apus_fcntl(raw, F_DUPFD_CLOEXEC, 0) })
    }

    /// Opens a path close-on-exec.
    public static func open(_ path: String, flags: CInt) throws(SystemError) -> FileDescriptor {
        FileDescriptor(owning: try check("open \(path)") { Glibc.open(path, flags | O_CLOEXEC) })
    }

    /// Opens a path relative to an open folder, close-on-exec; `mode` is for a file that this creates.
    public static func open(
        _ path: String, in folder: borrowing FileDescriptor, flags: CInt, mode: mode_t = 0
    ) throws(SystemError) -> FileDescriptor {
        let raw = folder.raw
        return FileDescriptor(owning: try check("open \(path)") { apus_openat(raw, path, flags | O_CLOEXEC, mode) })
    }
}

/// Raises the soft limit of open descriptors to the hard one, and the hard one to `wanted` where that is allowed.
/// - Returns: The soft limit now in force.
@discardableResult
public func raiseDescriptorLimit(to wanted: UInt64 = 1 << 20) -> UInt64 {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 0 }
    let hard = Swift.max(limit.rlim_max, rlim_t(wanted))
    var higher = rlimit(rlim_cur: hard, rlim_max: hard)
    if setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &higher) == 0 { return UInt64(hard) }
    limit.rlim_cur = limit.rlim_max
    _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    return UInt64(limit.rlim_cur)
}
