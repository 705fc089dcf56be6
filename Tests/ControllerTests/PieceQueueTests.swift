import NIOCore
import Testing

@testable import Controller

@Suite("Writes in pieces")
struct PieceQueueTests {
    private func taken(_ queue: inout PieceQueue<Int>, atMost limit: Int) -> [(bytes: [UInt8], promise: Int?)] {
        var result: [(bytes: [UInt8], promise: Int?)] = []
        while let (piece, promise) = queue.next(atMost: limit) {
            result.append((Array(piece.readableBytesView), promise))
        }
        return result
    }

    @Test("what comes out is what went in, in order, in pieces that are small enough", arguments: [1, 3, 7, 10, 1000])
    func pieces(limit: Int) {
        var queue = PieceQueue<Int>()
        var expected: [UInt8] = []
        for (index, length) in [5, 0, 10, 1, 30, 2].enumerated() {
            let bytes = (0..<length).map { UInt8(index * 40 + $0) }
            expected += bytes
            queue.write(ByteBuffer(bytes: bytes), index)
        }
        #expect(queue.next(atMost: limit) == nil, "nothing was flushed")
        queue.flush()
        let pieces = taken(&queue, atMost: limit)
        #expect(pieces.flatMap(\.bytes) == expected)
        #expect(pieces.allSatisfy { $0.bytes.count <= limit })
        #expect(pieces.compactMap(\.promise) == [0, 1, 2, 3, 4, 5])
        // The promise of a write is kept when all before it has been handed on.
        var sent = 0
        for piece in pieces {
            sent += piece.bytes.count
            if piece.promise == 2 { #expect(sent == 15) }
        }
    }

    @Test("what is written after a flush waits for the next one")
    func flushes() {
        var queue = PieceQueue<Int>()
        queue.write(ByteBuffer(string: "one"), 1)
        queue.flush()
        queue.write(ByteBuffer(string: "two"), 2)
        #expect(taken(&queue, atMost: 100).map(\.promise) == [1])
        queue.flush()
        #expect(taken(&queue, atMost: 100).map(\.promise) == [2])
    }

    @Test("at the end everybody who waits is told, also who has been served in part")
    func end() {
        var queue = PieceQueue<Int>()
        queue.write(ByteBuffer(string: "one"), 1)
        queue.write(ByteBuffer(string: "two"), nil)
        queue.write(ByteBuffer(string: "three"), 3)
        queue.flush()
        #expect(queue.next(atMost: 1)?.1 == nil)
        #expect(queue.removeAll() == [1, 3])
        #expect(queue.next(atMost: 1) == nil && queue.removeAll().isEmpty)
    }
}
