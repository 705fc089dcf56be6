import Kubernetes

/// How a request wants an object to be written.
struct WriteOptions: Sendable {
    var isDryRun = false
    var fieldManager = "unknown"
    /// Of server-side apply: take fields over.
    var isForced = false
    /// RFC 3339, whole seconds.
    var time = "1970-01-01T00:00:00Z"
    /// `status`, or empty.
    var subresource = ""
    /// The version that the request's path names.
    var version = "v1"
    var makeUID: @Sendable () -> String = { "" }
    var makeSuffix: @Sendable () -> String = { "" }
}

/// A change that a patch asks for.
enum PatchBody: Sendable {
    case json(JSON), merge(JSON), strategic(JSON), apply(JSON)
}

extension Store {
    // MARK: Create

    mutating func create(
        _ body: JSON, _ kind: ResourceKind, namespace: String, _ options: WriteOptions
    ) throws(APIFailure) -> JSON {
        let (object, id) = try named(
            prepare(body, kind, namespace: namespace, options), kind, namespace: namespace, options)
        guard get(kind, id) == nil else { throw .exists(kind, id.name) }
        return try insert(object, kind, id, options) { owners, object in
            owners.update(
                by: .init(manager: options.fieldManager, operation: "Update", subresource: ""), from: [:], to: object,
                kind.listKeys, apiVersion: kind.apiVersion(options.version), time: options.time)
        }
    }

    private func named(
        _ object: JSON, _ kind: ResourceKind, namespace: String, _ options: WriteOptions
    ) throws(APIFailure) -> (JSON, ID) {
        var object = object
        var name = object.name
        if name.isEmpty, let prefix = object.at("metadata", "generateName")?.string, !prefix.isEmpty {
            name = prefix.prefix(248) + options.makeSuffix()
            object.set(.string(name), at: "metadata", "name")
        }
        guard !name.isEmpty else {
            throw .invalid(kind, "", [("metadata.name", "Required value: name or generateName is required")])
        }
        return (object, ID(namespace: namespace, name: name))
    }

    private mutating func insert(
        _ body: JSON, _ kind: ResourceKind, _ id: ID, _ options: WriteOptions,
        _ own: (inout FieldOwners, JSON) throws(APIFailure) -> Void
    ) throws(APIFailure) -> JSON {
        try checkNamespace(kind, id)
        var object = body
        for name in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields"]
        {
            object.set(nil, at: "metadata", name)
        }
        object.set(.string(options.makeUID()), at: "metadata", "uid")
        object.set(.string(options.time), at: "metadata", "creationTimestamp")
        if kind.hasGeneration { object.set(1, at: "metadata", "generation") }
        if kind.hasStatus { object["status"] = nil }
        if kind.isNamespaced { object.set(.string(id.namespace), at: "metadata", "namespace") }
        var owners = FieldOwners(nil)
        try own(&owners, object)
        ObjectDefaults.fill(&object, kind, self)
        try ObjectRules.check(object, kind)
        object.set(owners.managedFields, at: "metadata", "managedFields")
        if kind.key == "customresourcedefinitions.apiextensions.k8s.io" { object["status"] = Self.established(object) }
        let written = record(object, kind, id)
        afterCreation(of: written, kind, options)
        return written
    }

    private func checkNamespace(_ kind: ResourceKind, _ id: ID) throws(APIFailure) {
        guard kind.isNamespaced else { return }
        guard let namespaces = kinds.all["namespaces"],
            let namespace = get(namespaces, ID(namespace: "", name: id.namespace))
        else {
            throw APIFailure(
                404, "NotFound", "namespaces \"\(id.namespace)\" not found",
                details: ["name": .string(id.namespace), "kind": "namespaces"])
        }
        if namespace.isBeingDeleted {
            throw APIFailure(
                403, "Forbidden",
                "\(kind.qualified) \"\(id.name)\" is forbidden: unable to create new content in namespace "
                    + "\(id.namespace) because it is being terminated", details: kind.details(id.name))
        }
    }

    private static func established(_ definition: JSON) -> JSON {
        func condition(_ type: String) -> JSON {
            ["type": .string(type), "status": "True", "reason": .string(type), "message": "the server knows the kind"]
        }
        return [
            "conditions": [condition("NamesAccepted"), condition("Established")],
            "acceptedNames": definition.at("spec", "names") ?? [:],
            "storedVersions": .list(
                (definition.at("spec", "versions")?.list ?? []).filter { $0["storage"] == true }
                    .compactMap { $0["name"] }),
        ]
    }

    // MARK: Update

