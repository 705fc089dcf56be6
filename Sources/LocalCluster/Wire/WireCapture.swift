import CLinux
import Glibc
import LinuxNetwork
import Synchronization

/// Watches one interface, or all of a namespace, from now until it is stopped, in memory.
public final class WireCapture: Sendable {
    /// What is kept at most; more than that makes the capture useless and is an error.
    private static let limit = 256 << 20

    private struct State {
        var segments: [TCPSegment] = []
        var bytes = 0
        var failure: LocalClusterError?
    }

    private let keep: Keep
    private let stopper: FileDescriptor
    private let thread: pthread_t
    private let stopped = Mutex(false)

    /// Begins to watch. Packets that pass after this returns are seen.
    /// - Parameter interface: `nil` for all, those that come later included; a packet is then seen on each that it passes.
    public init(namespace: String, interface: String?) throws {
        let socket = try NetworkNamespace(path: namespace).run { () throws(SystemError) in
            try Handle(PacketSocket(interface: interface))
        }
        let event = eventfd(0, CInt(EFD_CLOEXEC))
        guard event >= 0 else { throw SystemError("eventfd") }
        stopper = FileDescriptor(owning: event)
        let keep = Keep()
        thread = try startThread(name: "capture") { Self.watch(socket, event, keep) }
        self.keep = keep
    }

    /// The packets, shared with the thread that collects them.
    private final class Keep: Sendable {
        let state = Mutex(State())
    }

    /// A packet socket that a closure can hold.
    private final class Handle: Sendable {
        let socket: PacketSocket
        init(_ socket: consuming PacketSocket) { self.socket = socket }
    }

    deinit { end() }

    /// Ends the watch.
    /// - Throws: When packets were lost, since then nothing is proven by what was not seen.
    public func stop() throws -> WireTraffic {
        end()
        let (segments, failure) = keep.state.withLock { ($0.segments, $0.failure) }
        if let failure { throw failure }
        return WireTraffic(segments)
    }

    /// What was seen so far.
    public func soFar() -> WireTraffic { WireTraffic(keep.state.withLock { $0.segments }) }

    private func end() {
        let first = stopped.withLock { stopped in
            defer { stopped = true }
            return !stopped
        }
        guard first else { return }
        var one: UInt64 = 1
        _ = write(stopper.raw, &one, 8)
        pthread_join(thread, nil)
    }

    private static func watch(_ handle: Handle, _ stop: CInt, _ keep: Keep) {
        var buffer = [UInt8](repeating: 0, count: 1 << 17)
        var isOver = false
        while !isOver {
            var waits = [
                pollfd(fd: handle.socket.raw, events: Int16(POLLIN), revents: 0),
                pollfd(fd: stop, events: Int16(POLLIN), revents: 0),
            ]
            if poll(&waits, 2, -1) < 0, errno != EINTR { isOver = true }
            isOver = isOver || waits[1].revents != 0
            do throws(SystemError) {
                // Also after the stop: what passed before it is in the queue.
                while let frame = try handle.socket.next(into: &buffer) {
                    guard let segment = TCPSegment(frame: frame) else { continue }
                    keep.state.withLock { state in
                        state.bytes += segment.payload.count
                        if state.bytes > limit {
                            state.failure = LocalClusterError(.capture, "more than \(limit) bytes passed on the wire")
                        } else {
                            state.segments.append(segment)
                        }
                    }
                }
            } catch {
                keep.state.withLock {
                    $0.failure = LocalClusterError(.capture, "the wire cannot be watched", cause: error)
                }
                return
            }
        }
        let dropped = handle.socket.takeDropped()
        if dropped > 0 {
            keep.state.withLock {
                $0.failure = LocalClusterError(.capture, "\(dropped) packets passed the wire unseen")
            }
        }
    }
}
