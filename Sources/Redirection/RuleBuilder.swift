import Addressing
import LinuxNetwork
import Netlink

/// Writes a rule's expressions the way the nft tool does, so that its listing shows them in its own words.
struct RuleBuilder {
    private(set) var expressions: [Nftables.Expression] = []

    mutating func family(_ family: IPAddress.Family) {
        expressions += [.loadMeta(.networkProtocol), .compare(.equal, [family.kernelNumber])]
    }

    mutating func tcp() {
        expressions += [.loadMeta(.transportProtocol), .compare(.equal, [6])]
    }

    /// Compares an address; ``family(_:)`` must have been said.
    mutating func source(_ address: IPAddress) {
        expressions += [
            .loadPayload(.network, offset: address.isV4 ? 12 : 8, length: UInt32(address.bytes.count)),
            .compare(.equal, address.bytes),
        ]
    }

    mutating func destination(_ comparison: Nftables.Comparison, _ address: IPAddress) {
        expressions += [
            .loadPayload(.network, offset: address.isV4 ? 16 : 24, length: UInt32(address.bytes.count)),
            .compare(comparison, address.bytes),
        ]
    }

    /// Compares the destination port; ``tcp()`` or ``udp()`` must have been said.
    mutating func destinationPort(_ comparison: Nftables.Comparison, _ port: UInt16) {
        expressions += [
            .loadPayload(.transport, offset: 2, length: 2), .compare(comparison, Self.bigEndian(port)),
        ]
    }

    /// Compares the source port; ``tcp()`` or ``udp()`` must have been said.
    mutating func sourcePort(_ comparison: Nftables.Comparison, _ port: UInt16) {
        expressions += [
            .loadPayload(.transport, offset: 0, length: 2), .compare(comparison, Self.bigEndian(port)),
        ]
    }

    mutating func udp() {
        expressions += [.loadMeta(.transportProtocol), .compare(.equal, [17])]
    }

    /// A DNS message over UDP that is a query (RFC 1035 section 4.1.1: QR and OPCODE are zero); ``udp()`` must have been
    /// said. Behind the eight bytes of UDP come two of the id, then the flags.
    mutating func dnsQuery() {
        expressions += [
            .loadPayload(.transport, offset: 10, length: 1), .bitwise(mask: [0xf8], xor: [0]), .compare(.equal, [0]),
        ]
    }

    /// Lets conntrack keep the packet's connection apart from those of other zones.
    mutating func setZone(_ zone: UInt16) {
        expressions += [.immediate(withUnsafeBytes(of: zone) { Array($0) }), .setConntrackZone]
    }

    mutating func inputInterface(_ name: String, _ comparison: Nftables.Comparison = .equal) {
        expressions += [.loadMeta(.inputName), .compare(comparison, Self.padded(name))]
    }

    mutating func outputInterface(_ name: String, _ comparison: Nftables.Comparison = .equal) {
        expressions += [.loadMeta(.outputName), .compare(comparison, Self.padded(name))]
    }

    /// An interface's name as the kernel holds it. No longer one gets here: ``RedirectionPlan`` lets none in.
    private static func padded(_ name: String) -> [UInt8] {
        let text = Array(name.utf8.prefix(InterfaceName.mostBytes))
        return text + Array(repeating: 0, count: 16 - text.count)
    }

    mutating func mark(_ comparison: Nftables.Comparison, _ mark: UInt32, mask: UInt32) {
        expressions.append(.loadMeta(.mark))
        masked(comparison, mark, mask)
    }

    /// What the proxy does not send itself. With creators known that was accepted before, and a mark means nothing.
    mutating func unlessOwn(_ plan: RedirectionPlan) {
        if plan.creators.isEmpty { mark(.notEqual, Mark.ztunnel, mask: Mark.mask) }
    }

    /// The packet's socket was made by this creator's processes.
    mutating func made(by creator: SocketCreator) {
        expressions += [
            .loadSocketCgroup(level: creator.level),
            .compare(.equal, withUnsafeBytes(of: creator.cgroup) { Array($0) }),
        ]
    }

