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
        var first = try #require(try pair.second.receive(limit: 16))
        #expect(first.bytes == [1, 2, 3])
        #expect(first.descriptors.count == 2)
        #expect(!first.truncated)
        let taken = try #require(first.takeDescriptor())
        #expect(apusIsOpen(taken.raw))
        let second = try #require(try pair.second.receive(limit: 16))
        #expect(second.bytes == [4])
        #expect(try pair.second.receive(limit: 16) == nil)
    }

    @Test("descriptors that nobody takes are closed with their packet")
    func closed() throws {
        let pair = try SeqpacketSocket.Pair()
        let file = try FileDescriptor.open("/dev/null", flags: O_RDONLY)
        try pair.first.send([1], descriptors: [file.raw])
        var arrived: CInt = -1
        do {
            let packet = try #require(try pair.second.receive(limit: 16))
            arrived = packet.descriptors[0]
            #expect(apusIsOpen(arrived))
        }
        #expect(!apusIsOpen(arrived))
    }

    @Test("a packet that is too long says so")
    func truncated() throws {
        let pair = try SeqpacketSocket.Pair()
        try pair.first.send([UInt8](repeating: 7, count: 100))
        let packet = try #require(try pair.second.receive(limit: 10))
        #expect(packet.truncated)
        #expect(packet.bytes.count == 10)
    }

    @Test("the end of the connection is an empty packet")
    func end() throws {
        let pair = try SeqpacketSocket.Pair()
        let second = pair.second
        // `first` is closed here, at its last use.
        _ = consume pair.first
        #expect(try second.waitReadable(milliseconds: 1000))
        let packet = try #require(try second.receive(limit: 10))
        #expect(packet.bytes.isEmpty)
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
