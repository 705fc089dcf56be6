import Mesh

/// Which version of which resource is held: the names and versions of one type.
///
/// A table of its own, because there is an entry for everything in the mesh: it keeps the names' digests, so that growing
/// does not read all of them again, and an entry takes less than in a dictionary.
struct ResourceVersions: Sendable {
    private struct Entry: Sendable {
        let name: String
        var version: String
    }

    private let seed: UInt64 = .random(in: 0 ... .max)
    private var entries: [Entry] = []
    /// As many as entries.
    private var digests: [UInt32] = []
    /// Open addressing: one more than the entry's index, or 0. At least a quarter are free.
    private var slots: [UInt32] = []

    var count: Int { entries.count }

    /// For the control plane.
    var all: [String: String] {
        Dictionary(uniqueKeysWithValues: entries.lazy.map { ($0.name, $0.version) })
    }

    subscript(name: String) -> String? {
        guard !slots.isEmpty else { return nil }
        let index = Int(slots[slot(of: name, digest(name))]) - 1
        return index < 0 ? nil : entries[index].version
    }

    mutating func set(_ name: String, _ version: String) {
        if (entries.count + 1) * 4 > slots.count * 3 { grow() }
        let digest = digest(name)
        let slot = slot(of: name, digest)
        guard slots[slot] == 0 else {
            entries[Int(slots[slot]) - 1].version = version
            return
        }
        entries.append(Entry(name: name, version: version))
        digests.append(digest)
        slots[slot] = UInt32(entries.count)
    }

    mutating func remove(_ name: String) {
        guard !slots.isEmpty else { return }
        let free = slot(of: name, digest(name))
        guard slots[free] != 0 else { return }
        let index = Int(slots[free]) - 1
        close(free)
        // The last entry takes its place.
        let last = entries.count - 1
        if index != last {
            let moved = slot(of: entries[last].name, digests[last])
            entries.swapAt(index, last)
            digests.swapAt(index, last)
            slots[moved] = UInt32(index + 1)
        }
        entries.removeLast()
        digests.removeLast()
    }

    private func digest(_ name: String) -> UInt32 {
        UInt32(truncatingIfNeeded: WireBytes.digest(name.utf8Span.span, seed: seed))
    }

    /// Where the name is, or the free slot where it would be.
    private func slot(of name: String, _ digest: UInt32) -> Int {
        var slot = Int(digest) & (slots.count - 1)
        while slots[slot] != 0 {
            let index = Int(slots[slot]) - 1
            if digests[index] == digest, entries[index].name == name { break }
            slot = (slot + 1) & (slots.count - 1)
        }
        return slot
    }

    private mutating func grow() {
        slots = [UInt32](repeating: 0, count: max(64, slots.count * 2))
        for (index, digest) in digests.enumerated() {
            var slot = Int(digest) & (slots.count - 1)
            while slots[slot] != 0 { slot = (slot + 1) & (slots.count - 1) }
            slots[slot] = UInt32(index + 1)
        }
    }

    /// Frees a slot: whatever follows without a gap and belongs at or before it moves up.
    private mutating func close(_ free: Int) {
        let mask = slots.count - 1
        var free = free
        var next = (free + 1) & mask
        while slots[next] != 0 {
            let home = Int(digests[Int(slots[next]) - 1]) & mask
            if (next - home) & mask >= (next - free) & mask {
                slots[free] = slots[next]
                free = next
            }
            next = (next + 1) & mask
        }
        slots[free] = 0
    }
}
