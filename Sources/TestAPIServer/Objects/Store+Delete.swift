import Kubernetes

struct DeleteOptions: Sendable {
    var uid: String?
    var resourceVersion: String?
    /// RFC 3339.
    var time = "1970-01-01T00:00:00Z"
}

extension Store {
    /// - Returns: The object, and whether it is gone; otherwise finalizers keep it for now.
    mutating func delete(
        _ kind: ResourceKind, _ id: ID, _ options: DeleteOptions
    ) throws(APIFailure) -> (object: JSON, isGone: Bool) {
        guard let object = get(kind, id) else { throw .notFound(kind, id.name) }
        if let uid = options.uid, uid != object.uid {
            throw .conflict(
                kind, id.name, "Precondition failed: UID in precondition: \(uid), UID in object meta: \(object.uid)")
        }
        if let wanted = options.resourceVersion, wanted != object.resourceVersion {
            throw .conflict(
                kind, id.name,
                "Precondition failed: ResourceVersion in precondition: \(wanted), ResourceVersion in object meta: "
                    + object.resourceVersion)
        }
        if kind.key == "namespaces" { return deleteNamespace(object, kind, id, options) }
        if kind.key == "customresourcedefinitions.apiextensions.k8s.io" { deleteInstances(of: object, options) }
        guard object.finalizers.isEmpty else {
            return (object.isBeingDeleted ? object : mark(object, kind, id, options), false)
        }
        return (record(nil, kind, id), true)
    }

    /// All objects of a kind that are selected.
    mutating func deleteAll(
        _ kind: ResourceKind, _ filter: ObjectFilter, _ options: DeleteOptions
    ) throws(APIFailure) -> [JSON] {
        let found = (objects[kind.key] ?? [:]).filter { filter.matches($0.value) }.keys.sorted()
        var result: [JSON] = []
        for id in found { result.append(try delete(kind, id, options).object) }
        return result
    }

    private mutating func mark(_ object: JSON, _ kind: ResourceKind, _ id: ID, _ options: DeleteOptions) -> JSON {
        var object = object
        object.set(.string(options.time), at: "metadata", "deletionTimestamp")
        object.set(0, at: "metadata", "deletionGracePeriodSeconds")
        return record(object, kind, id)
    }

    /// A namespace takes what is in it along, as its controller sees to in a cluster. What finalizers keep keeps it, too.
    private mutating func deleteNamespace(
        _ object: JSON, _ kind: ResourceKind, _ id: ID, _ options: DeleteOptions
    ) -> (object: JSON, isGone: Bool) {
        var object = object
        if !object.isBeingDeleted {
            object.set("Terminating", at: "status", "phase")
            object = mark(object, kind, id, options)
        }
        for inner in kinds.all.values.sorted(by: { $0.key < $1.key }) where inner.isNamespaced {
            for place in (objects[inner.key] ?? [:]).keys.sorted() where place.namespace == id.name {
                // It exists, and nothing is asked of its state.
                _ = try? delete(inner, place, DeleteOptions(time: options.time))
            }
        }
        let isEmpty = !kinds.all.values.contains { inner in
            inner.isNamespaced && (objects[inner.key] ?? [:]).keys.contains { $0.namespace == id.name }
        }
        guard isEmpty, object.finalizers.isEmpty else { return (object, false) }
        return (record(nil, kind, id), true)
    }

    private mutating func deleteInstances(of definition: JSON, _ options: DeleteOptions) {
        guard let kind = ResourceKind(definition: definition) else { return }
        for id in (objects[kind.key] ?? [:]).keys.sorted() {
            // It exists, and nothing is asked of its state.
            _ = try? delete(kind, id, DeleteOptions(time: options.time))
        }
    }

    // MARK: What a cluster's own controllers do

    /// A namespace gets its service account and the cluster's authorities; a secret of neither is made.
    mutating func afterCreation(of object: JSON, _ kind: ResourceKind, _ options: WriteOptions) {
        guard kind.key == "namespaces" else { return }
        func make(_ plural: String, _ body: JSON) {
            guard let kind = kinds.all[plural] else { return }
            var options = options
            options.version = "v1"
            options.fieldManager = "kube-controller-manager"
            // It is new, so nothing is in its way.
            _ = try? create(body, kind, namespace: object.name, options)
        }
        make("serviceaccounts", ["metadata": ["name": "default"]])
        if let authority {
            make("configmaps", ["metadata": ["name": "kube-root-ca.crt"], "data": ["ca.crt": .string(authority)]])
        }
    }

    /// A namespace whose last object has gone by its finalizer goes, too.
    mutating func sweepNamespaces() {
        guard let kind = kinds.all["namespaces"] else { return }
        for (id, object) in objects[kind.key] ?? [:] where object.isBeingDeleted && object.finalizers.isEmpty {
            let isEmpty = !kinds.all.values.contains { inner in
                inner.isNamespaced && (objects[inner.key] ?? [:]).keys.contains { $0.namespace == id.name }
            }
            if isEmpty { record(nil, kind, id) }
        }
    }
}
