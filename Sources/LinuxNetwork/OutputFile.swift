import CLinux
import Glibc

/// A file, pipe or stream that lines are appended to, without ever waiting longer than it is told.
public struct OutputFile: ~Copyable, Sendable {
    private let descriptor: FileDescriptor
    private let isRegular: Bool

    /// Takes over an open descriptor.
    public init(_ descriptor: consuming FileDescriptor) {
        var status = stat()
        isRegular = fstat(descriptor.raw, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
        self.descriptor = descriptor
    }

    /// Opens a path for appending; a file that is not there is made, readable by owner and group.
    public init(appendingTo path: String) throws(SystemError) {
        let flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY
        self.init(FileDescriptor(owning: try check("open \(path)") { Glibc.open(path, flags, 0o640) }))
    }

    /// A second descriptor for the process's stdout (1) or stderr (2).
    public init(standard number: CInt) throws(SystemError) {
        let copy = try check("duplicate stream \(number)") { apus_fcntl(number, F_DUPFD_CLOEXEC, 0) }
        self.init(FileDescriptor(owning: copy))
    }

    /// Writes what can be written of `bytes` from `offset` on.
    /// - Parameter milliseconds: how long to wait for a reader that is slow.
    /// - Returns: How many bytes were taken; 0 when the time was over first.
    public borrowing func write(
        _ bytes: [UInt8], from offset: Int = 0, milliseconds: Int
    ) throws(SystemError) -> Int {
        guard offset < bytes.count else { return 0 }
        var count = bytes.count - offset
        if !isRegular {
            var entry = pollfd(fd: descriptor.raw, events: Int16(POLLOUT), revents: 0)
            let ready = poll(&entry, 1, CInt(clamping: milliseconds))
            if ready < 0, errno != EINTR { throw SystemError("poll for output") }
            guard ready > 0 else { return 0 }
            // A writable pipe takes PIPE_BUF bytes without blocking, and may block for more.
            count = Swift.min(count, Int(PIPE_BUF))
        }
        let written = bytes.withUnsafeBytes { Glibc.write(descriptor.raw, $0.baseAddress.map { $0 + offset }, count) }
        if written >= 0 { return written }
        if errno == EINTR || errno == EAGAIN { return 0 }
        throw SystemError("write output")
    }
}
