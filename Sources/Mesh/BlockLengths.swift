import Addressing

/// How many address blocks are in use of each prefix length, by family, so that a lookup tries those lengths alone.
struct BlockLengths: Hashable, Sendable {
    private var v4: [Length] = []
    private var v6: [Length] = []

    private struct Length: Hashable, Sendable {
        let bits: Int
        var blocks: Int
    }

    mutating func add(_ block: CIDR) { change(block, by: 1) }
    mutating func remove(_ block: CIDR) { change(block, by: -1) }

    private mutating func change(_ block: CIDR, by step: Int) {
        if block.base.isV4 {
            Self.change(&v4, block.length, by: step)
        } else {
            Self.change(&v6, block.length, by: step)
        }
    }

    /// The longest first, none without blocks.
    private static func change(_ lengths: inout [Length], _ bits: Int, by step: Int) {
        let index = lengths.firstIndex { $0.bits <= bits } ?? lengths.endIndex
        if index == lengths.endIndex || lengths[index].bits != bits {
            lengths.insert(Length(bits: bits, blocks: 0), at: index)
        }
        lengths[index].blocks += step
        if lengths[index].blocks == 0 { lengths.remove(at: index) }
    }

    /// Calls the body with each block an address may be in, the smallest first.
    func forEachCandidate(for address: IPAddress, _ body: (CIDR) -> Void) {
        for length in address.isV4 ? v4 : v6 {
            if let block = CIDR(address, length: length.bits) { body(block) }
        }
    }
}
