import Foundation
import HashTreeCollections
import IstioAPI
import Mesh
import SwiftProtobuf

/// What is published of one type: the resources, each encoded once, and what changed when.
///
/// A value whose copies share what they have in common: whoever serves a client takes a copy and works on it while
/// others publish.
struct ResourceTable: Sendable {
    struct Entry: Sendable {
        let resource: MeshResource
        /// The resource as it stands in a response, its tag and length before it: the same bytes for every client.
        let wire: [UInt8]
        /// A hash of the message: the same in every process that publishes the same.
        let version: String
        /// The generation that made it what it is.
        fileprivate(set) var changed: UInt64 = 0
        /// The generation since which some client may have it.
        fileprivate(set) var born: UInt64 = 0
    }

    let typeURL: String
    private(set) var entries: TreeDictionary<String, Entry> = [:]
    /// Counts the changes.
    private(set) var generation: UInt64 = 0
    /// The generation that last brought a name that was not there before.
    private(set) var lastAddition: UInt64 = 0
    /// The generation that last took a name away.
    private(set) var lastRemoval: UInt64 = 0
    private var history = ChangeHistory()
    private var byAlias: TreeDictionary<String, Set<String>> = [:]
    private var endpoints: TreeDictionary<String, Set<String>> = [:]
    private var byNode: TreeDictionary<String, Set<String>> = [:]
    /// Of this generation: what several clients are sent is put together once.
    private var bodies = SharedBodies()

    init(typeURL: String) { self.typeURL = typeURL }

    struct Difference: Sendable {
        fileprivate var changed: [(name: String, entry: Entry)] = []
        fileprivate var removed: [String] = []
        var isEmpty: Bool { changed.isEmpty && removed.isEmpty }
    }

    /// What would have to change for these to be the resources.
    ///
    /// - Throws: What encoding throws.
    func difference(to resources: some Sequence<MeshResource>) throws -> Difference {
        var names: Set<String> = []
        names.reserveCapacity(entries.count)
        var difference = try difference(setting: resources, &names)
        difference.removed = entries.keys.filter { !names.contains($0) }
        return difference
    }

    /// What would have to change for these to be among the resources, and those names not.
    func difference(
        setting resources: some Sequence<MeshResource>, removing removed: Set<String>
    ) throws -> Difference {
        var names: Set<String> = []
        var difference = try difference(setting: resources, &names)
        difference.removed = removed.filter { entries[$0] != nil && !names.contains($0) }
        return difference
    }

    private func difference(
        setting resources: some Sequence<MeshResource>, _ names: inout Set<String>
    ) throws -> Difference {
        var difference = Difference()
        for resource in resources {
            let name = resource.name
            guard names.insert(name).inserted, entries[name]?.resource != resource else { continue }
            let body = try resource.encoded()
            let version = ContentHash.of(body)
            if entries[name]?.version != version {
                let wire = try DiscoveryPush.field(resource, name: name, version: version, body: body)
                difference.changed.append((name, Entry(resource: resource, wire: wire, version: version)))
            }
        }
        return difference
    }

    mutating func apply(_ difference: Difference) {
        guard !difference.isEmpty else { return }
        generation += 1
        bodies = SharedBodies()
        if !difference.removed.isEmpty { lastRemoval = generation }
        if difference.changed.contains(where: { entries[$0.name] == nil }) { lastAddition = generation }
        for name in difference.removed {
            if let entry = entries[name] { history.bury(name, born: entry.born, at: generation) }
            set(name, nil)
        }
        for (name, entry) in difference.changed {
            var entry = entry
            entry.changed = generation
            // A client may still have what had the name before, whenever that went.
            let buried = history.unbury(name)
            entry.born = entries[name]?.born ?? buried ?? generation
            set(name, entry)
        }
        history.record(difference.changed.map(\.name) + difference.removed, at: generation)
    }

    /// Names of what is new or different since a generation, and of what some client of that generation has and is gone.
    struct Changes: Equatable {
        var present: [String] = []
        var gone: [String] = []
    }

