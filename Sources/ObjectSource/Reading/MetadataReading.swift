extension KubernetesObject {
    init(_ kind: ObjectKind, _ document: Fields) throws(ObjectProblem) {
        let metadata = try ObjectMeta(document, kind)
        switch kind {
        case .namespace:
            try document.expect(["apiVersion", "kind", "metadata", "spec", "status"])
            self = .namespace(Namespace(metadata: metadata))
        case .serviceAccount:
            try document.expect(["apiVersion", "kind", "metadata"])
            self = .serviceAccount(ServiceAccount(metadata: metadata))
        case .pod: self = .pod(try Pod(document, metadata))
        case .service: self = .service(try Service(document, metadata))
        case .endpointSlice: self = .endpointSlice(try EndpointSlice(document, metadata))
        case .authorizationPolicy: self = .authorizationPolicy(try AuthorizationPolicy(document, metadata))
        case .peerAuthentication: self = .peerAuthentication(try PeerAuthentication(document, metadata))
        case .node:
            try document.expect(["apiVersion", "kind", "metadata", "spec", "status"])
            self = .node(ClusterNode(metadata: metadata))
        case .gateway: self = .gateway(try Gateway(document, metadata))
        case .gatewayClass: self = .gatewayClass(try GatewayClass(document, metadata))
        case .serviceEntry: self = .serviceEntry(try ServiceEntry(document, metadata))
        case .workloadEntry: self = .workloadEntry(try WorkloadEntry(document, metadata))
        }
    }
}

extension ObjectMeta {
    init(_ document: Fields, _ kind: ObjectKind) throws(ObjectProblem) {
        guard let fields = try document.object("metadata") else { throw document.problem("metadata", "is missing") }
        try fields.expect([
            "name", "namespace", "uid", "generateName", "labels", "annotations", "ownerReferences",
            "generation", "creationTimestamp", "deletionTimestamp",
        ])
        let name = try fields.requiredString("name")
        guard Self.isName(name, limit: 253, dots: true) else {
            throw fields.problem(
                "name", "\"\(name.prefix(40))\" is no name: lower-case letters, digits, - and . are allowed")
        }
        let namespace = try fields.string("namespace") ?? ""
        if kind.isNamespaced {
            guard namespace.isEmpty || Self.isName(namespace, limit: 63, dots: false) else {
                throw fields.problem("namespace", "\"\(namespace.prefix(40))\" is no name of a namespace")
            }
        } else if !namespace.isEmpty {
            throw fields.problem("namespace", "a \(kind.rawValue) is in no namespace")
        }
        self.init(
            name: name, namespace: kind.isNamespaced ? (namespace.isEmpty ? "default" : namespace) : "",
            uid: try fields.string("uid") ?? "", generateName: try fields.string("generateName") ?? "",
            labels: try fields.stringMap("labels") ?? [:],
            annotations: try fields.stringMap("annotations") { name in
                fields.origin == .file || Self.isInUse(annotation: name)
            } ?? [:],
            owners: try (fields.objects("ownerReferences") ?? []).map { owner throws(ObjectProblem) in
                OwnerReference(
                    apiVersion: try owner.string("apiVersion") ?? "", kind: try owner.requiredString("kind"),
                    name: try owner.requiredString("name"), isController: try owner.bool("controller") ?? false)
            },
            generation: kind == .pod ? 0 : Int64(try fields.count("generation") ?? 0),
            creationTimestamp: try Self.timestamp(fields, "creationTimestamp"),
            deletionTimestamp: try Self.timestamp(fields, "deletionTimestamp"))
    }

    /// Whether the mesh may have a use for an annotation. Most are others' notes, and some are as large as the object.
    static func isInUse(annotation name: String) -> Bool {
        guard let slash = name.utf8.firstIndex(of: UInt8(ascii: "/")) else { return false }
        let domain = name[..<slash]
        return ["istio.io", "apus.dev", "service.kubernetes.io", "networking.k8s.io"].contains {
            domain == $0 || domain.hasSuffix(".\($0)")
        }
    }

    private static func timestamp(_ fields: Fields, _ name: String) throws(ObjectProblem) -> Int64? {
        guard let text = try fields.string(name) else { return nil }
        guard let seconds = Timestamp.parse(text) else {
            throw fields.problem(name, "\"\(text.prefix(40))\" is no time as 2026-01-02T03:04:05Z")
        }
        return seconds
    }

    /// RFC 1123 names; with `dots`, several labels.
    static func isName(_ text: String, limit: Int, dots: Bool) -> Bool {
        func isAlphanumeric(_ byte: UInt8) -> Bool { (97...122).contains(byte) || (48...57).contains(byte) }
        let labels = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard text.utf8.count <= limit, dots || labels.count == 1 else { return false }
        return labels.allSatisfy { label in
            guard let first = label.first, let last = label.last else { return false }
            return isAlphanumeric(first) && isAlphanumeric(last)
                && label.allSatisfy { isAlphanumeric($0) || $0 == UInt8(ascii: "-") }
        }
    }
}
