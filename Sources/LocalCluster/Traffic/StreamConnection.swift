import Addressing
import Foundation
import Glibc
import LinuxNetwork

/// One TCP or unix stream connection used by turns, every step with a timeout.
final class StreamConnection {
    private let descriptor: FileDescriptor
    private var buffered: [UInt8] = []

    init(owning descriptor: consuming FileDescriptor) { self.descriptor = descriptor }

    /// Connects in the calling thread's network namespace.
    static func connect(to endpoint: Endpoint, within timeout: Duration) throws -> StreamConnection {
        let dualStack = !endpoint.address.isV4
        let socket = try Sockets.tcp(dualStack: dualStack)
        let raw = socket.raw
        if try !Sockets.connect(raw, to: endpoint, dualStack: dualStack) {
            guard try wait(raw, POLLOUT, .now + timeout) else {
                throw LocalClusterError(.timeout, "connect to \(endpoint) took more than \(timeout)")
            }
            let error = Sockets.pendingError(raw)
            guard error == 0 else { throw SystemError("connect to \(endpoint)", code: error) }
        }
        try Sockets.setNoDelay(raw)
        return StreamConnection(owning: socket)
    }

    var localEndpoint: Endpoint? { Sockets.localEndpoint(descriptor.raw) }

    func send(_ bytes: some Collection<UInt8>, within timeout: Duration) throws {
        let deadline = ContinuousClock.now + timeout
        var rest = Array(bytes)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes {
                Glibc.send(descriptor.raw, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL))
            }
            if count > 0 {
                rest = rest.dropFirst(count)
            } else if errno == EAGAIN {
                guard try Self.wait(descriptor.raw, POLLOUT, deadline) else {
                    throw LocalClusterError(.timeout, "the peer took no more bytes for \(timeout)")
                }
            } else if errno != EINTR {
                throw SystemError("send")
            }
        }
    }

    /// Says that no more bytes will come from here.
    func finish() { Sockets.shutdownWrite(descriptor.raw) }

    /// The bytes up to and without the next line feed; `nil` at the end of the stream.
    func line(within timeout: Duration) throws -> String? {
        let deadline = ContinuousClock.now + timeout
        while true {
            if let end = buffered.firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: buffered[..<end], as: UTF8.self)
                buffered.removeSubrange(...end)
                return line
            }
            guard try receive(deadline) else { return nil }
        }
    }

    /// Everything until the peer has ended its direction, at most `limit` bytes.
    func rest(limit: Int, within timeout: Duration) throws -> [UInt8] {
        let deadline = ContinuousClock.now + timeout
        while buffered.count < limit, try receive(deadline) {}
        defer { buffered = [] }
        return buffered
    }

    private func receive(_ deadline: ContinuousClock.Instant) throws -> Bool {
        var chunk = [UInt8](repeating: 0, count: 16384)
        while true {
            let count = recv(descriptor.raw, &chunk, chunk.count, 0)
            if count > 0 {
                buffered += chunk[..<count]
                return true
            }
            if count == 0 { return false }
            if errno == EAGAIN {
                guard try Self.wait(descriptor.raw, POLLIN, deadline) else {
                    throw LocalClusterError(.timeout, "no answer in time")
                }
            } else if errno != EINTR {
                throw SystemError("receive")
            }
        }
    }

    private static func wait(_ fd: CInt, _ events: Int32, _ deadline: ContinuousClock.Instant) throws -> Bool {
        while true {
            let left = (deadline - .now) / .milliseconds(1)
            guard left > 0 else { return false }
            var waits = pollfd(fd: fd, events: Int16(events), revents: 0)
            let ready = poll(&waits, 1, CInt(clamping: Int(left) + 1))
            if ready > 0 { return true }
            if ready < 0, errno != EINTR { throw SystemError("poll") }
        }
    }
}
