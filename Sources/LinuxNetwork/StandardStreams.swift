import CLinux
import Glibc

/// stdin, stdout and stderr for programs without Foundation, with limits and timeouts.
public enum StandardStreams {
    /// Prepares a program whose caller may be careless: a closed stream is opened on /dev/null, so that no socket or
    /// namespace gets its number, and a reader that goes away is an error of the write and not the program's end.
    public static func prepare() {
        for number: CInt in 0...2 where apus_fcntl(number, F_GETFD, 0) == -1 {
            // open takes the lowest free number, which is this one.
            _ = Glibc.open("/dev/null", O_RDWR)
        }
        signal(SIGPIPE, SIG_IGN)
    }

    /// Reads stdin to its end.
    /// - Parameters:
    ///   - limit: bytes; reading ends there, so ask for one more than you take.
    ///   - milliseconds: how long the writer may take as a whole.
    /// - Returns: What was read, and whether the end or the limit came in time.
    public static func readInput(
        limit: Int, milliseconds: Int
    ) throws(SystemError) -> (bytes: [UInt8], complete: Bool) {
        let deadline = MonotonicClock.now + UInt64(Swift.max(milliseconds, 0)) * 1_000_000
        var bytes: [UInt8] = []
        while bytes.count < limit {
            guard try wait(STDIN_FILENO, POLLIN, until: deadline) else { return (bytes, false) }
            let room = Swift.min(limit - bytes.count, 64 << 10)
            var failure: CInt = 0
            let chunk = [UInt8](unsafeUninitializedCapacity: room) { buffer, used in
                let got = read(STDIN_FILENO, buffer.baseAddress, room)
                failure = got < 0 ? errno : 0
                used = Swift.max(got, 0)
            }
            if failure == EINTR || failure == EAGAIN { continue }
            if failure != 0 { throw SystemError("read stdin", code: failure) }
            if chunk.isEmpty { break }
            bytes += chunk
        }
        return (bytes, true)
    }

    /// Writes all of `bytes` to stdout; `ETIMEDOUT` when the reader stops reading.
    public static func writeOutput(_ bytes: [UInt8], milliseconds: Int) throws(SystemError) {
        try write(bytes, to: STDOUT_FILENO, "write stdout", milliseconds)
    }

    /// Writes a line to stderr, in one piece. Nobody can be told when that fails, and nobody is waited for long.
    public static func writeErrorLine(_ line: String) {
        // Lost where nobody listens: the exit code and stdout carry what must arrive.
        try? write(Array(line.utf8) + [0x0a], to: STDERR_FILENO, "write stderr", 100)
    }

    private static func write(
        _ bytes: [UInt8], to number: CInt, _ operation: String, _ milliseconds: Int
    ) throws(SystemError) {
        let deadline = MonotonicClock.now + UInt64(Swift.max(milliseconds, 0)) * 1_000_000
        var written = 0
        while written < bytes.count {
            guard try wait(number, POLLOUT, until: deadline) else { throw SystemError(operation, code: ETIMEDOUT) }
            // A writable pipe takes PIPE_BUF bytes without blocking, and may block for more.
            let count = Swift.min(bytes.count - written, Int(PIPE_BUF))
            let result = bytes.withUnsafeBytes { Glibc.write(number, $0.baseAddress.map { $0 + written }, count) }
            if result >= 0 {
                written += result
            } else if errno != EINTR, errno != EAGAIN {
                throw SystemError(operation)
            }
        }
    }

    private static func wait(_ number: CInt, _ events: CInt, until deadline: UInt64) throws(SystemError) -> Bool {
        while true {
            var entry = pollfd(fd: number, events: Int16(events), revents: 0)
            let now = MonotonicClock.now
            let left = deadline > now ? (deadline - now + 999_999) / 1_000_000 : 0
            let result = poll(&entry, 1, CInt(Swift.min(left, 1 << 30)))
            if result >= 0 { return result > 0 }
            if errno != EINTR { throw SystemError("poll") }
        }
    }
}

/// A variable of the process's environment, for programs without Foundation; `nil` when it is not set.
public func environmentVariable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
