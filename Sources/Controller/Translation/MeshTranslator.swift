import Mesh
import ObjectSource

/// Follows the objects and translates again only what a change concerns.
///
/// A pod concerns nobody but itself, so a change of pods alone is a translation of those. Any other change is one of
/// everything: it may concern any pod, and is rare beside them.
struct MeshTranslator: Sendable {
    enum Update {
        case all(MeshTranslation.Outcome)
        /// `nil` for those that are no workloads any more.
        case pods([ObjectName: Workload?])
    }

    private let translation: MeshTranslation
    private struct Last {
        var objects: ObjectSnapshot
        var remotes: [RemoteCluster]
        var contributions: [RemoteContribution]
        let prepared: MeshTranslation.Prepared
    }

    private var last: Last?

    init(_ translation: MeshTranslation) { self.translation = translation }

    /// The next update is one of everything.
    mutating func forget() { last = nil }

    mutating func update(to objects: ObjectSnapshot, _ remotes: [RemoteCluster] = []) -> Update {
        if let last, differsInPodsAlone(last.objects, objects) {
            // Most of what happens in another cluster changes nothing that it brings in.
            let same = remotes == last.remotes
            let contributions = same ? last.contributions : translation.contributions(of: remotes, to: objects)
            if contributions == last.contributions {
                self.last?.objects = objects
                self.last?.remotes = remotes
                return .pods(Self.changes(from: last.objects.pods, to: objects.pods, last.prepared))
            }
        }
        let contributions = translation.contributions(of: remotes, to: objects)
        let prepared = translation.prepare(objects, contributions)
        last = Last(objects: objects, remotes: remotes, contributions: contributions, prepared: prepared)
        return .all(prepared.outcome(objects))
    }

    /// Dictionaries that are still the same copy are compared by that.
    private func differsInPodsAlone(_ old: ObjectSnapshot, _ new: ObjectSnapshot) -> Bool {
        // There a policy lists the accounts of a waypoint's pods.
        guard !translation.configuration.allowsWaypointsOnly else { return false }
        var old = old
        old.version = new.version
        old.problems = new.problems
        old.pods = new.pods
        return old == new
    }

    private static func changes(
        from old: PodTable, to new: PodTable, _ prepared: MeshTranslation.Prepared
    ) -> [ObjectName: Workload?] {
        var result: [ObjectName: Workload?] = [:]
        if let names = new.changes(since: old) {
            for name in names where old[name] != new[name] {
                result.updateValue(new[name].flatMap { prepared.workload($0) }, forKey: name)
            }
            return result
        }
        for (name, pod) in new where old[name] != pod { result.updateValue(prepared.workload(pod), forKey: name) }
        for name in old.keys where new[name] == nil { result.updateValue(nil, forKey: name) }
        return result
    }
}
