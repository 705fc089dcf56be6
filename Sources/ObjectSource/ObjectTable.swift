import DequeModule
public import HashTreeCollections
import Synchronization

/// The pods of a snapshot.
public typealias PodTable = ObjectTable<Pod>

/// The objects of one kind that there are many of, by name. Copies share what they have in common, so a snapshot that
/// somebody holds costs the next change a few nodes of a tree and not a copy of a hundred thousand pods; and two snapshots
/// of one source know which objects differ between them without looking at the rest.
public struct ObjectTable<Object: Equatable & Sendable>: Sendable, Sequence, ExpressibleByDictionaryLiteral {
    public typealias Element = (key: ObjectName, value: Object)
    public typealias Keys = TreeDictionary<ObjectName, Object>.Keys
    public typealias Values = TreeDictionary<ObjectName, Object>.Values

    private var objects: TreeDictionary<ObjectName, Object> = [:]
    /// Of `objects`, by namespace.
    private var names: TreeDictionary<String, TreeSet<String>> = [:]
    private var journal = Journal()
    /// How far this table is in its journal.
    private var position = 0

    public init() {}

    public init(dictionaryLiteral elements: (ObjectName, Object)...) {
        for (name, object) in elements { set(name, object) }
    }

    public subscript(name: ObjectName) -> Object? {
        get { objects[name] }
        set {
            set(name, newValue)
            // A copy that goes its own way begins a journal of its own.
            if !journal.append(name, at: position) {
                journal = Journal()
                position = 0
                _ = journal.append(name, at: 0)
            }
            position += 1
        }
    }

    private mutating func set(_ name: ObjectName, _ object: Object?) {
        if let object {
            if objects.updateValue(object, forKey: name) == nil {
                names[name.namespace, default: []].insert(name.name)
            }
        } else if objects.removeValue(forKey: name) != nil {
            names[name.namespace]?.remove(name.name)
            if names[name.namespace]?.isEmpty == true { names[name.namespace] = nil }
        }
    }

    /// The names of the objects in a namespace, without a look at any other.
    public func names(in namespace: String) -> some Sequence<ObjectName> {
        (names[namespace] ?? []).lazy.map { ObjectName(namespace: namespace, name: $0) }
    }

    /// The names of all objects, without a copy of any of them.
    public var allNames: some Sequence<ObjectName> {
        names.lazy.flatMap { namespace, names in names.lazy.map { ObjectName(namespace: namespace, name: $0) } }
    }

    /// - Returns: What was there.
    @discardableResult
    public mutating func removeValue(forKey name: ObjectName) -> Object? {
        guard let object = objects[name] else { return nil }
        self[name] = nil
        return object
    }

    public var count: Int { objects.count }
    public var isEmpty: Bool { objects.isEmpty }
    public var keys: Keys { objects.keys }
    public var values: Values { objects.values }
    public func makeIterator() -> TreeDictionary<ObjectName, Object>.Iterator { objects.makeIterator() }

    /// Some of the objects, as a table of its own.
    public func filter(_ isIncluded: (Element) throws -> Bool) rethrows -> ObjectTable {
        var result = ObjectTable()
        for (name, object) in objects where try isIncluded((name, object)) { result.set(name, object) }
        return result
    }

    /// The names that were set or removed on the way from an earlier state to this one, whether or not they differ.
    ///
    /// - Returns: `nil` when the other is no earlier state of this one, or too early a one to say.
    public func changes(since other: ObjectTable) -> Set<ObjectName>? {
        journal === other.journal ? journal.names(other.position, position) : nil
    }

    /// The names whose objects differ between this table and another one, those that only one of them has included.
    public func difference(from other: ObjectTable) -> Set<ObjectName> {
        if let names = changes(since: other) ?? other.changes(since: self) {
            return names.filter { objects[$0] != other.objects[$0] }
        }
        var names: Set<ObjectName> = []
        for (name, object) in objects where other.objects[name] != object { names.insert(name) }
        for name in other.objects.keys where objects[name] == nil { names.insert(name) }
        return names
    }
}

extension ObjectTable: Equatable {
    public static func == (one: ObjectTable, other: ObjectTable) -> Bool {
        guard one.count == other.count else { return false }
        if let names = one.changes(since: other) ?? other.changes(since: one) {
            return names.allSatisfy { one.objects[$0] == other.objects[$0] }
        }
        return one.objects == other.objects
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
