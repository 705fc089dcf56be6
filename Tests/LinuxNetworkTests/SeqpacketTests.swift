import Glibc
import LinuxNetwork
import Testing

@Suite("Packets between processes")
struct SeqpacketTests {
    @Test("packets keep their boundaries and bring descriptors along")
    func descriptors() throws {
        let pair = try SeqpacketSocket.Pair()
        let file = try FileDescriptor.open("/dev/null", flags: O_RDONLY)
        try pair.first.send([1, 2, 3], descriptors: [file.raw, file.raw])
        try pair.first.send([4])
        var first = try packet(on: pair.second, limit: 16)
        let bytes = first.bytes
        #expect(bytes == [1, 2, 3])
        expectCount(first.descriptors, 2)
        let truncated = first.truncated
        #expect(!truncated)
        let number = first.descriptors[0]
        let taken = first.takeDescriptor()
        #expect(apusIsOpen(number))
        expectCount(first.descriptors, 1)
        _ = consume taken
        #expect(!apusIsOpen(number))
        let second = try packet(on: pair.second, limit: 16)
        expectBytes(second.bytes, [4])
        #expect(try !pair.second.waitReadable(milliseconds: 0))
    }

    @Test("descriptors that nobody takes are closed with their packet")
    func closed() throws {
        let pair = try SeqpacketSocket.Pair()
        let file = try FileDescriptor.open("/dev/null", flags: O_RDONLY)
        try pair.first.send([1], descriptors: [file.raw])
        var arrived: CInt = -1
        do {
            let packet = try packet(on: pair.second, limit: 16)
            arrived = packet.descriptors[0]
            #expect(apusIsOpen(arrived))
        }
        #expect(!apusIsOpen(arrived))
    }

    @Test("a packet that is too long says so")
    func truncated() throws {
        let pair = try SeqpacketSocket.Pair()
        try pair.first.send([UInt8](repeating: 7, count: 100))
        let packet = try packet(on: pair.second, limit: 10)
        let truncated = packet.truncated
        #expect(truncated)
        expectBytes(packet.bytes, [UInt8](repeating: 7, count: 10))
    }

    @Test("the end of the connection is an empty packet")
    func end() throws {
        let pair = try SeqpacketSocket.Pair()
        #expect(shutdown(pair.first.raw, CInt(SHUT_RDWR)) == 0)
        #expect(try pair.second.waitReadable(milliseconds: 1000))
        let packet = try packet(on: pair.second, limit: 10)
        expectBytes(packet.bytes, [])
    }

    @Test("a path that cannot be a socket's is refused before the kernel is asked")
    func paths() {
        for path in ["", String(repeating: "x", count: 108)] {
            let error = #expect(throws: SystemError.self) { _ = try SeqpacketSocket.connect(path: path).raw }
            #expect(error?.code == ENAMETOOLONG)
        }
    }
}

func apusIsOpen(_ fd: CInt) -> Bool {
    var info = stat()
    return fstat(fd, &info) == 0
}

private struct NoPacket: Error {}

/// The next packet, which must be there.
private func packet(on socket: borrowing SeqpacketSocket, limit: Int) throws -> Packet {
    guard let packet = try socket.receive(limit: limit) else { throw NoPacket() }
    return packet
}

// The expectation macros cannot look into a value that cannot be copied; these take the copies.
private func expectBytes(_ bytes: [UInt8], _ expected: [UInt8]) { #expect(bytes == expected) }
private func expectCount(_ descriptors: [CInt], _ expected: Int) { #expect(descriptors.count == expected) }
