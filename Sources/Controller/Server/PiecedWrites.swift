import NIOCore

/// Hands TLS what is to be sent in small pieces, each sent before the next.
///
/// NIO's TLS encrypts all it is given at one flush into one buffer, and keeps a buffer of that size for as long as the
/// connection lasts: as much as HTTP/2's window, 4 MiB, for each proxy that was ever told of a large mesh.
final class PiecedWrites: ChannelDuplexHandler {
    typealias InboundIn = NIOAny
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// With what TLS adds to its two records, just under 32 KiB, to which a buffer of NIO's grows.
    static let piece = 30 << 10

    private var queue = PieceQueue<EventLoopPromise<Void>>()
    private var isDraining = false

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        queue.write(unwrapOutboundIn(data), promise)
    }

    func flush(context: ChannelHandlerContext) {
        queue.flush()
        drain(context)
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        drain(context)
        context.fireChannelWritabilityChanged()
    }

    /// What was flushed is sent before the end, however slow the other side is.
    func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        if mode != .input { drain(context, isLast: true) }
        context.close(mode: mode, promise: promise)
    }

    func channelInactive(context: ChannelHandlerContext) {
        giveUp()
        context.fireChannelInactive()
    }

    func handlerRemoved(context: ChannelHandlerContext) { giveUp() }

    private func giveUp() {
        for promise in queue.removeAll() { promise.fail(ChannelError.ioOnClosedChannel) }
    }

    private func drain(_ context: ChannelHandlerContext, isLast: Bool = false) {
        // Sending changes whether there is room, which leads here again.
        guard !isDraining else { return }
        isDraining = true
        defer { isDraining = false }
        var room = Self.piece
        while isLast || context.channel.isWritable, let (piece, promise) = queue.next(atMost: room) {
            room -= piece.readableBytes
            context.write(wrapOutboundOut(piece), promise: promise)
            if room == 0 {
                context.flush()
                room = Self.piece
            }
        }
        // Also where nothing was written: there may be something below.
        context.flush()
    }
}

/// What was written, to be taken in pieces. A value.
struct PieceQueue<Promise> {
    private var writes = CircularBuffer<(data: ByteBuffer, promise: Promise?)>()
    /// So many of them may be sent.
    private var flushed = 0

    mutating func write(_ data: ByteBuffer, _ promise: Promise?) { writes.append((data, promise)) }

    mutating func flush() { flushed = writes.count }

    /// The next bytes of one write that may be sent; its promise comes with the last of them.
    ///
    /// - Parameter limit: Above 0.
    mutating func next(atMost limit: Int) -> (ByteBuffer, Promise?)? {
        guard flushed > 0 else { return nil }
        let first = writes.startIndex
        if writes[first].data.readableBytes > limit, let piece = writes[first].data.readSlice(length: limit) {
            return (piece, nil)
        }
        flushed -= 1
        return writes.removeFirst()
    }

    /// - Returns: Whom to tell that nothing of it will be sent.
    mutating func removeAll() -> [Promise] {
        defer {
            writes.removeAll()
            flushed = 0
        }
        return writes.compactMap(\.promise)
    }
}
