import Addressing
import Glibc
import LinuxNetwork

/// TCP over the loopback for tests.
enum TestSockets {
    static let localhost = IPAddress(v4: 0x7f00_0001)

    /// A listener on a free port.
    static func listener() throws -> (descriptor: CInt, endpoint: Endpoint) {
        let socket = try Sockets.tcp(dualStack: false)
        try Sockets.bind(socket.raw, to: Endpoint(localhost, 0), dualStack: false)
        try Sockets.listen(socket.raw, backlog: 16)
        let endpoint = Sockets.localEndpoint(socket.raw) ?? Endpoint(localhost, 0)
        return (socket.release(), endpoint)
    }

    /// Two ends of one TCP connection, non-blocking; the caller closes them.
    static func pair() throws -> (CInt, CInt) {
        let (listener, endpoint) = try listener()
        defer { _ = Glibc.close(listener) }
        let client = try Sockets.tcp(dualStack: false)
        _ = try Sockets.connect(client.raw, to: endpoint, dualStack: false)
        // On the loopback the connection is in the queue as soon as connect returns.
        guard let accepted = try Sockets.accept(listener) else { throw SystemError("accept", code: EAGAIN) }
        return (client.release(), accepted.takeDescriptor().release())
    }
}

/// An application's end of a connection: sends a pattern, checks what comes, at its own pace.
final class TestApp {
    /// Bytes that repeat with a period of their own, so that a lost or doubled piece shows.
    private static let period = 65521
    private static let pattern: [UInt8] = {
        var random = SeededGenerator(42)
        let once = (0..<period).map { _ in UInt8.random(in: 0...255, using: &random) }
        return once + once + once + once + once
    }()

    let descriptor: CInt
    /// How much is still to be sent.
    var toSend = 0
    /// FIN goes out once everything is sent.
    var endsAfterSending = false
    /// Sends back what it receives, and its end.
    var echoes = false
    /// How much may still be read.
    var appetite = Int.max
    private(set) var sent = 0
    private(set) var received = 0
    private(set) var sentEnd = false
    private(set) var sawEnd = false
    private(set) var failure: CInt?
    private(set) var isIntact = true

    init(_ descriptor: CInt) { self.descriptor = descriptor }
    deinit { close() }

    private var isOpen = true
    func close(reset: Bool = false) {
        guard isOpen else { return }
        isOpen = false
        if reset { Sockets.resetOnClose(descriptor) }
        _ = Glibc.close(descriptor)
    }

    func pump() {
        guard isOpen, failure == nil else { return }
        read()
        write()
    }

    private func read() {
        withUnsafeTemporaryAllocation(byteCount: 4 * Self.period, alignment: 16) { buffer in
            while appetite > 0, !sawEnd {
                let got = recv(descriptor, buffer.baseAddress, min(buffer.count, appetite), 0)
                guard got > 0 else {
                    if got == 0 { sawEnd = true }
                    if got < 0, errno != EAGAIN { failure = errno }
                    return
                }
                let offset = received % Self.period
                Self.pattern.withUnsafeBytes {
                    if memcmp(buffer.baseAddress!, $0.baseAddress! + offset, got) != 0 { isIntact = false }
                }
                received += got
                appetite -= got
                if echoes { toSend += got }
            }
        }
        if echoes, sawEnd { endsAfterSending = true }
    }

    private func write() {
        while toSend > 0 {
            let offset = sent % Self.period
            let count = Self.pattern.withUnsafeBytes {
                send(descriptor, $0.baseAddress! + offset, min(toSend, 4 * Self.period), CInt(MSG_NOSIGNAL))
            }
            guard count > 0 else {
                if errno != EAGAIN { failure = errno }
                return
            }
            sent += count
            toSend -= count
        }
        if endsAfterSending, !sentEnd {
            sentEnd = true
            Sockets.shutdownWrite(descriptor)
        }
    }
}
