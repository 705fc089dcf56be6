/// One packet of a pod's stock: prepared outgoing sockets, and of which family each is.
///
/// No protobuf: one byte per descriptor, 4 or 6, in the descriptors' order. The sockets are non-blocking and
/// unconnected; mark, transparency, keepalive and no-delay are set. A family of 6 means dual-stack: it reaches IPv4
/// too, as `::ffff:a.b.c.d`.
public struct StockMessage: Hashable, Sendable {
    public enum Family: UInt8, Hashable, Sendable, CaseIterable {
        case v4 = 4
        case v6 = 6
    }

    /// Most sockets a packet carries.
    public static let maximumSockets = 32

    public var families: [Family]

    public init(_ families: [Family]) { self.families = families }

    /// Decodes a packet's bytes; `descriptors` is how many came with it, which must be as many.
    public init(decoding bytes: [UInt8], descriptors: Int) throws(HandoverError) {
        guard !bytes.isEmpty else { throw HandoverError(.missing, "StockMessage: no sockets") }
        guard bytes.count <= Self.maximumSockets else {
            throw HandoverError(.tooMany, "StockMessage: \(bytes.count) sockets, the limit is \(Self.maximumSockets)")
        }
        guard bytes.count == descriptors else {
            throw HandoverError(
                .truncated, "StockMessage: \(bytes.count) families for \(descriptors) descriptors")
        }
        families = []
        for byte in bytes {
            guard let family = Family(rawValue: byte) else {
                throw HandoverError(.outOfRange, "StockMessage: \(byte) is no address family")
            }
            families.append(family)
        }
    }

    public func encoded() -> [UInt8] { families.map(\.rawValue) }
}
