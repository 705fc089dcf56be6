import Addressing

extension WorkloadEntry {
    init(_ document: Fields, _ metadata: ObjectMeta) throws(ObjectProblem) {
        try document.expect(["apiVersion", "kind", "metadata", "spec", "status"])
        guard let spec = try document.object("spec") else { throw document.problem("spec", "is missing") }
        self.init(metadata: metadata, spec: try WorkloadEntrySpec(spec))
    }
}

extension WorkloadEntrySpec {
    init(_ fields: Fields) throws(ObjectProblem) {
        try fields.expect(["address", "ports", "labels", "network", "locality", "weight", "serviceAccount"])
        self.init(
            address: try fields.string("address") ?? "", labels: try fields.stringMap("labels") ?? [:],
            network: try fields.string("network") ?? "", locality: try fields.string("locality") ?? "",
            weight: try fields.count("weight"), serviceAccount: try fields.string("serviceAccount") ?? "")
        guard !address.isEmpty || !network.isEmpty else { throw fields.problem("address", "is missing") }
        guard address.isEmpty || IPAddress(address) != nil || HostName.isValid(address) else {
            throw fields.problem("address", "\"\(address.prefix(60))\" is neither an IP address nor a host name")
        }
        guard serviceAccount.isEmpty || ObjectMeta.isName(serviceAccount, limit: 253, dots: true) else {
            throw fields.problem("serviceAccount", "\"\(serviceAccount.prefix(40))\" is no name")
        }
        guard let ports = try fields.object("ports") else { return }
        for name in ports.names { self.ports[name] = try ports.port(name) }
    }
}

extension ServiceEntry {
    init(_ document: Fields, _ metadata: ObjectMeta) throws(ObjectProblem) {
        try document.expect(["apiVersion", "kind", "metadata", "spec", "status"])
        guard let spec = try document.object("spec") else { throw document.problem("spec", "is missing") }
        try spec.expect([
            "hosts", "addresses", "ports", "location", "resolution", "endpoints", "workloadSelector", "exportTo",
            "subjectAltNames",
        ])
        let hosts = try spec.strings("hosts") ?? []
        guard !hosts.isEmpty else { throw spec.problem("hosts", "is missing") }
        for host in hosts where !HostName.isValid(host.hasPrefix("*.") ? String(host.dropFirst(2)) : host) {
            throw spec.problem("hosts", "\"\(host.prefix(60))\" is no host name")
        }
        let addresses = try spec.strings("addresses") ?? []
        for address in addresses where CIDR(address) == nil {
            throw spec.problem("addresses", "\"\(address.prefix(60))\" is no address or block of addresses")
        }
        self.init(
            metadata: metadata, hosts: hosts, addresses: addresses,
            ports: try (spec.objects("ports") ?? []).map { fields throws(ObjectProblem) in try Port(fields) },
            resolution: try spec.choice("resolution", Resolution.self) ?? .none,
            endpoints: try (spec.objects("endpoints") ?? []).map { fields throws(ObjectProblem) in
                try WorkloadEntrySpec(fields)
            },
            selector: try spec.object("workloadSelector")?.stringMap("labels") ?? [:],
            subjectAltNames: try spec.strings("subjectAltNames") ?? [])
        guard selector.isEmpty || endpoints.isEmpty else {
            throw spec.problem("workloadSelector", "cannot stand beside endpoints")
        }
        for entry in try document.object("status")?.objects("addresses") ?? [] {
            allocated.append(
                AllocatedAddress(try entry.requiredString("value"), host: try entry.string("host") ?? ""))
        }
    }
}

extension ServiceEntry.Port {
    fileprivate init(_ fields: Fields) throws(ObjectProblem) {
        try fields.expect(["number", "name", "protocol", "targetPort"])
        guard let number = try fields.port("number") else { throw fields.problem("number", "is missing") }
        self.init(
            name: try fields.requiredString("name"), number: number,
            protocolName: try fields.string("protocol") ?? "", target: try fields.port("targetPort"))
    }
}

enum HostName {
    /// Letters, digits, hyphens and underscores between dots.
    static func isValid(_ text: String) -> Bool {
        guard (1...253).contains(text.utf8.count) else { return false }
        return text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).allSatisfy { label in
            (1...63).contains(label.count)
                && label.allSatisfy { byte in
                    (97...122).contains(byte) || (65...90).contains(byte) || (48...57).contains(byte)
                        || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_")
                }
        }
    }
}
