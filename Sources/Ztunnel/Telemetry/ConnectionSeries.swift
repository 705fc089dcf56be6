import Mesh

/// What is known of one label set of the connection metrics: whom it counts for, and since when nothing was counted.
struct ConnectionSeries {
    /// After the last count, so that the last scrape sees it.
    static let grace: UInt64 = 5 * 60 * 1_000_000_000
    /// Of a peer that no record of the mesh stands for, and whose name comes from itself.
    static let strangerGrace: UInt64 = 60 * 60 * 1_000_000_000

    let counters: ConnectionCounters
    private var sources: [String] = []
    private var destinations: [String] = []
    private var hasStranger = false
    private var total: UInt64 = 0
    private var changedAt: UInt64

    /// So many pods stand for each side; of more, those that came last.
    private static let remembered = 16

    init(_ counters: ConnectionCounters, at now: UInt64) {
        self.counters = counters
        changedAt = now
    }

    mutating func used(by source: Party, _ destination: Party, at now: UInt64) -> ConnectionCounters {
        Self.note(source, in: &sources)
        Self.note(destination, in: &destinations)
        if source.isStranger || destination.isStranger { hasStranger = true }
        changedAt = now
        counters.isRetired = false
        return counters
    }

    private static func note(_ party: Party, in list: inout [String]) {
        guard let uid = party.workload?.uid, !list.contains(uid) else { return }
        if list.count == remembered { list.removeFirst() }
        list.append(uid)
    }

    /// Whether it can be taken out now. The first time that it could be it is only announced.
    mutating func isOver(_ mesh: MeshState, at now: UInt64) -> Bool {
        let seen = counters.total
        if seen != total || counters.isOpen {
            total = seen
            changedAt = now
        }
        let idle = now - changedAt
        guard idle >= Self.grace, isGone(mesh) || hasStranger && idle >= Self.strangerGrace else {
            counters.isRetired = false
            return false
        }
        defer { counters.isRetired = true }
        return counters.isRetired
    }

    private func isGone(_ mesh: MeshState) -> Bool {
        [sources, destinations].contains { side in
            !side.isEmpty && side.allSatisfy { mesh.workload(uid: $0) == nil }
        }
    }
}

extension Party {
    /// Known by what it says or proves alone.
    var isStranger: Bool { workload == nil && (principal != nil || baggage != nil) }
}
