import CNIOBoringSSL

/// The two ends of the handshake's transport while a call into the library runs: borrowed memory of the caller.
///
/// The library sees it through a BIO whose data pointer is this struct, inside one synchronous call.
struct HandshakeBuffers {
    var input: UnsafeRawBufferPointer
    var consumed = 0
    var output: UnsafeMutableRawBufferPointer
    var produced: Int
}

/// A BIO over ``HandshakeBuffers``: no socket, no copy beyond the one the library asks for.
enum MemoryBIO {
    /// One method table for the process; the library only reads it.
    nonisolated(unsafe) private static let method: OpaquePointer? = {
        guard let method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "borrowed memory") else {
            return nil
        }
        BIO_meth_set_create(method) { _ in 1 }
        BIO_meth_set_destroy(method) { _ in 1 }
        BIO_meth_set_ctrl(method) { _, command, _, _ in command == BIO_CTRL_FLUSH ? 1 : 0 }
        BIO_meth_set_read(method) { bio, target, count in
            BIO_clear_retry_flags(bio)
            guard let target, count > 0, let buffers = MemoryBIO.buffers(of: bio) else { return -1 }
            let left = buffers.pointee.input.count - buffers.pointee.consumed
            guard left > 0, let base = buffers.pointee.input.baseAddress else {
                BIO_set_retry_read(bio)
                return -1
            }
            let taken = min(left, Int(count))
            UnsafeMutableRawPointer(target).copyMemory(from: base + buffers.pointee.consumed, byteCount: taken)
            buffers.pointee.consumed += taken
            return CInt(taken)
        }
        BIO_meth_set_write(method) { bio, source, count in
            BIO_clear_retry_flags(bio)
            guard let source, count > 0, let buffers = MemoryBIO.buffers(of: bio) else { return -1 }
            let room = buffers.pointee.output.count - buffers.pointee.produced
            guard room > 0, let base = buffers.pointee.output.baseAddress else {
                BIO_set_retry_write(bio)
                return -1
            }
            let taken = min(room, Int(count))
            (base + buffers.pointee.produced).copyMemory(from: source, byteCount: taken)
            buffers.pointee.produced += taken
            return CInt(taken)
        }
        return method
    }()

    /// A new BIO, owned by the caller; nil when memory is exhausted.
    static func make() -> OpaquePointer? {
        guard let method, let bio = BIO_new(method) else { return nil }
        BIO_set_init(bio, 1)
        return bio
    }

    private static func buffers(of bio: OpaquePointer?) -> UnsafeMutablePointer<HandshakeBuffers>? {
        BIO_get_data(bio)?.assumingMemoryBound(to: HandshakeBuffers.self)
    }
}
