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
    /// Names of the pods of `last`, by namespace.
    private var pods: [String: Set<String>] = [:]

    init(_ translation: MeshTranslation) { self.translation = translation }

    /// The next update is one of everything.
    mutating func forget() {
        last = nil
        pods = [:]
    }

    mutating func update(to objects: ObjectSnapshot) -> Update {
        guard let last, let scope = ChangeScope(from: last.objects, to: objects, translation.configuration) else {
            let prepared = translation.prepare(objects)
            last = (objects, prepared)
            pods = objects.pods.keys.reduce(into: [:]) { $0[$1.namespace, default: []].insert($1.name) }
            return .all(prepared.outcome(objects))
        }
        for name in scope.pods { note(name, isThere: objects.pods[name] != nil) }
        var (prepared, names, changes) = (last.prepared, scope.pods, Changes())
        if scope.concernsOthers {
            prepared = translation.prepare(objects)
            names.formUnion(prepared.podsNamedOtherwise(than: last.prepared))
            for namespace in scope.namespaces {
                for name in pods[namespace] ?? [] { names.insert(ObjectName(namespace: namespace, name: name)) }
            }
            // Nodes come and go seldom.
            if !scope.nodes.isEmpty {
                for (name, pod) in objects.pods where scope.nodes.contains(pod.spec.nodeName) { names.insert(name) }
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

    private mutating func note(_ pod: ObjectName, isThere: Bool) {
        guard !isThere else {
            pods[pod.namespace, default: []].insert(pod.name)
            return
        }
        pods[pod.namespace]?.remove(pod.name)
        if pods[pod.namespace]?.isEmpty == true { pods[pod.namespace] = nil }
    }
}
