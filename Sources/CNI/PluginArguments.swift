/// `CNI_ARGS`: what Kubernetes runtimes say about the pod, as `KEY=value;KEY=value`.
public struct PluginArguments: Sendable, Hashable {
    /// `K8S_POD_NAME`
    public var podName = ""
    /// `K8S_POD_NAMESPACE`
    public var podNamespace = ""
    /// `K8S_POD_UID`; older runtimes do not send it.
    public var podUID = ""

    public init() {}

    /// A pair without exactly one `=` is an error; an unknown key is one unless `IgnoreUnknown` says otherwise.
    public init(_ text: String) throws(CNIError) {
        guard !text.isEmpty else { return }
        var ignoresUnknown = false
        var unknown: [String] = []
        for pair in text.utf8.split(separator: UInt8(ascii: ";"), omittingEmptySubsequences: false) {
            let parts = pair.split(separator: UInt8(ascii: "="), omittingEmptySubsequences: false)
            guard parts.count == 2 else {
                throw CNIError(
                    .invalidEnvironment, "invalid CNI_ARGS: pair \(FieldPath.quoted(String(pair) ?? "?"))",
                    details: "each pair must be KEY=value")
            }
            // The text was valid UTF-8, and it was cut at ASCII.
            let (key, value) = (String(parts[0]) ?? "", String(parts[1]) ?? "")
            if key.hasSameBytes(as: "K8S_POD_NAME") {
                podName = value
            } else if key.hasSameBytes(as: "K8S_POD_NAMESPACE") {
                podNamespace = value
            } else if key.hasSameBytes(as: "K8S_POD_UID") {
                podUID = value
            } else if key.hasSameBytes(as: "IgnoreUnknown") {
                ignoresUnknown = try Self.boolean(value)
            } else if !key.hasSameBytes(as: "K8S_POD_INFRA_CONTAINER_ID") {
                unknown.append(key)
            }
        }
        if let first = unknown.first, !ignoresUnknown {
            throw CNIError(
                .invalidEnvironment, "invalid CNI_ARGS: unknown key \(FieldPath.quoted(first))",
                details: "IgnoreUnknown=1 lets it pass")
        }
    }

    /// Both name and namespace are there: a pod of Kubernetes, and not some other container.
    public var namesPod: Bool { !podName.isEmpty && !podNamespace.isEmpty }

    private static func boolean(_ text: String) throws(CNIError) -> Bool {
        switch text.lowercased() {
        case "1", "true": return true
        case "0", "false": return false
        default:
            throw CNIError(
                .invalidEnvironment, "invalid CNI_ARGS: IgnoreUnknown is \(FieldPath.quoted(text))",
                details: "it must be 1, true, 0 or false")
        }
    }
}
