/// The configuration a runtime gives a plugin on stdin.
///
/// Fields it does not know are left alone: other plugins, the runtime and later versions own them.
public struct NetworkConfiguration: Sendable {
    public static let defaultAgentSocket = "/run/apus/cni.sock"
    public static let defaultExemptNamespaces = ["kube-system", "istio-system"]
    public static let defaultAgentTimeoutMilliseconds = 10_000
    /// What `agentTimeoutMilliseconds` may be: up to two minutes, which is how long runtimes wait themselves.
    public static let agentTimeoutRange = 1...120_000
    /// The longest path of a unix socket, in bytes.
    static let socketPathLimit = 107

    /// `cniVersion`
    public let version: SpecVersion
    /// `name`, of the network.
    public let name: String
    /// `type`, the name under which the runtime found the plugin; may be missing.
    public let type: String
    /// `agentSocket`: the absolute path of the agent's socket.
    public internal(set) var agentSocket = Self.defaultAgentSocket
    /// `agentTimeoutMilliseconds`: how long one question to the agent may take as a whole.
    public internal(set) var agentTimeoutMilliseconds = Self.defaultAgentTimeoutMilliseconds
    /// `exemptNamespaces`: pods of these are never enrolled, and start without an agent.
    public internal(set) var exemptNamespaces = Self.defaultExemptNamespaces
    /// The whole text, as it was read.
    public let document: JSONObject

    /// `prevResult`: what the plugins before this one in the chain reported, or with DEL and CHECK the whole chain.
    public var previousResult: JSONValue? {
        guard let result = document["prevResult"], !result.isNull else { return nil }
        return result
    }

    public func isExempt(namespace: String) -> Bool { exemptNamespaces.contains { $0.hasSameBytes(as: namespace) } }

    /// Reads what the specification defines; ``readOwnFields()`` reads what this plugin adds.
    init(_ document: JSONObject) throws(CNIError) {
        self.document = document
        guard let name = try document.string("name"), !name.isEmpty else {
            throw CNIError(
                .invalidConfiguration, "missing network name", details: "the field name of the configuration is empty")
        }
        guard Identifier.isValid(name) else {
            throw CNIError(
                .invalidConfiguration, "invalid network name: \(FieldPath.printable(name))", details: Identifier.rule)
        }
        self.name = name
        type = try document.string("type") ?? ""

        let asked = try document.string("cniVersion") ?? ""
        guard let version = SpecVersion(rawValue: asked) else {
            let stated = asked.isEmpty ? "\"\(SpecVersion.unstated)\" (no cniVersion)" : FieldPath.quoted(asked)
            throw CNIError(
                .incompatibleVersion, "incompatible CNI versions",
                details: "config is \(stated), plugin supports [\(SpecVersion.list)]")
        }
        self.version = version
    }

    /// Reads the fields that only this plugin knows.
    mutating func readOwnFields() throws(CNIError) {
        if let path = try document.string("agentSocket") {
            guard path.utf8.first == UInt8(ascii: "/"), path.utf8.count <= Self.socketPathLimit,
                !path.utf8.contains(0)
            else {
                throw CNIError(
                    .invalidConfiguration, "invalid agentSocket: \(FieldPath.printable(path))",
                    details: "it must be an absolute path of at most \(Self.socketPathLimit) bytes")
            }
            agentSocket = path
        }
        if let timeout = try document.integer("agentTimeoutMilliseconds") {
            guard Self.agentTimeoutRange.contains(timeout) else {
                throw CNIError(
                    .invalidConfiguration, "invalid agentTimeoutMilliseconds: \(timeout)",
                    details: "it must be from 1 to \(Self.agentTimeoutRange.upperBound)")
            }
            agentTimeoutMilliseconds = timeout
        }
        if let namespaces = try document.strings("exemptNamespaces") { exemptNamespaces = namespaces }
    }

    /// `cni.dev/valid-attachments` of GC, or the older `cni.dev/attachments`; `nil` when the runtime gave neither.
    func validAttachments() throws(CNIError) -> [AttachmentID]? {
        let names = ["cni.dev/valid-attachments", "cni.dev/attachments"]
        guard let name = names.first(where: { document[$0] != nil }) else { return nil }
        var result: [AttachmentID] = []
        // A runtime without attachments writes null.
        for (object, path) in try document.objects(name) ?? [] {
            guard let containerID = try object.string("containerID", at: path), !containerID.isEmpty,
                let interfaceName = try object.string("ifname", at: path), !interfaceName.isEmpty
            else { throw CNIError(.invalidConfiguration, "field \(path) must have containerID and ifname") }
            result.append(AttachmentID(containerID: containerID, interfaceName: interfaceName))
        }
        return result
    }
}

/// What a runtime calls one attachment of a container to a network.
public struct AttachmentID: Sendable, Hashable {
    public var containerID: String
    public var interfaceName: String

    public init(containerID: String, interfaceName: String) {
        self.containerID = containerID
        self.interfaceName = interfaceName
    }
}
