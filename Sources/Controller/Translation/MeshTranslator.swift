import Discovery
import Mesh
import ObjectSource

/// Follows the objects and translates again only what a change concerns (``ChangeScope``).
struct MeshTranslator: Sendable {
    enum Update {
        case all(MeshTranslation.Outcome)
        case some(Changes)
    }

    struct Changes {
        /// `nil` for those that are no workloads any more.
        var pods: [ObjectName: Workload?] = [:]
        var others: Others?
    }

    /// Of what is no pod, all where any of it may have changed.
    struct Others {
        /// As ``MeshTranslation/Prepared/others``, and nothing for those of whom there is nothing any more.
        var resources: [String: [MeshResource]]
        var warnings: [PolicyWarning]
        var conditions: [ObjectCondition]
        var clusterWarnings: [ClusterWarning]
    }

    private let translation: MeshTranslation
    private struct Last {
        let objects: ObjectSnapshot
        let remotes: [RemoteCluster]
        let contributions: [RemoteContribution]
        let prepared: MeshTranslation.Prepared
    }

    private var last: Last?

    init(_ translation: MeshTranslation) { self.translation = translation }

    /// The next update is one of everything.
    mutating func forget() { last = nil }

    /// - Parameter remotes: The other clusters of the mesh.
    mutating func update(to objects: ObjectSnapshot, _ remotes: [RemoteCluster] = []) -> Update {
        guard let last, let scope = ChangeScope(from: last.objects, to: objects, translation.configuration) else {
            return everything(objects, remotes, translation.contributions(of: remotes, to: objects))
        }
        // Most of what happens in another cluster changes nothing that it brings in.
        let contributions =
            scope.concernsOthers || remotes != last.remotes
            ? translation.contributions(of: remotes, to: objects) : last.contributions
        // Of what others bring in, pods are made with the ways into networks alone.
        guard contributions.map(\.gateways) == last.contributions.map(\.gateways) else {
            return everything(objects, remotes, contributions)
        }
        var (prepared, names, changes) = (last.prepared, scope.pods, Changes())
        if scope.concernsOthers || contributions != last.contributions {
            let isAlone = contributions.isEmpty && last.contributions.isEmpty
            prepared = translation.prepare(
                objects, contributions, reusing: isAlone ? (prepared: last.prepared, changed: scope.others) : nil)
            names.formUnion(prepared.podsNamedOtherwise(than: last.prepared))
            names.formUnion(Self.pods(of: scope, objects))
            changes.others = Self.others(
                isAlone ? scope.others.union([MeshTranslation.Prepared.wide]) : nil, last.prepared, prepared)
        }
        self.last = Last(objects: objects, remotes: remotes, contributions: contributions, prepared: prepared)
        for name in names {
            changes.pods.updateValue(objects.pods[name].flatMap { prepared.workload($0) }, forKey: name)
        }
        return .some(changes)
    }

    /// - Parameter concerned: `nil` for all there are or were.
    private static func others(
        _ concerned: Set<String>?, _ old: MeshTranslation.Prepared, _ new: MeshTranslation.Prepared
    ) -> Others {
        let concerned = concerned ?? Set(old.others.keys).union(new.others.keys)
        return Others(
            resources: Dictionary(uniqueKeysWithValues: concerned.map { ($0, new.others[$0] ?? []) }),
            warnings: new.warnings, conditions: new.conditions, clusterWarnings: new.clusterWarnings)
    }

    private mutating func everything(
        _ objects: ObjectSnapshot, _ remotes: [RemoteCluster], _ contributions: [RemoteContribution]
    ) -> Update {
        let prepared = translation.prepare(objects, contributions)
        last = Last(objects: objects, remotes: remotes, contributions: contributions, prepared: prepared)
        return .all(prepared.outcome(objects))
    }

    /// Those in namespaces and on nodes that are concerned.
    private static func pods(of scope: ChangeScope, _ objects: ObjectSnapshot) -> Set<ObjectName> {
        var names: Set<ObjectName> = []
        for namespace in scope.namespaces { names.formUnion(objects.pods.names(in: namespace)) }
        // Nodes come and go seldom.
        guard !scope.nodes.isEmpty else { return names }
        for (name, pod) in objects.pods where scope.nodes.contains(pod.spec.nodeName) { names.insert(name) }
        return names
    }
}
