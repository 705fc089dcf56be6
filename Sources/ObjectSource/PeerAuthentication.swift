/// Whether plain text is accepted (`security.istio.io`).
public struct PeerAuthentication: Hashable, Sendable {
    public enum Mode: String, Hashable, Sendable, CaseIterable {
        /// As the next wider scope says.
        case unset = "UNSET"
        case disable = "DISABLE"
        case permissive = "PERMISSIVE"
        case strict = "STRICT"
    }

    public var metadata: ObjectMeta
    /// Labels of the workloads it is for; `nil` means all of the namespace.
    public var selector: [String: String]?
    public var mode: Mode
    /// Exceptions by the workload's port.
    public var portModes: [UInt16: Mode]

    public init(
        metadata: ObjectMeta, selector: [String: String]? = nil, mode: Mode = .unset, portModes: [UInt16: Mode] = [:]
    ) {
        self.metadata = metadata
        self.selector = selector
        self.mode = mode
        self.portModes = portModes
    }
}
