import Addressing
import Glibc
import Testing

@testable import LinuxNetwork

@Suite("Connecting without a word")
struct HeldAcknowledgementTests {
    /// Whether something is there to be read, or accepted, within so many milliseconds.
    private func isReadable(_ fd: CInt, within milliseconds: CInt) -> Bool {
        var entry = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
        return poll(&entry, 1, milliseconds) == 1
    }

    @Test(
        "a held acknowledgement keeps a connection from its listener until it goes, alone or with bytes",
        arguments: [false, true])
    func heldAcknowledgement(byBytes: Bool) throws {
        let listener = try Sockets.tcp(dualStack: false)
        try Sockets.bind(listener.raw, to: Endpoint(.loopbackV4, 0), dualStack: false)
        try Sockets.listen(listener.raw, backlog: 8)
        let place = try #require(Sockets.localEndpoint(listener.raw))
        let client = try Sockets.tcp(dualStack: false)
        Sockets.holdAcknowledgement(client.raw)
        // Begun, and then asked again: over loopback it is made by now.
        var isMade = try Sockets.connect(client.raw, to: place, dualStack: false)
        if !isMade { isMade = try Sockets.connect(client.raw, to: place, dualStack: false) }
        #expect(isMade)
        #expect(!isReadable(listener.raw, within: 0))
        if byBytes {
            let sent = send(client.raw, [1], 1, CInt(MSG_NOSIGNAL))
            #expect(sent == 1)
        } else {
            Sockets.acknowledge(client.raw)
        }
        #expect(isReadable(listener.raw, within: 1000))
        guard let accepted = try Sockets.accept(listener.raw) else {
            Issue.record("nothing to accept")
            return
        }
        let hasBytes = isReadable(accepted.descriptor.raw, within: 0)
        #expect(hasBytes == byBytes)
    }

    @Test("asking again how a connection fares tells of a refusal")
    func refusal() throws {
        let probe = try Sockets.tcp(dualStack: false)
        try Sockets.bind(probe.raw, to: Endpoint(.loopbackV4, 0), dualStack: false)
        let place = try #require(Sockets.localEndpoint(probe.raw))
        let client = try Sockets.tcp(dualStack: false)
        #expect(throws: SystemError.self) {
            for _ in 0..<2 { _ = try Sockets.connect(client.raw, to: place, dualStack: false) }
        }
    }
}
