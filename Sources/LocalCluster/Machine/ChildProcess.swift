import CLinux
import Foundation
import Glibc
import LinuxNetwork
import Synchronization

/// A process that we started and will reap.
public final class ChildProcess: Sendable {
    public let pid: pid_t
    public let name: String
    /// `nil` when it had ended before it could be looked at.
    public let identity: ProcessIdentity?
    private let pidfd: FileDescriptor
    private let status = Mutex<Int32?>(nil)

    init(pid: pid_t, name: String) {
        self.pid = pid
        self.name = name
        // Our own child stays in the table until we reap it, so the number cannot be another's yet.
        pidfd = FileDescriptor(owning: apus_pidfd_open(pid))
        identity = ProcessIdentity(pid: pid)
    }

    /// Starts a program whose output is appended to a file and whose input is empty.
    static func start(
        _ arguments: [String], name: String, environment: [String: String], namespace: String?, log: String
    ) throws -> ChildProcess {
        let input = try FileDescriptor.open("/dev/null", flags: O_RDONLY)
        let output = FileDescriptor(
            owning: try check("open \(log)") { Glibc.open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644) })
        let pid = try Launcher.start(
            arguments, environment: environment, namespace: namespace,
            streams: .init(input: input.raw, output: output.raw, errors: output.raw))
        return ChildProcess(pid: pid, name: name)
    }

    public var isRunning: Bool { wait(within: .zero) == nil }

    public func signal(_ number: CInt) {
        // It may have ended; then there is nobody to tell.
        _ = apus_pidfd_send_signal(pidfd.raw, number)
    }

    /// Waits for its end.
    /// - Returns: The exit status, or 128 and the signal's number; `nil` when it still runs.
    public func wait(within timeout: Duration) -> Int32? {
        if let known = status.withLock({ $0 }) { return known }
        let (seconds, attoseconds) = timeout.components
        var wait = pollfd(fd: pidfd.raw, events: Int16(POLLIN), revents: 0)
        let milliseconds = CInt(clamping: seconds * 1000 + attoseconds / 1_000_000_000_000_000)
        guard poll(&wait, 1, milliseconds) > 0 else { return nil }
        return status.withLock { status in
            if let status { return status }
            var raw: Int32 = 0
            guard waitpid(pid, &raw, 0) == pid else { return nil }
            // Low seven bits: the signal, 0 for a normal end; then the exit status.
            let signal = raw & 0x7f
            status = signal == 0 ? (raw >> 8) & 0xff : 128 + signal
            return status
        }
    }

    /// Asks it to end, and makes it end when it does not in time.
    public func terminate(within timeout: Duration = .seconds(5)) {
        signal(SIGTERM)
        if wait(within: timeout) != nil { return }
        signal(SIGKILL)
        _ = wait(within: .seconds(5))
    }
}
