import CLinux
import Glibc

/// Signals as a readable descriptor. Make it before any other thread is started: the signals are blocked in the calling
/// thread and those it starts later.
public struct SignalDescriptor: ~Copyable, Sendable {
    public let descriptor: FileDescriptor

    public init(_ signals: [CInt]) throws(SystemError) {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in signals { sigaddset(&set, signal) }
        let blocked = pthread_sigmask(SIG_BLOCK, &set, nil)
        guard blocked == 0 else { throw SystemError("block signals", code: blocked) }
        let flags = CInt(SFD_CLOEXEC) | CInt(SFD_NONBLOCK)
        descriptor = FileDescriptor(owning: try check("signalfd") { signalfd(-1, &set, flags) })
    }

    /// The next signal that has come; `nil` when there is none.
    public borrowing func next() -> CInt? {
        var info = signalfd_siginfo()
        let size = MemoryLayout<signalfd_siginfo>.size
        return read(descriptor.raw, &info, size) == size ? CInt(bitPattern: info.ssi_signo) : nil
    }
}
