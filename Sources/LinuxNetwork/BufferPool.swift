import Glibc

/// A worker's stock of large buffers, lent for the moment a connection has bytes to move and given back at once, so an
/// idle connection holds none. Confined to the worker's thread.
public final class BufferPool {
    /// 256 KiB of payload, with room for frame headers and a TLS record's overhead in front and behind.
    public static let bufferSize = 256 * 1024 + 4096

    /// A lent buffer. Give it back with ``BufferPool/give(_:)``.
    public typealias Buffer = UnsafeMutableRawBufferPointer

    private var free: [Buffer] = []
    /// Buffers kept when nobody needs them; more are returned to the system.
    private let kept: Int
    public private(set) var lent = 0

    public init(kept: Int = 4) {
        self.kept = kept
        free.reserveCapacity(kept)
    }

    deinit { for buffer in free { buffer.deallocate() } }

    public func borrow() -> Buffer {
        lent += 1
        if let buffer = free.popLast() { return buffer }
        return .allocate(byteCount: Self.bufferSize, alignment: 4096)
    }

    public func give(_ buffer: Buffer) {
        lent -= 1
        if free.count < kept { free.append(buffer) } else { buffer.deallocate() }
    }
}
