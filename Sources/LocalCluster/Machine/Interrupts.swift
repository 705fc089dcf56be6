import CLinux
import Glibc
import LinuxNetwork

/// SIGINT and SIGTERM as something to wait for, so that what was built can be taken down.
public final class Interrupts: Sendable {
    private let signals: SignalDescriptor

    /// Make it before any other thread is started.
    public init() throws { signals = try SignalDescriptor([SIGINT, SIGTERM, SIGHUP]) }

    /// Waits for the first one.
    /// - Returns: The signal's number.
    public func wait() -> CInt {
        while true {
            var ready = pollfd(fd: signals.descriptor.raw, events: Int16(POLLIN), revents: 0)
            _ = poll(&ready, 1, -1)
            if let signal = signals.next() { return signal }
        }
    }

    /// Runs `body` on a thread of its own when one comes, and ends the process with 128 and its number.
    public func onFirst(_ body: @escaping @Sendable () -> Void) throws {
        _ = try startThread(name: "signals") { [self] in
            let signal = wait()
            body()
            _exit(128 + signal)
        }
    }
}
