import Addressing

extension Service {
    init(_ document: Fields, _ metadata: ObjectMeta) throws(ObjectProblem) {
        try document.expect(["apiVersion", "kind", "metadata", "spec", "status"])
        self.init(metadata: metadata)
        guard let fields = try document.object("spec") else { throw document.problem("spec", "is missing") }
        spec = try ServiceSpec(fields)
    }
}

extension ServiceSpec {
    init(_ fields: Fields) throws(ObjectProblem) {
        try fields.expect([
            "type", "selector", "clusterIP", "clusterIPs", "ports", "ipFamilies", "ipFamilyPolicy",
            "internalTrafficPolicy", "externalTrafficPolicy", "trafficDistribution", "publishNotReadyAddresses",
            "externalIPs", "externalName", "loadBalancerIP",
        ])
        var addresses = try fields.strings("clusterIPs") ?? []
        var addressField = "clusterIPs"
        if addresses.isEmpty, let address = try fields.string("clusterIP") {
            addresses = [address]
            addressField = "clusterIP"
        }
        addresses.removeAll { $0.isEmpty || $0 == "None" }
        for address in addresses where IPAddress(address) == nil {
            throw fields.problem(addressField, "\"\(address.prefix(40))\" is no IP address")
        }
        self.init(
            type: try fields.choice("type", ServiceType.self) ?? .clusterIP,
            selector: try fields.stringMap("selector") ?? [:],
            clusterIPs: addresses,
            ports: try (fields.objects("ports") ?? []).map(Self.port),
            ipFamilies: try (fields.strings("ipFamilies") ?? []).map { text throws(ObjectProblem) in
                guard let family = IPFamily(rawValue: text) else {
                    throw fields.problem("ipFamilies", "\"\(text.prefix(40))\" is none of IPv4, IPv6")
                }
                return family
            },
            internalTrafficPolicy: try fields.choice("internalTrafficPolicy", InternalTrafficPolicy.self) ?? .cluster,
            trafficDistribution: try fields.string("trafficDistribution") ?? "",
            publishNotReadyAddresses: try fields.bool("publishNotReadyAddresses") ?? false)
    }

    private static func port(_ fields: Fields) throws(ObjectProblem) -> ServicePort {
        try fields.expect(["name", "port", "targetPort", "protocol", "appProtocol", "nodePort"])
        guard let number = try fields.port("port") else { throw fields.problem("port", "is missing") }
        return ServicePort(
            name: try fields.string("name") ?? "", port: number, target: try fields.portOrName("targetPort"),
            transport: try fields.choice("protocol", Transport.self) ?? .tcp,
            appProtocol: try fields.string("appProtocol") ?? "")
    }
}

extension EndpointSlice {
    init(_ document: Fields, _ metadata: ObjectMeta) throws(ObjectProblem) {
        try document.expect(["apiVersion", "kind", "metadata", "addressType", "endpoints", "ports"])
        guard let type = try document.choice("addressType", AddressType.self) else {
            throw document.problem("addressType", "is missing")
        }
        self.init(
            metadata: metadata, addressType: type,
            endpoints: try (document.objects("endpoints") ?? []).map { entry throws(ObjectProblem) in
                try Self.endpoint(entry, type, metadata.namespace)
            },
            ports: try (document.objects("ports") ?? []).map { port throws(ObjectProblem) in
                try port.expect(["name", "port", "protocol", "appProtocol"])
                return SlicePort(
                    name: try port.string("name") ?? "", port: try port.port("port"),
                    transport: try port.choice("protocol", Transport.self) ?? .tcp)
            })
    }

    private static func endpoint(
        _ fields: Fields, _ type: AddressType, _ namespace: String
    ) throws(ObjectProblem) -> SliceEndpoint {
        try fields.expect(["addresses", "conditions", "nodeName", "targetRef", "hostname", "zone", "hints"])
        let addresses = try fields.strings("addresses") ?? []
        guard !addresses.isEmpty else { throw fields.problem("addresses", "is missing") }
        for text in addresses where type != .fqdn {
            guard let address = IPAddress(text), address.isV4 == (type == .v4) else {
                throw fields.problem("addresses", "\"\(text.prefix(40))\" is no \(type.rawValue) address")
            }
        }
        var target: ObjectReference?
        if let reference = try fields.object("targetRef") {
            try reference.expect(["kind", "name", "namespace", "uid", "apiVersion"])
            target = ObjectReference(
                kind: try reference.requiredString("kind"), name: try reference.requiredString("name"),
                namespace: try reference.string("namespace") ?? namespace, uid: try reference.string("uid") ?? "")
        }
        return SliceEndpoint(
            addresses: addresses, isReady: try fields.object("conditions")?.bool("ready"),
            nodeName: try fields.string("nodeName") ?? "", target: target)
    }
}
