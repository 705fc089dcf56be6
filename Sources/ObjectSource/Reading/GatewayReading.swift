extension Gateway {
    init(_ document: Fields, _ metadata: ObjectMeta) throws(ObjectProblem) {
        try document.expect(["apiVersion", "kind", "metadata", "spec", "status"])
        guard let spec = try document.object("spec") else { throw document.problem("spec", "is missing") }
        try spec.expect(["gatewayClassName", "listeners", "addresses", "infrastructure"])
        self.init(
            metadata: metadata, className: try spec.requiredString("gatewayClassName"),
            listeners: try (spec.objects("listeners") ?? []).map { fields throws(ObjectProblem) in
                try Listener(fields)
            },
            specAddresses: try Self.addresses(spec),
            statusAddresses: try document.object("status").map(Self.addresses) ?? [])
    }

    private static func addresses(_ fields: Fields) throws(ObjectProblem) -> [Address] {
        var result: [Address] = []
        for entry in try fields.objects("addresses") ?? [] {
            try entry.expect(["type", "value"])
            let value = try entry.string("value") ?? ""
            // An address that is asked for without a value is for the implementation to choose.
            guard !value.isEmpty else { continue }
            switch try entry.string("type") ?? "IPAddress" {
            case "IPAddress": result.append(Address(.ip, value))
            case "Hostname": result.append(Address(.hostname, value))
            // Other types belong to other implementations.
            default: continue
            }
        }
        return result
    }
}

extension Gateway.Listener {
    fileprivate init(_ fields: Fields) throws(ObjectProblem) {
        try fields.expect(["name", "port", "protocol", "hostname", "tls", "allowedRoutes"])
        guard let port = try fields.port("port") else { throw fields.problem("port", "is missing") }
        self.init(
            name: try fields.string("name") ?? "", port: port,
            protocolName: try fields.string("protocol") ?? "")
        guard let namespaces = try fields.object("allowedRoutes")?.object("namespaces") else { return }
        try namespaces.expect(["from", "selector"])
        switch try namespaces.string("from") ?? "Same" {
        case "Same": allowedNamespaces = .same
        case "All": allowedNamespaces = .all
        case "None": allowedNamespaces = .none
        case "Selector":
            guard let selector = try namespaces.object("selector") else {
                throw namespaces.problem("selector", "is missing; from: Selector needs one")
            }
            allowedNamespaces = .selected(try LabelSelector(selector))
        case let other:
            throw namespaces.problem("from", "\"\(other.prefix(40))\" is none of Same, All, Selector, None")
        }
    }
}

extension GatewayClass {
    init(_ document: Fields, _ metadata: ObjectMeta) throws(ObjectProblem) {
        try document.expect(["apiVersion", "kind", "metadata", "spec", "status"])
        guard let spec = try document.object("spec") else { throw document.problem("spec", "is missing") }
        try spec.expect(["controllerName", "description", "parametersRef"])
        self.init(metadata: metadata, controllerName: try spec.requiredString("controllerName"))
    }
}
