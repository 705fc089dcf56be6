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
        /// All that is no pod, if any of it may have changed; its resources are in no order.
        var others: MeshTranslation.Outcome?
    }

    private let translation: MeshTranslation
    private var last: (objects: ObjectSnapshot, prepared: MeshTranslation.Prepared)?

    init(_ translation: MeshTranslation) { self.translation = translation }

    /// The next update is one of everything.
    mutating func forget() { last = nil }

    mutating func update(to objects: ObjectSnapshot) -> Update {
        guard let last, let scope = ChangeScope(from: last.objects, to: objects, translation.configuration) else {
            let prepared = translation.prepare(objects)
            last = (objects, prepared)
            return .all(prepared.outcome(objects))
        }
        var (prepared, names, changes) = (last.prepared, scope.pods, Changes())
        if scope.concernsOthers {
            prepared = translation.prepare(objects)
            names.formUnion(prepared.podsNamedOtherwise(than: last.prepared))
            for (name, pod) in objects.pods
            where scope.namespaces.contains(name.namespace) || scope.nodes.contains(pod.spec.nodeName) {
                names.insert(name)
            }
            changes.others = MeshTranslation.Outcome(
                resources: prepared.others, warnings: prepared.warnings, conditions: prepared.conditions)
        }
        self.last = (objects, prepared)
        for name in names {
            changes.pods.updateValue(objects.pods[name].flatMap { prepared.workload($0) }, forKey: name)
        }
        return .some(changes)
    }
}
