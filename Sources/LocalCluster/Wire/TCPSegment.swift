import Addressing

/// A TCP segment found in an Ethernet frame.
public struct TCPSegment: Sendable, Hashable {
    public struct Flags: OptionSet, Sendable, Hashable {
        public let rawValue: UInt8
        public init(rawValue: UInt8) { self.rawValue = rawValue }
        public static let fin = Flags(rawValue: 1)
        public static let syn = Flags(rawValue: 2)
        public static let reset = Flags(rawValue: 4)
        public static let acknowledgement = Flags(rawValue: 16)
    }

    public var source: Endpoint
    public var destination: Endpoint
    public var sequence: UInt32
    public var flags: Flags
    public var payload: [UInt8]

    public init(source: Endpoint, destination: Endpoint, sequence: UInt32, flags: Flags, payload: [UInt8]) {
        self.source = source
        self.destination = destination
        self.sequence = sequence
        self.flags = flags
        self.payload = payload
    }

    /// Reads Ethernet, then IPv4 or IPv6, then TCP. `nil` for anything else, fragments and extension headers included:
    /// the pods' traffic has none.
    public init?(frame: ArraySlice<UInt8>) {
        var bytes = Fields(frame)
        guard bytes.skip(12), let type = bytes.u16() else { return nil }
        let source: IPAddress
        let destination: IPAddress
        let length: Int
        switch type {
        case 0x0800:
            guard let first = bytes.u8(), first >> 4 == 4, bytes.skip(1), let total = bytes.u16(), bytes.skip(2),
                let fragment = bytes.u16(), fragment & 0x3fff == 0, bytes.skip(1), bytes.u8() == 6, bytes.skip(2),
                let from = bytes.take(4).flatMap({ IPAddress(bytes: $0) }),
                let to = bytes.take(4).flatMap({ IPAddress(bytes: $0) })
            else { return nil }
            let header = Int(first & 15) * 4
            guard header >= 20, bytes.skip(header - 20) else { return nil }
            (source, destination) = (from, to)
            // A segment that the network card is to cut says 0: it goes on to the end of the frame.
            length = total == 0 ? bytes.left : Int(total) - header
        case 0x86dd:
            guard let first = bytes.u8(), first >> 4 == 6, bytes.skip(3), let total = bytes.u16(), bytes.u8() == 6,
                bytes.skip(1), let from = bytes.take(16).flatMap({ IPAddress(bytes: $0) }),
                let to = bytes.take(16).flatMap({ IPAddress(bytes: $0) })
            else { return nil }
            (source, destination) = (from, to)
            length = total == 0 ? bytes.left : Int(total)
        default:
            return nil
        }
        guard length >= 20, length <= bytes.left, let sourcePort = bytes.u16(), let destinationPort = bytes.u16(),
            let sequence = bytes.u32(), bytes.skip(4), let offset = bytes.u8(), let flags = bytes.u8(), bytes.skip(6)
        else { return nil }
        let header = Int(offset >> 4) * 4
        guard header >= 20, header <= length, bytes.skip(header - 20), let payload = bytes.take(length - header) else {
            return nil
        }
        self.init(
            source: Endpoint(source, sourcePort), destination: Endpoint(destination, destinationPort),
            sequence: sequence, flags: Flags(rawValue: flags), payload: Array(payload))
    }

    /// Numbers in network order, never beyond the end.
    private struct Fields {
        private var rest: ArraySlice<UInt8>
        init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

        var left: Int { rest.count }

        mutating func take(_ count: Int) -> ArraySlice<UInt8>? {
            guard count >= 0, rest.count >= count else { return nil }
            defer { rest = rest.dropFirst(count) }
            return rest.prefix(count)
        }
        mutating func skip(_ count: Int) -> Bool { take(count) != nil }
        mutating func u8() -> UInt8? { take(1)?.first }
        mutating func u16() -> UInt16? { take(2).map { $0.reduce(0) { $0 << 8 | UInt16($1) } } }
        mutating func u32() -> UInt32? { take(4).map { $0.reduce(0) { $0 << 8 | UInt32($1) } } }
    }
}
