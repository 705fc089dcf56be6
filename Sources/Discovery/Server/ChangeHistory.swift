import DequeModule
import HashTreeCollections

/// Which names changed in which generation, and what is gone: so much that a client can be told the difference without
/// anybody remembering what each client has. A value, and bounded.
struct ChangeHistory: Sendable {
    /// Names that are remembered in order of their change; with more, everything is looked through.
    static let nameLimit = 16_384
    /// Names of what is gone. A client that has not heard of one before it is forgotten has to begin anew.
    static let buriedLimit = 100_000

    private struct Grave: Sendable {
        /// Clients of this or a later generation may have had it.
        let born: UInt64
        let buried: UInt64
    }

    private var changes: Deque<(generation: UInt64, names: [String])> = []
    private var nameCount = 0
    /// Changes up to this generation are not in `changes`.
    private var begin: UInt64 = 0
    private var graves: TreeDictionary<String, Grave> = [:]
    /// In order; those that were opened again stand here still.
    private var order: Deque<(name: String, buried: UInt64)> = []
    /// The generation up to which what is gone may be forgotten.
    private(set) var horizon: UInt64 = 0

    mutating func record(_ names: [String], at generation: UInt64) {
        changes.append((generation, names))
        nameCount += names.count
        while nameCount > Self.nameLimit, let oldest = changes.popFirst() {
            nameCount -= oldest.names.count
            begin = oldest.generation
        }
    }

    /// The names that changed after a generation, each once; `nil` when that is too long ago to say.
    func names(since past: UInt64) -> Set<String>? {
        guard past >= begin else { return nil }
        var names: Set<String> = []
        for change in changes.reversed() {
            guard change.generation > past else { break }
            names.formUnion(change.names)
        }
        return names
    }

    mutating func bury(_ name: String, born: UInt64, at generation: UInt64) {
        graves[name] = Grave(born: born, buried: generation)
        order.append((name, generation))
        while order.count > Self.buriedLimit, let oldest = order.popFirst() {
            // One that was opened again, or dug anew, is not this one.
            guard graves[oldest.name]?.buried == oldest.buried else { continue }
            graves[oldest.name] = nil
            horizon = oldest.buried
        }
    }

    /// The name is back.
    ///
    /// - Returns: Since when clients may have what had it before, if that is remembered.
    mutating func unbury(_ name: String) -> UInt64? { graves.removeValue(forKey: name)?.born }

    /// Whether a client has to be told that the name is gone.
    ///
    /// - Parameters:
    ///   - told: It has been told of what was gone by this generation.
    ///   - sent: It may have what there was at this generation.
    func isGone(_ name: String, since told: UInt64, sent: UInt64) -> Bool {
        graves[name].map { $0.buried > told && $0.born <= sent } ?? false
    }

    func gone(since told: UInt64, sent: UInt64) -> [String] {
        graves.compactMap { $0.value.buried > told && $0.value.born <= sent ? $0.key : nil }
    }
}