    /// - Returns: The object, and whether it is new.
    mutating func update(
        _ body: JSON, _ kind: ResourceKind, _ id: ID, _ options: WriteOptions
    ) throws(APIFailure) -> JSON {
        let object = try prepare(body, kind, namespace: id.namespace, options)
        guard object.name.isEmpty || object.name == id.name else {
            throw .badRequest(
                "the name of the object (\(object.name)) does not match the name on the URL (\(id.name))")
        }
        guard let old = get(kind, id) else { throw .notFound(kind, id.name) }
        return try replace(old, by: object, kind, id, options)
    }

    private mutating func replace(
        _ old: JSON, by body: JSON, _ kind: ResourceKind, _ id: ID, _ options: WriteOptions,
        owners applied: FieldOwners? = nil
    ) throws(APIFailure) -> JSON {
        if !body.uid.isEmpty, body.uid != old.uid {
            throw .conflict(
                kind, id.name,
                "Precondition failed: UID in precondition: \(body.uid), UID in object meta: \(old.uid)")
        }
        guard body.resourceVersion.isEmpty || body.resourceVersion == old.resourceVersion else {
            throw .modified(kind, id.name)
        }
        var object = Self.limited(body, old, kind, options)
        for name in [
            "uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds",
            "resourceVersion", "name", "namespace",
        ] { object.set(old.at("metadata", name), at: "metadata", name) }
        let given = object.at("metadata", "managedFields")
        object.set(nil, at: "metadata", "managedFields")
        ObjectDefaults.fill(&object, kind, self)
        try ObjectRules.check(object, kind)
        try ObjectRules.checkChange(from: old, to: object, kind)
        if kind.hasGeneration, Self.spec(object) != Self.spec(old) {
            object.set(.integer((old.at("metadata", "generation")?.integer ?? 0) + 1), at: "metadata", "generation")
        }
        var owners: FieldOwners
        if let applied {
            owners = applied
        } else {
            // A list of one empty entry is how a client asks to forget all owners; another one is taken as it is.
            owners = FieldOwners(given ?? old.at("metadata", "managedFields"))
            owners.update(
                by: .init(
                    manager: options.fieldManager, operation: "Update", subresource: options.subresource),
                from: old, to: object, kind.listKeys, apiVersion: kind.apiVersion(options.version),
                time: options.time)
        }
        object.set(owners.managedFields, at: "metadata", "managedFields")
        if object == old { return old }
        let written = record(object, kind, id)
        return finishIfEmpty(written, kind, id)
    }

    /// What a request may change: without a subresource all but the status; of the status that alone and, of
    /// Kubernetes's own kinds, labels, annotations and finalizers.
    private static func limited(_ body: JSON, _ old: JSON, _ kind: ResourceKind, _ options: WriteOptions) -> JSON {
        if options.subresource == "status" {
            var object = old
            object["status"] = body["status"]
            for name in ["labels", "annotations", "finalizers", "managedFields"] {
                if kind.isBuiltIn || name == "managedFields" {
                    object.set(body.at("metadata", name), at: "metadata", name)
                }
            }
            return object
        }
        var object = body
        if kind.hasStatus { object["status"] = old["status"] }
        return object
    }

    private static func spec(_ object: JSON) -> JSON {
        var object = object
        object["metadata"] = nil
        object["status"] = nil
        object["apiVersion"] = nil
        return object
    }

    /// An object that waited for its last finalizer goes with it.
    private mutating func finishIfEmpty(_ object: JSON, _ kind: ResourceKind, _ id: ID) -> JSON {
        guard object.isBeingDeleted, object.finalizers.isEmpty else { return object }
        return record(nil, kind, id)
    }

    // MARK: Patch

    /// - Returns: The object, and whether it is new, as only an apply makes one.
    mutating func patch(
        _ patch: PatchBody, _ kind: ResourceKind, _ id: ID, _ options: WriteOptions
    ) throws(APIFailure) -> (object: JSON, isNew: Bool) {
        if case .apply(let configuration) = patch { return try apply(configuration, kind, id, options) }
        guard let old = get(kind, id) else { throw .notFound(kind, id.name) }
        var new: JSON
        switch patch {
        case .json(let steps):
            do {
                new = try JSONPatch(steps).apply(to: old)
            } catch {
                if error.isMalformed { throw .badRequest("error decoding patch: \(error.message)") }
                throw APIFailure(
                    422, "Invalid", "the server rejected our request due to an error in our request: \(error.message)",
                    details: kind.details(id.name))
            }
        case .merge(let change):
            guard change.members != nil else { throw .badRequest("a merge patch is an object") }
            new = MergePatch.apply(change, to: old)
        case .strategic(let change):
            guard kind.isBuiltIn else {
                throw APIFailure(
                    415, "UnsupportedMediaType",
                    "the body of the request was in an unknown format - accepted media types include: "
                        + "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml")
            }
            guard change.members != nil else { throw .badRequest("a strategic merge patch is an object") }
            do {
                new = try StrategicPatch(keys: kind.listKeys).apply(change, to: old)
            } catch {
                throw APIFailure(400, "BadRequest", error.message)
            }
        case .apply: return (old, false)
        }
        guard new.members != nil, new["metadata"]?.members != nil else {
            throw .invalid(kind, id.name, [("metadata", "Required value")])
        }
        guard new.name == id.name else {
            throw .badRequest("the name of the object (\(new.name)) does not match the name on the URL (\(id.name))")
        }
        new = try prepare(new, kind, namespace: id.namespace, options)
        return (try replace(old, by: new, kind, id, options), false)
    }