    /// - Parameters:
    ///   - sent: The generation that the client has.
    ///   - told: The generation up to which it was told of what is gone; `nil`: it is not told of that now.
    /// - Returns: `nil` when what is gone since then is not remembered any more.
    func changes(since sent: UInt64, told: UInt64?) -> Changes? {
        let oldest = min(sent, told ?? sent)
        // Who has nothing yet need not hear of what is gone.
        guard sent == 0 || oldest >= history.horizon else { return nil }
        guard oldest < generation else { return Changes() }
        var changes = Changes()
        if let names = history.names(since: oldest) {
            for name in names {
                if let entry = entries[name] {
                    if entry.changed > sent { changes.present.append(name) }
                } else if let told, history.isGone(name, since: told, sent: sent) {
                    changes.gone.append(name)
                }
            }
        } else {
            for (name, entry) in entries where entry.changed > sent { changes.present.append(name) }
            if let told { changes.gone = history.gone(since: told, sent: sent) }
        }
        return changes
    }

    /// What a client that has everything of a generation is sent, put together once for all of them.
    ///
    /// - Returns: `nil` when ``changes(since:told:)`` is.
    func body(since sent: UInt64, told: UInt64?) -> DiscoveryPush.Body? {
        bodies.body(SharedBodies.Key(sent: sent, told: told)) {
            changes(since: sent, told: told).map { body($0.present.compactMap { entries[$0] }, removed: $0.gone) }
        }
    }

    func body(_ entries: [Entry], removed: [String]) -> DiscoveryPush.Body {
        DiscoveryPush.Body(typeURL: typeURL, version: String(generation), entries: entries, removed: removed)
    }

    /// The versions of what a client has that has everything of a generation; of what is gone and it was not told of, none.
    ///
    /// - Returns: `nil` when ``changes(since:told:)`` is.
    func versions(asOf sent: UInt64, told: UInt64) -> [String: String]? {
        guard sent > 0 else { return [:] }
        guard told >= history.horizon else { return nil }
        var versions: [String: String] = [:]
        // What has changed since is there in another version: as good as none.
        for (name, entry) in entries where entry.born <= sent {
            versions[name] = entry.changed <= sent ? entry.version : ""
        }
        for name in history.gone(since: told, sent: sent) { versions[name] = "" }
        return versions
    }

    /// The resources a name asked for stands for: a workload by uid or address, a service by key or address with all
    /// its endpoints.
    func resolve(_ name: String) -> Set<String> {
        let direct: Set<String> = entries[name] == nil ? byAlias[name] ?? [] : [name]
        return direct.reduce(into: direct) { names, name in
            if case .service? = entries[name]?.resource { names.formUnion(endpoints[name] ?? []) }
        }
    }

    func workloads(onNode node: String) -> Set<String> { node.isEmpty ? [] : byNode[node] ?? [] }

    private mutating func set(_ name: String, _ entry: Entry?) {
        func unlink(_ index: inout TreeDictionary<String, Set<String>>, _ key: String) {
            index[key]?.remove(name)
            if index[key]?.isEmpty == true { index[key] = nil }
        }
        if let old = entries[name] {
            for alias in old.resource.aliases { unlink(&byAlias, alias) }
            if case .workload(let workload) = old.resource {
                for service in workload.services.keys { unlink(&endpoints, service.description) }
                unlink(&byNode, workload.node)
            }
        }
        entries[name] = entry
        guard let entry else { return }
        for alias in entry.resource.aliases { byAlias[alias, default: []].insert(name) }
        if case .workload(let workload) = entry.resource {
            for service in workload.services.keys { endpoints[service.description, default: []].insert(name) }
            if !workload.node.isEmpty { byNode[workload.node, default: []].insert(name) }
        }
    }
}

/// FNV-1a, 64 bits: tells two states of one resource apart; nobody gains by a collision with himself.
enum ContentHash {
    static func of(_ body: Data) -> String {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        // Bytes of `Data` one by one cost several times as much.
        for byte in [UInt8](body) { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        return String(hash, radix: 16)
    }
}
