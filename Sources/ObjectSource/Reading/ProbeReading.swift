/// What kubelet connects to in a container: its probes, and its lifecycle hooks where they are requests.
enum ProbeReading {
    static let fields = ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle"]

    /// The ports, in the order they are named. A handler with a `host` of its own goes elsewhere than to the pod, and a
    /// name that no port of the container has goes nowhere.
    static func ports(_ container: Fields, named ports: [ContainerPort]) throws(ObjectProblem) -> [UInt16] {
        var found: [UInt16] = []
        for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
            guard let probe = try container.object(name) else { continue }
            try probe.expect([
                "httpGet", "tcpSocket", "grpc", "exec", "initialDelaySeconds", "timeoutSeconds", "periodSeconds",
                "successThreshold", "failureThreshold", "terminationGracePeriodSeconds",
            ])
            for handler in ["httpGet", "tcpSocket", "grpc"] {
                if let port = try port(probe.object(handler), ports) { found.append(port) }
            }
        }
        guard let lifecycle = try container.object("lifecycle") else { return found }
        try lifecycle.expect(["postStart", "preStop", "stopSignal"])
        for name in ["postStart", "preStop"] {
            guard let hook = try lifecycle.object(name) else { continue }
            try hook.expect(["httpGet", "tcpSocket", "exec", "sleep"])
            for handler in ["httpGet", "tcpSocket"] {
                if let port = try port(hook.object(handler), ports) { found.append(port) }
            }
        }
        return found
    }

    private static func port(_ handler: Fields?, _ ports: [ContainerPort]) throws(ObjectProblem) -> UInt16? {
        guard let handler else { return nil }
        try handler.expect(["host", "httpHeaders", "path", "port", "scheme", "service"])
        guard try (handler.string("host") ?? "").isEmpty else { return nil }
        switch try handler.portOrName("port") {
        case .number(let number): return number
        // As kubelet does: a name first, then a number in quotes.
        case .name(let name): return ports.first { $0.name == name }?.port ?? Fields.port(name)
        case nil: throw handler.problem("port", "is missing")
        }
    }
}
