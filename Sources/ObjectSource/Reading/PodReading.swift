import Addressing

extension Pod {
    init(_ document: Fields, _ metadata: ObjectMeta) throws(ObjectProblem) {
        try document.expect(["apiVersion", "kind", "metadata", "spec", "status"])
        self.init(
            metadata: metadata, spec: try PodSpec(document.object("spec")),
            status: try PodStatus(document.object("status")))
    }
}

extension PodSpec {
    init(_ fields: Fields?) throws(ObjectProblem) {
        self.init()
        guard let fields else { return }
        // serviceAccount is the old name of serviceAccountName.
        try fields.expect([
            "serviceAccountName", "serviceAccount", "nodeName", "nodeSelector", "hostNetwork", "hostname",
            "containers", "initContainers", "ephemeralContainers", "dnsPolicy", "dnsConfig",
        ])
        let oldAccount = try fields.string("serviceAccount")
        if let account = try fields.string("serviceAccountName") ?? oldAccount, !account.isEmpty {
            guard ObjectMeta.isName(account, limit: 253, dots: true) else {
                throw fields.problem("serviceAccountName", "\"\(account.prefix(40))\" is no name")
            }
            serviceAccountName = account
        }
        nodeName = try fields.string("nodeName") ?? ""
        hostNetwork = try fields.bool("hostNetwork") ?? false
        dnsPolicy = try fields.choice("dnsPolicy", DNSPolicy.self) ?? .clusterFirst
        dnsConfig = try PodDNSConfig(fields.object("dnsConfig"))
        containers = try Self.containers(fields, "containers")
        initContainers = try Self.containers(fields, "initContainers")
        ephemeralContainers = try Self.containers(fields, "ephemeralContainers")
    }

    private static func containers(_ fields: Fields, _ name: String) throws(ObjectProblem) -> [Container] {
        var result: [Container] = []
        for container in try fields.objects(name) ?? [] {
            try container.expect(
                ["name", "ports", "restartPolicy", "image", "command", "args", "securityContext"] + ProbeReading.fields)
            var ports: [ContainerPort] = []
            for port in try container.objects("ports") ?? [] { ports.append(try Self.port(port)) }
            result.append(
                Container(
                    name: try container.requiredString("name"), ports: ports,
                    restartPolicy: try container.string("restartPolicy") ?? "",
                    capabilities: try ContainerCapabilities(container.object("securityContext")),
                    probePorts: try ProbeReading.ports(container, named: ports)))
        }
        return result
    }

    private static func port(_ fields: Fields) throws(ObjectProblem) -> ContainerPort {
        try fields.expect(["name", "containerPort", "hostPort", "hostIP", "protocol"])
        guard let number = try fields.port("containerPort") else {
            throw fields.problem("containerPort", "is missing")
        }
        return ContainerPort(
            name: try fields.string("name") ?? "", port: number,
            transport: try fields.choice("protocol", Transport.self) ?? .tcp)
    }
}

extension ContainerCapabilities {
    fileprivate init(_ fields: Fields?) throws(ObjectProblem) {
        self.init()
        guard let fields else { return }
        try fields.expect(["privileged", "capabilities"])
        isPrivileged = try fields.bool("privileged") ?? false
        guard let lists = try fields.object("capabilities") else { return }
        try lists.expect(["add", "drop"])
        added = try lists.strings("add") ?? []
        dropped = try lists.strings("drop") ?? []
    }
}

extension PodDNSConfig {
    fileprivate init?(_ fields: Fields?) throws(ObjectProblem) {
        guard let fields else { return nil }
        try fields.expect(["nameservers", "searches", "options"])
        self.init(
            nameservers: try fields.strings("nameservers") ?? [], searches: try fields.strings("searches") ?? [])
        for option in try fields.objects("options") ?? [] {
            let name = try option.requiredString("name")
            options.append(try option.string("value").map { "\(name):\($0)" } ?? name)
        }
    }
}

extension PodStatus {
    init(_ fields: Fields?) throws(ObjectProblem) {
        self.init()
        guard let fields else { return }
        try fields.expect(["phase", "podIP", "podIPs", "hostIP", "hostIPs", "conditions"])
        phase = try fields.choice("phase", Phase.self)
        for entry in try fields.objects("podIPs") ?? [] {
            podIPs.append(try Self.address(entry, "ip"))
        }
        if podIPs.isEmpty, fields.has("podIP") { podIPs = [try Self.address(fields, "podIP")] }
        for condition in try fields.objects("conditions") ?? [] {
            let type = try condition.requiredString("type")
            let status = try condition.requiredString("status")
            if type == "Ready" { isReady = status == "True" }
        }
    }

    private static func address(_ fields: Fields, _ name: String) throws(ObjectProblem) -> String {
        let text = try fields.requiredString(name)
        guard IPAddress(text) != nil else { throw fields.problem(name, "\"\(text.prefix(40))\" is no IP address") }
        return text
    }
}
