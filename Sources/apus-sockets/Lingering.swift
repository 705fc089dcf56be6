import CLinux
import Glibc
import LinuxNetwork

/// The time of a keeper that is none any more, in a container that must not end before its pod does.
enum Lingering {
    /// Closes everything but the three standard streams (what is a successor's must live by the successor's descriptors
    /// alone), waits for SIGTERM or SIGINT, and ends the process.
    static func untilToldToEnd() -> Never {
        // Nothing that owned a descriptor is used or let go of after this.
        guard apus_close_from(3) == 0 else { _exit(1) }
        do {
            let signals = try SignalDescriptor([SIGTERM, SIGINT])
            var entry = pollfd(fd: signals.descriptor.raw, events: Int16(POLLIN), revents: 0)
            while signals.next() == nil { poll(&entry, 1, -1) }
            _exit(0)
        } catch {
            _exit(1)
        }
    }
}
