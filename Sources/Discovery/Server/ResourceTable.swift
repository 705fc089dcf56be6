import Foundation
import IstioAPI
import Mesh

/// What is published of one type: the resources, encoded once, and a log of what changed when. A value.
struct ResourceTable: Sendable {
    /// Changes that are remembered one by one; a client that is further behind is compared as a whole.
    static let logLimit = 512

    struct Entry: Sendable {
        let resource: MeshResource
        let body: Data
        /// A hash of the body: the same in every process that publishes the same.
        let version: String
    }

    let typeURL: String
    private(set) var entries: [String: Entry] = [:]
    /// Counts the changes.
    private(set) var generation: UInt64 = 0
    private var log: [(generation: UInt64, names: Set<String>)] = []
    private var byAlias: [String: Set<String>] = [:]
    private var endpoints: [String: Set<String>] = [:]
    private var byNode: [String: Set<String>] = [:]

    init(typeURL: String) { self.typeURL = typeURL }

    struct Difference: Sendable {
        fileprivate var changed: [(name: String, entry: Entry)] = []
        fileprivate var removed: [String] = []
        var isEmpty: Bool { changed.isEmpty && removed.isEmpty }
    }

    /// What would have to change for these to be the resources.
    ///
    /// - Throws: What encoding throws.
    func difference(to resources: [MeshResource]) throws -> Difference {
        var names: Set<String> = []
        names.reserveCapacity(resources.count)
        var difference = try difference(setting: resources, &names)
        difference.removed = entries.keys.filter { !names.contains($0) }
        return difference
    }

    /// What would have to change for these to be among the resources, and those names not.
    func difference(setting resources: [MeshResource], removing removed: [String]) throws -> Difference {
        var names: Set<String> = []
        var difference = try difference(setting: resources, &names)
        difference.removed = removed.filter { entries[$0] != nil && !names.contains($0) }
        return difference
    }

    private func difference(setting resources: [MeshResource], _ names: inout Set<String>) throws -> Difference {
        var difference = Difference()
        for resource in resources {
            let name = resource.name
            guard names.insert(name).inserted, entries[name]?.resource != resource else { continue }
            let body = try resource.encoded()
            let version = ContentHash.of(body)
            if entries[name]?.version != version {
                difference.changed.append((name, Entry(resource: resource, body: body, version: version)))
            }
        }
        return difference
    }

    mutating func apply(_ difference: Difference) {
        guard !difference.isEmpty else { return }
        for name in difference.removed { set(name, nil) }
        for (name, entry) in difference.changed { set(name, entry) }
        generation += 1
        log.append((generation, Set(difference.changed.map(\.name)).union(difference.removed)))
        if log.count > Self.logLimit { log.removeFirst(log.count - Self.logLimit) }
    }

    /// The names that changed after a generation; `nil` when that is too long ago to say.
    func changes(since past: UInt64) -> Set<String>? {
        if past >= generation { return [] }
        guard let first = log.first, first.generation <= past + 1 else { return nil }
        return log.reduce(into: []) { names, entry in
            if entry.generation > past { names.formUnion(entry.names) }
        }
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
        func unlink(_ index: inout [String: Set<String>], _ key: String) {
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
        for byte in body { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        return String(hash, radix: 16)
    }
}
