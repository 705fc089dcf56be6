import Glibc

/// Bytes that a socket would not take, in order. Holds no memory when empty.
struct ByteQueue: ~Copyable {
    private struct Chunk {
        let base: UnsafeMutableRawPointer
        let capacity: Int
        var start = 0
        var end = 0
    }

    private static let smallest = 4096
    private static let largest = 65536
    /// Pieces given to one system call.
    static let maximumPieces = 16

    private var chunks: [Chunk] = []
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }

    deinit { for chunk in chunks { chunk.base.deallocate() } }

    /// Copies the bytes to the end.
    mutating func append(_ bytes: UnsafeRawBufferPointer) {
        count += bytes.count
        var rest = bytes
        while rest.count > 0 {
            if chunks.last.map({ $0.end == $0.capacity }) ?? true {
                let capacity = max(Self.smallest, min(rest.count, Self.largest))
                chunks.append(Chunk(base: .allocate(byteCount: capacity, alignment: 16), capacity: capacity))
            }
            let last = chunks.count - 1
            let end = chunks[last].end
            let taken = min(rest.count, chunks[last].capacity - end)
            (chunks[last].base + end).copyMemory(from: rest.baseAddress!, byteCount: taken)
            chunks[last].end += taken
            rest = UnsafeRawBufferPointer(rebasing: rest[taken...])
        }
    }

    /// Describes the front of the queue for one system call; returns how many pieces there are.
    func pieces(_ vectors: UnsafeMutableBufferPointer<iovec>) -> Int {
        var used = 0
        for chunk in chunks.prefix(vectors.count) {
            vectors[used] = iovec(iov_base: chunk.base + chunk.start, iov_len: chunk.end - chunk.start)
            used += 1
        }
        return used
    }

    /// Drops bytes from the front.
    mutating func remove(_ bytes: Int) {
        count -= bytes
        var rest = bytes
        var emptied = 0
        while emptied < chunks.count {
            let available = chunks[emptied].end - chunks[emptied].start
            guard rest >= available else {
                chunks[emptied].start += rest
                break
            }
            rest -= available
            chunks[emptied].base.deallocate()
            emptied += 1
        }
        chunks.removeFirst(emptied)
        if chunks.isEmpty { chunks = [] }
    }

    mutating func removeAll() { remove(count) }
}
