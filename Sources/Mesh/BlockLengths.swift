import Addressing

/// How many address blocks are in use of each prefix length, by family.
struct BlockLengths: Hashable, Sendable {
    private var v4: [Int: Int] = [:]
    private var v6: [Int: Int] = [:]

    mutating func add(_ block: CIDR) { change(block, by: 1) }
    mutating func remove(_ block: CIDR) { change(block, by: -1) }

    private mutating func change(_ block: CIDR, by step: Int) {
        if block.base.isV4 {
            v4[block.length, default: 0] += step
            if v4[block.length] == 0 { v4[block.length] = nil }
        } else {
            v6[block.length, default: 0] += step
            if v6[block.length] == 0 { v6[block.length] = nil }
        }
    }

    /// The blocks an address may be in, the smallest first.
    func candidates(for address: IPAddress) -> [CIDR] {
        (address.isV4 ? v4 : v6).keys.sorted(by: >).compactMap { CIDR(address, length: $0) }
    }
}
