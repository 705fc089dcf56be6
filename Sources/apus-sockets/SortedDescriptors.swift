import Glibc
import Handover
import LinuxNetwork

/// The descriptors of a packet by what they are said to be.
struct SortedDescriptors: ~Copyable {
    private var open: [(kind: HandoverDescriptor, raw: CInt)] = []

    deinit { for (_, raw) in open { _ = close(raw) } }

    /// - Throws: When the packet has more or fewer than are named.
    init(_ kinds: [HandoverDescriptor], _ packet: inout Packet) throws {
        guard kinds.count == packet.descriptors.count else {
            throw Refusal("\(kinds.count) descriptors are announced, \(packet.descriptors.count) came")
        }
        for kind in kinds {
            if let descriptor = packet.takeDescriptor() { open.append((kind, descriptor.release())) }
        }
    }

    /// In the order they came in.
    var kinds: [HandoverDescriptor] { open.map(\.kind) }

    func has(_ kind: HandoverDescriptor) -> Bool { open.contains { $0.kind == kind } }

    mutating func take(_ kind: HandoverDescriptor) throws -> FileDescriptor {
        guard let index = open.firstIndex(where: { $0.kind == kind }) else {
            throw Refusal("a descriptor of kind \(kind.rawValue) is missing")
        }
        return FileDescriptor(owning: open.remove(at: index).raw)
    }

    mutating func takeOne(_ kind: HandoverDescriptor) throws -> FileDescriptor {
        guard open.count(where: { $0.kind == kind }) == 1 else {
            throw Refusal("not exactly one descriptor of kind \(kind.rawValue)")
        }
        return try take(kind)
    }

    mutating func takePair(
        _ source: HandoverDescriptor, _ far: HandoverDescriptor, target: UInt32
    ) throws -> StockPair {
        let first = SeqpacketSocket(owning: try takeOne(source))
        let second = SeqpacketSocket(owning: try takeOne(far))
        for raw in [first.raw, second.raw] {
            guard try Sockets.domain(raw) == AF_UNIX, try Sockets.type(raw) == CInt(SOCK_SEQPACKET.rawValue) else {
                throw Refusal("an end of a stock is no SEQPACKET socket")
            }
        }
        return StockPair(SeqpacketSocket.Pair(first: first, second: second), target: Int(target))
    }

    func expectEmpty() throws {
        guard let left = open.first else { return }
        throw Refusal("a descriptor of kind \(left.kind.rawValue) that this keeper does not expect")
    }
}
