import ObjectSource

/// A container of a pod in the mesh that may get past its capture.
public struct MarkingContainer: Hashable, Sendable {
    public let pod: ObjectName
    public let container: String
    /// What it can do, worst first.
    public let powers: [Power]

    public enum Power: Hashable, Sendable {
        /// Every capability, and the node's devices.
        case privileged
        /// NET_ADMIN: it can take the rules away, and set any mark.
        case netAdmin
        /// NET_RAW, asked for: it can set a mark (Linux 5.17 and later), and send packets past its sockets.
        case netRaw
        /// NET_RAW, which the runtime gives a container that does not drop it.
        case netRawByDefault
    }

    /// Those of a snapshot's pods that belong in the mesh, on one node or on all; by name.
    public static func find(
        in snapshot: ObjectSnapshot, node: String? = nil, rules: EnrolmentRules = EnrolmentRules()
    ) -> [MarkingContainer] {
        snapshot.pods.values
            .filter { node == nil || $0.spec.nodeName == node }
            .filter {
                let labels = snapshot.namespaces[$0.metadata.namespace]?.metadata.labels ?? [:]
                return rules.decide($0, namespaceLabels: labels) == .enrol
            }
            .sorted { ($0.name.namespace, $0.name.name) < ($1.name.namespace, $1.name.name) }
            .flatMap { pod in
                let all = pod.spec.initContainers + pod.spec.containers + pod.spec.ephemeralContainers
                return all.compactMap { container in
                    let powers = powers(container.capabilities)
                    return powers.isEmpty
                        ? nil : MarkingContainer(pod: pod.name, container: container.name, powers: powers)
                }
            }
    }

    /// As containerd and CRI-O work the lists out: ALL counts before the single names, and dropping after adding.
    static func powers(_ capabilities: ContainerCapabilities) -> [Power] {
        if capabilities.isPrivileged { return [.privileged] }
        let added = Set(capabilities.added.map(name))
        let dropped = Set(capabilities.dropped.map(name))
        let hasAll = added.contains("ALL") && !dropped.contains("ALL")
        func has(_ name: String) -> Bool { (hasAll || added.contains(name)) && !dropped.contains(name) }
        var powers: [Power] = has("NET_ADMIN") ? [.netAdmin] : []
        if has("NET_RAW") {
            powers.append(.netRaw)
        } else if !dropped.contains("NET_RAW"), !dropped.contains("ALL") {
            powers.append(.netRawByDefault)
        }
        return powers
    }

    /// Runtimes take names in any case, some with the kernel's prefix.
    private static func name(_ text: String) -> String {
        let upper = text.uppercased()
        return upper.hasPrefix("CAP_") ? String(upper.dropFirst(4)) : upper
    }
}

extension MarkingContainer.Power: CustomStringConvertible {
    /// A line for an operator: what, and what to do about it.
    public var description: String {
        switch self {
        case .privileged: "is privileged: it has every capability; set securityContext.privileged to false"
        case .netAdmin: "has NET_ADMIN: it can take capture away; leave it out of securityContext.capabilities.add"
        case .netRaw: "has NET_RAW: it can set ztunnel's mark; leave it out of securityContext.capabilities.add"
        case .netRawByDefault:
            "may have NET_RAW, a default of containerd and Docker, and of CRI-O before 1.18: it can set ztunnel's mark; "
                + "add NET_RAW or ALL to securityContext.capabilities.drop"
        }
    }

    /// A word for programs.
    public var word: String {
        switch self {
        case .privileged: "privileged"
        case .netAdmin: "NET_ADMIN"
        case .netRaw: "NET_RAW"
        case .netRawByDefault: "NET_RAW by default"
        }
    }
}
