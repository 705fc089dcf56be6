import DequeModule
public import HashTreeCollections
import Synchronization

/// The pods of a snapshot, by name. Copies share what they have in common, so a snapshot that somebody holds costs the
/// next change a few nodes of a tree and not a copy of a hundred thousand pods; and two snapshots of one source know
/// which pods differ between them without looking at the rest.
public struct PodTable: Sendable, Sequence, ExpressibleByDictionaryLiteral {
    public typealias Element = (key: ObjectName, value: Pod)
    public typealias Keys = TreeDictionary<ObjectName, Pod>.Keys
    public typealias Values = TreeDictionary<ObjectName, Pod>.Values

    private var pods: TreeDictionary<ObjectName, Pod> = [:]
    private var journal = Journal()
    /// How far this table is in its journal.
    private var position = 0

    public init() {}

    public init(dictionaryLiteral elements: (ObjectName, Pod)...) {
        for (name, pod) in elements { pods[name] = pod }
    }

    public subscript(name: ObjectName) -> Pod? {
        get { pods[name] }
        set {
            pods[name] = newValue
            // A copy that goes its own way begins a journal of its own.
            if !journal.append(name, at: position) {
                journal = Journal()
                position = 0
                _ = journal.append(name, at: 0)
            }
            position += 1
        }
    }

    /// - Returns: What was there.
    @discardableResult
    public mutating func removeValue(forKey name: ObjectName) -> Pod? {
        guard let pod = pods[name] else { return nil }
        self[name] = nil
        return pod
    }

    public var count: Int { pods.count }
    public var isEmpty: Bool { pods.isEmpty }
    public var keys: Keys { pods.keys }
    public var values: Values { pods.values }
    public func makeIterator() -> TreeDictionary<ObjectName, Pod>.Iterator { pods.makeIterator() }

    /// The names that were set or removed on the way from an earlier state to this one, whether or not they differ.
    ///
    /// - Returns: `nil` when the other is no earlier state of this one, or too early a one to say.
    public func changes(since other: PodTable) -> Set<ObjectName>? {
        journal === other.journal ? journal.names(other.position, position) : nil
    }
}

extension PodTable: Equatable {
    public static func == (one: PodTable, other: PodTable) -> Bool {
        guard one.count == other.count else { return false }
        if let names = one.changes(since: other) ?? other.changes(since: one) {
            return names.allSatisfy { one.pods[$0] == other.pods[$0] }
        }
        return one.pods == other.pods
    }
}

/// What was changed, in order, along one line of states.
private final class Journal: Sendable {
    /// Those that are further apart are compared as a whole.
    static let limit = 4096

    private let entries = Mutex((begin: 0, names: Deque<ObjectName>()))

    /// - Returns: False when the line has gone on from there already.
    func append(_ name: ObjectName, at position: Int) -> Bool {
        entries.withLock { entries in
            guard entries.begin + entries.names.count == position else { return false }
            entries.names.append(name)
            if entries.names.count > Self.limit {
                entries.names.removeFirst()
                entries.begin += 1
            }
            return true
        }
    }

    func names(_ from: Int, _ to: Int) -> Set<ObjectName>? {
        entries.withLock { entries in
            guard from >= entries.begin, from <= to else { return nil }
            return Set(entries.names[(from - entries.begin)..<(to - entries.begin)])
        }
    }
}