    mutating func newConnection() {
        expressions += [
            .loadConntrack(.state),
            .bitwise(mask: Self.native(Nftables.ConntrackState.new), xor: Self.native(0)),
            .compare(.notEqual, Self.native(0)),
        ]
    }

    /// The first packet of a connection, from the side that opens it; ``tcp()`` must have been said.
    mutating func opens() {
        // The flags SYN (2) and ACK (16).
        expressions += [
            .loadPayload(.transport, offset: 13, length: 1), .bitwise(mask: [0x12], xor: [0]), .compare(.equal, [0x02]),
        ]
    }

    /// The connection's destination was translated.
    mutating func translated() {
        expressions += [
            .loadConntrack(.status),
            .bitwise(mask: Self.native(Nftables.ConntrackStatus.destinationTranslated), xor: Self.native(0)),
            .compare(.notEqual, Self.native(0)),
        ]
    }

    /// Compares a port of the packet's connection; ``tcp()`` must have been said.
    mutating func connectionPort(_ which: Nftables.ConntrackPort, _ port: UInt16) {
        expressions += [.loadConntrackPort(which), .compare(.equal, Self.bigEndian(port))]
    }

    /// Matches when the packet is for an address and port of the set; ``family(_:)`` and ``tcp()`` must have been said.
    mutating func destinationAndPort(_ family: IPAddress.Family, in set: String) {
        let (offset, length): (UInt32, UInt32) = family == .v4 ? (16, 4) : (24, 16)
        expressions += [
            .loadPayload(.network, offset: offset, length: length),
            .loadPayloadBeside(.transport, offset: 2, length: 2, word: length / 4), .lookup(set),
        ]
    }

    /// Matches when the packet is for an address of the set; ``family(_:)`` must have been said.
    mutating func destination(_ family: IPAddress.Family, in set: String) {
        let (offset, length): (UInt32, UInt32) = family == .v4 ? (16, 4) : (24, 16)
        expressions += [.loadPayload(.network, offset: offset, length: length), .lookup(set)]
    }

    /// Compares the id of the cgroup that the sending socket's is, or is beneath, `level` steps below the root. Does
    /// not match without a socket, or when there is no such cgroup.
    mutating func socketCgroup(_ comparison: Nftables.Comparison, level: UInt32, id: UInt64) {
        expressions += [.loadSocketCgroup(level: level), .compare(comparison, withUnsafeBytes(of: id) { Array($0) })]
    }

    /// What a frame between ports of a bridge carries.
    mutating func frame(_ family: IPAddress.Family) {
        expressions += [.loadMeta(.etherType), .compare(.equal, family == .v4 ? [0x08, 0x00] : [0x86, 0xdd])]
    }

    /// Takes the bits of `mask` out of the packet's mark.
    mutating func clearMark(mask: UInt32) { setMark(0, mask: mask) }

    mutating func drop() { expressions.append(.verdict(.drop)) }

    mutating func sourceNAT(to address: IPAddress) {
        expressions += [.immediate(address.bytes), .sourceNAT(address.isV4 ? .v4 : .v6)]
    }

    mutating func counter() { expressions.append(.counter) }

    /// Sets the bits of `mask` in the packet's mark to those of `mark`.
    mutating func setMark(_ mark: UInt32, mask: UInt32) {
        expressions += [
            .loadMeta(.mark), .bitwise(mask: Self.native(~mask), xor: Self.native(mark)), .setMark,
        ]
    }

    mutating func notrack() { expressions.append(.notrack) }

    mutating func accept() { expressions.append(.verdict(.accept)) }

    mutating func redirect(to port: UInt16) { expressions += [.immediate(Self.bigEndian(port)), .redirect] }

    private mutating func masked(_ comparison: Nftables.Comparison, _ mark: UInt32, _ mask: UInt32) {
        expressions += [
            .bitwise(mask: Self.native(mask), xor: Self.native(0)), .compare(comparison, Self.native(mark)),
        ]
    }

    private static func native(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }
    private static func bigEndian(_ port: UInt16) -> [UInt8] { [UInt8(port >> 8), UInt8(port & 255)] }
}