    private mutating func apply(
        _ configuration: JSON, _ kind: ResourceKind, _ id: ID, _ options: WriteOptions
    ) throws(APIFailure) -> (object: JSON, isNew: Bool) {
        let body = try prepare(configuration, kind, namespace: id.namespace, options)
        guard body.at("metadata", "managedFields") == nil else {
            throw .badRequest("metadata.managedFields must be nil")
        }
        guard body.name == id.name else {
            throw .badRequest("the name of the object (\(body.name)) does not match the name on the URL (\(id.name))")
        }
        let owner = FieldOwners.Owner(
            manager: options.fieldManager, operation: "Apply", subresource: options.subresource)
        let apiVersion = kind.apiVersion(options.version)
        guard let old = get(kind, id) else {
            if !options.subresource.isEmpty || !body.resourceVersion.isEmpty || !body.uid.isEmpty {
                throw .notFound(kind, id.name)
            }
            let made = try insert(body, kind, id, options) { (owners, object) throws(APIFailure) in
                do throws(FieldOwners.Conflicts) {
                    _ = try owners.apply(
                        object, to: object, by: owner, isForced: false, kind.listKeys, apiVersion: apiVersion,
                        time: options.time)
                } catch {
                    throw Self.failure(error, kind, id)
                }
            }
            return (made, true)
        }
        var owners = FieldOwners(old.at("metadata", "managedFields"))
        var config = body
        if options.subresource.isEmpty, kind.hasStatus { config["status"] = nil }
        var merged: JSON
        do {
            merged = try owners.apply(
                config, to: old, by: owner, isForced: options.isForced, kind.listKeys, apiVersion: apiVersion,
                time: options.time)
        } catch {
            throw Self.failure(error, kind, id)
        }
        merged.set(body.at("metadata", "resourceVersion"), at: "metadata", "resourceVersion")
        merged["apiVersion"] = old["apiVersion"]
        return (try replace(old, by: merged, kind, id, options, owners: owners), false)
    }

    private static func failure(_ conflicts: FieldOwners.Conflicts, _ kind: ResourceKind, _ id: ID) -> APIFailure {
        var causes: [JSON] = []
        var lines: [String] = []
        for conflict in conflicts.list {
            let by =
                "\"\(conflict.owner.manager)\""
                + (conflict.owner.operation == "Update" ? " using \(conflict.apiVersion)" : "")
            for field in conflict.fields {
                causes.append([
                    "reason": "FieldManagerConflict", "message": .string("conflict with \(by)"),
                    "field": .string(field),
                ])
                lines.append("conflict with \(by): \(field)")
            }
        }
        var details = kind.details(id.name)
        details["causes"] = .list(causes)
        let count = causes.count == 1 ? "1 conflict" : "\(causes.count) conflicts"
        return APIFailure(
            409, "Conflict", "Apply failed with \(count): \(lines.joined(separator: "\n"))", details: details)
    }

    // MARK: Bodies

    /// Holds a body against the path that it came by.
    private func prepare(
        _ body: JSON, _ kind: ResourceKind, namespace: String, _ options: WriteOptions
    ) throws(APIFailure) -> JSON {
        guard body.members != nil else { throw .badRequest("the body is no object") }
        var object = body.withoutNulls
        let wanted = kind.apiVersion(options.version)
        let (apiVersion, kindName) = (object["apiVersion"]?.string ?? wanted, object["kind"]?.string ?? kind.kind)
        guard kindName == kind.kind, kind.versions.contains(where: { kind.apiVersion($0) == apiVersion }) else {
            throw .badRequest(
                "the object provided is unrecognized: apiVersion \(apiVersion), kind \(kindName); expected \(wanted), "
                    + kind.kind)
        }
        object["apiVersion"] = .string(apiVersion)
        object["kind"] = .string(kind.kind)
        if object["metadata"] == nil { object["metadata"] = [:] }
        guard object["metadata"]?.members != nil else { throw .badRequest("metadata is no object") }
        if kind.isNamespaced {
            guard object.namespace.isEmpty || object.namespace == namespace else {
                throw .badRequest(
                    "the namespace of the provided object does not match the namespace sent on the request")
            }
            object.set(.string(namespace), at: "metadata", "namespace")
        } else {
            object.set(nil, at: "metadata", "namespace")
        }
        return object
    }
}
