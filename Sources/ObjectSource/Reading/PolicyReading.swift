import Addressing

extension AuthorizationPolicy {
    init(_ document: Fields, _ metadata: ObjectMeta) throws(ObjectProblem) {
        try document.expectOnly(["apiVersion", "kind", "metadata", "spec", "status"])
        self.init(metadata: metadata)
        // Without a spec: allow nothing, as the API has it.
        guard let spec = try document.object("spec") else { return }
        try spec.expectOnly(["selector", "targetRef", "targetRefs", "action", "provider", "rules"])
        selector = try Self.selector(spec)
        targets = try ([spec.object("targetRef")].compactMap { $0 } + (spec.objects("targetRefs") ?? [])).map {
            target throws(ObjectProblem) in
            try target.expectOnly(["group", "kind", "name", "namespace"])
            return PolicyTarget(
                group: try target.string("group") ?? "", kind: try target.requiredString("kind"),
                name: try target.requiredString("name"))
        }
        guard selector == nil || targets.isEmpty else {
            throw spec.problem("selector", "cannot stand beside targetRefs")
        }
        action = try spec.choice("action", Action.self) ?? .allow
        rules = try (spec.objects("rules") ?? []).map { rule throws(ObjectProblem) in try AuthorizationRule(rule) }
    }

    static func selector(_ spec: Fields) throws(ObjectProblem) -> [String: String]? {
        guard let selector = try spec.object("selector") else { return nil }
        try selector.expectOnly(["matchLabels"])
        let labels = try selector.stringMap("matchLabels") ?? [:]
        for name in labels.keys where name.isEmpty || name.contains("*") {
            throw selector.problem("matchLabels", "\"\(name)\" is no label")
        }
        // An empty selector selects all, as none does.
        return labels.isEmpty ? nil : labels
    }
}

extension AuthorizationRule {
    fileprivate init(_ fields: Fields) throws(ObjectProblem) {
        try fields.expectOnly(["from", "to", "when"])
        self.init(
            from: try Self.list(fields, "from").map { list throws(ObjectProblem) in
                try list.map { entry throws(ObjectProblem) in try PolicySource(Self.inner(entry, "source")) }
            },
            to: try Self.list(fields, "to").map { list throws(ObjectProblem) in
                try list.map { entry throws(ObjectProblem) in try PolicyOperation(Self.inner(entry, "operation")) }
            },
            when: try Self.list(fields, "when").map { list throws(ObjectProblem) in
                try list.map { entry throws(ObjectProblem) in try PolicyCondition(entry) }
            })
    }

    private static func list(_ fields: Fields, _ name: String) throws(ObjectProblem) -> [Fields]? {
        guard let list = try fields.objects(name) else { return nil }
        guard !list.isEmpty else { throw fields.problem(name, "is empty; leave it out to ask for nothing") }
        return list
    }

    private static func inner(_ fields: Fields, _ name: String) throws(ObjectProblem) -> Fields {
        try fields.expectOnly([name])
        guard let inner = try fields.object(name), !inner.names.isEmpty else {
            throw fields.problem(name, "is missing or empty")
        }
        return inner
    }
}

extension Fields {
    /// The attribute `name` and its negation `notName`.
    fileprivate func values(_ name: String, _ notName: String) throws(ObjectProblem) -> PolicyValues {
        let result = PolicyValues(try strings(name) ?? [], not: try strings(notName) ?? [])
        for (field, list) in [(name, result.values), (notName, result.notValues)] {
            if list.contains("") { throw problem(field, "has an empty value") }
            if has(field), list.isEmpty { throw problem(field, "is empty") }
        }
        return result
    }

    fileprivate func check(
        _ values: PolicyValues, _ name: String, _ notName: String, _ what: String, _ isValid: (String) -> Bool
    ) throws(ObjectProblem) -> PolicyValues {
        for (field, list) in [(name, values.values), (notName, values.notValues)] {
            for value in list where !isValid(value) {
                throw problem(field, "\"\(value.prefix(60))\" is no \(what)")
            }
        }
        return values
    }
}

extension PolicySource {
    fileprivate init(_ fields: Fields) throws(ObjectProblem) {
        self.init()
        try fields.expectOnly([
            "principals", "notPrincipals", "namespaces", "notNamespaces", "serviceAccounts", "notServiceAccounts",
            "ipBlocks", "notIpBlocks", "requestPrincipals", "notRequestPrincipals", "remoteIpBlocks",
            "notRemoteIpBlocks",
        ])
        principals = try fields.values("principals", "notPrincipals")
        namespaces = try fields.values("namespaces", "notNamespaces")
        serviceAccounts = try fields.check(
            fields.values("serviceAccounts", "notServiceAccounts"), "serviceAccounts", "notServiceAccounts",
            "service account; write namespace/name or name"
        ) { $0.split(separator: "/", omittingEmptySubsequences: false).count <= 2 && !$0.contains("*") }
        ipBlocks = try fields.check(
            fields.values("ipBlocks", "notIpBlocks"), "ipBlocks", "notIpBlocks", "address or block of addresses"
        ) { CIDR($0) != nil }
        requestPrincipals = try fields.values("requestPrincipals", "notRequestPrincipals")
        remoteIPBlocks = try fields.values("remoteIpBlocks", "notRemoteIpBlocks")
    }
}

extension PolicyOperation {
    fileprivate init(_ fields: Fields) throws(ObjectProblem) {
        self.init()
        try fields.expectOnly([
            "ports", "notPorts", "hosts", "notHosts", "methods", "notMethods", "paths", "notPaths",
        ])
        ports = try fields.check(fields.values("ports", "notPorts"), "ports", "notPorts", "port from 1 to 65535") {
            Fields.port($0) != nil
        }
        hosts = try fields.values("hosts", "notHosts")
        methods = try fields.values("methods", "notMethods")
        paths = try fields.values("paths", "notPaths")
    }
}

extension PolicyCondition {
    fileprivate init(_ fields: Fields) throws(ObjectProblem) {
        try fields.expectOnly(["key", "values", "notValues"])
        self.init(key: try fields.requiredString("key"), values: try fields.values("values", "notValues"))
        guard !values.isEmpty else { throw fields.problem("values", "is missing") }
        switch key {
        case "source.ip", "destination.ip":
            _ = try fields.check(values, "values", "notValues", "address or block of addresses") { CIDR($0) != nil }
        case "destination.port":
            _ = try fields.check(values, "values", "notValues", "port from 1 to 65535") { Fields.port($0) != nil }
        default: break
        }
    }
}

extension PeerAuthentication {
    init(_ document: Fields, _ metadata: ObjectMeta) throws(ObjectProblem) {
        try document.expectOnly(["apiVersion", "kind", "metadata", "spec", "status"])
        self.init(metadata: metadata)
        guard let spec = try document.object("spec") else { return }
        try spec.expectOnly(["selector", "mtls", "portLevelMtls"])
        selector = try AuthorizationPolicy.selector(spec)
        mode = try Self.mode(spec.object("mtls")) ?? .unset
        guard let ports = try spec.object("portLevelMtls") else { return }
        guard selector != nil else {
            throw spec.problem("portLevelMtls", "needs a selector: ports are those of workloads")
        }
        for name in ports.names {
            guard let port = Fields.port(name) else { throw ports.problem(name, "is no port from 1 to 65535") }
            portModes[port] = try Self.mode(ports.object(name)) ?? .unset
        }
    }

    private static func mode(_ fields: Fields?) throws(ObjectProblem) -> Mode? {
        guard let fields else { return nil }
        try fields.expectOnly(["mode"])
        return try fields.choice("mode", Mode.self)
    }
}
