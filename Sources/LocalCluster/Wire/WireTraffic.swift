import Addressing

/// What was seen on a wire, put together again: the bytes of each direction of each connection.
public struct WireTraffic: Sendable {
    /// One direction of one connection.
    public struct Direction: Hashable, Sendable {
        public var source: Endpoint
        public var destination: Endpoint
    }

    public struct Stream: Sendable {
        public var direction: Direction
        /// Payload in order, as far as it was seen.
        public var bytes: [UInt8] = []
        /// Whether its SYN was seen, so that the bytes begin at the beginning.
        public var fromStart = false
        public var wasReset = false
        /// A part was never seen; what follows it stands right behind the gap.
        public var hasGap = false
        fileprivate var next: UInt32?
        /// Segments that came before their turn.
        fileprivate var early: [UInt32: [UInt8]] = [:]
    }

    public private(set) var streams: [Stream] = []
    /// Every payload as it came, for searches that must not depend on order.
    private var payloads: [[UInt8]] = []
    public private(set) var segments = 0

    public init(_ segments: some Sequence<TCPSegment>) {
        var index: [Direction: Int] = [:]
        for segment in segments {
            self.segments += 1
            if !segment.payload.isEmpty { payloads.append(segment.payload) }
            let direction = Direction(source: segment.source, destination: segment.destination)
            // A SYN begins a new connection, also between ports that were used before.
            if index[direction] == nil || segment.flags.contains(.syn) {
                index[direction] = streams.count
                streams.append(Stream(direction: direction))
            }
            if let position = index[direction] { Self.add(segment, to: &streams[position]) }
        }
        for position in streams.indices { Self.close(&streams[position]) }
    }

    private static func add(_ segment: TCPSegment, to stream: inout Stream) {
        if segment.flags.contains(.syn) {
            stream.fromStart = true
            stream.next = segment.sequence &+ 1
        }
        if segment.flags.contains(.reset) { stream.wasReset = true }
        guard !segment.payload.isEmpty else { return }
        let sequence = segment.flags.contains(.syn) ? segment.sequence &+ 1 : segment.sequence
        stream.early[sequence] = segment.payload
        drain(&stream, from: stream.next ?? sequence)
    }

    /// Moves what is in turn behind the bytes.
    private static func drain(_ stream: inout Stream, from start: UInt32) {
        var next = start
        while let sequence = stream.early.keys.first(where: { isAtOrBefore($0, next) }) {
            let payload = stream.early.removeValue(forKey: sequence) ?? []
            let seen = Int(next &- sequence)
            // Sent again: only what is new counts.
            guard seen < payload.count else { continue }
            stream.bytes += payload[seen...]
            next = next &+ UInt32(payload.count - seen)
        }
        stream.next = next
    }

    private static func close(_ stream: inout Stream) {
        while let next = stream.next, let first = stream.early.keys.min(by: { ($0 &- next) < ($1 &- next) }) {
            stream.hasGap = true
            drain(&stream, from: first)
        }
    }

    private static func isAtOrBefore(_ sequence: UInt32, _ next: UInt32) -> Bool {
        Int32(bitPattern: next &- sequence) >= 0
    }

    // MARK: Questions

    /// Packets and put-together streams that hold the text.
    public func occurrences(of text: String) -> Int {
        let wanted = Array(text.utf8)
        let inPackets = payloads.count { Self.contains($0, wanted) }
        return inPackets > 0 ? inPackets : streams.count { Self.contains($0.bytes, wanted) }
    }

    /// Streams to a port.
    public func streams(toPort port: UInt16) -> [Stream] { streams.filter { $0.direction.destination.port == port } }

    /// Payload bytes to and from a port.
    public func bytes(port: UInt16) -> Int {
        streams.filter { $0.direction.destination.port == port || $0.direction.source.port == port }
            .reduce(0) { $0 + $1.bytes.count }
    }

    private static func contains(_ bytes: [UInt8], _ wanted: [UInt8]) -> Bool {
        guard let first = wanted.first, bytes.count >= wanted.count else { return false }
        return bytes.withUnsafeBufferPointer { bytes in
            var position = 0
            while position <= bytes.count - wanted.count {
                if bytes[position] == first, wanted.indices.allSatisfy({ bytes[position + $0] == wanted[$0] }) {
                    return true
                }
                position += 1
            }
            return false
        }
    }
}
