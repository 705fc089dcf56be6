/// The variables a runtime sets for a plugin. Unset and empty are the same.
public struct PluginEnvironment: Sendable, Hashable {
    /// `CNI_COMMAND`
    public var command: String
    /// `CNI_CONTAINERID`
    public var containerID: String
    /// `CNI_NETNS`
    public var namespacePath: String
    /// `CNI_IFNAME`
    public var interfaceName: String
    /// `CNI_ARGS`
    public var arguments: String
    /// `CNI_PATH`
    public var path: String
    /// `CNI_NETNS_OVERRIDE`, which lets a runtime pass the plugin's own namespace.
    public var namespaceOverride: String

    /// - Parameter lookup: the value of a variable, `nil` when it is not set.
    public init(lookup: (String) -> String?) {
        command = lookup("CNI_COMMAND") ?? ""
        containerID = lookup("CNI_CONTAINERID") ?? ""
        namespacePath = lookup("CNI_NETNS") ?? ""
        interfaceName = lookup("CNI_IFNAME") ?? ""
        arguments = lookup("CNI_ARGS") ?? ""
        path = lookup("CNI_PATH") ?? ""
        namespaceOverride = lookup("CNI_NETNS_OVERRIDE") ?? ""
    }

    public init(_ variables: [String: String]) { self.init { variables[$0] } }

    /// Whether the plugin's own namespace is a valid `CNI_NETNS`.
    public var allowsOwnNamespace: Bool { namespaceOverride == "1" || namespaceOverride.uppercased() == "TRUE" }
}

/// What a runtime can ask of a plugin.
public enum Verb: String, Sendable, Hashable, CaseIterable {
    case add = "ADD"
    case delete = "DEL"
    case check = "CHECK"
    case status = "STATUS"
    case collectGarbage = "GC"
    case version = "VERSION"
}

extension PluginEnvironment {
    /// The verb, once all variables it needs are there and are well formed.
    ///
    /// `CNI_PATH` is asked for only where the specification does: this plugin has no delegates.
    func validVerb() throws(CNIError) -> Verb {
        guard let verb = Verb.allCases.first(where: { $0.rawValue.hasSameBytes(as: command) }) else {
            throw CNIError(
                .invalidEnvironment, "unknown CNI_COMMAND: \(FieldPath.printable(command))",
                details: "known are " + Verb.allCases.map(\.rawValue).joined(separator: ", "))
        }
        var missing: [String] = []
        func require(_ value: String, _ name: String) {
            if value.isEmpty { missing.append(name) }
        }
        switch verb {
        case .add, .check:
            require(containerID, "CNI_CONTAINERID")
            require(namespacePath, "CNI_NETNS")
            require(interfaceName, "CNI_IFNAME")
        case .delete:
            require(containerID, "CNI_CONTAINERID")
            require(interfaceName, "CNI_IFNAME")
        case .collectGarbage:
            require(path, "CNI_PATH")
        case .status, .version:
            break
        }
        guard missing.isEmpty else {
            throw CNIError(
                .invalidEnvironment, "required env variables [\(missing.joined(separator: ","))] missing",
                details: "\(verb.rawValue) needs them")
        }
        if verb == .add || verb == .check || verb == .delete { try checkAttachment() }
        return verb
    }

    private func checkAttachment() throws(CNIError) {
        guard Identifier.isValid(containerID) else {
            throw CNIError(
                .invalidEnvironment, "invalid CNI_CONTAINERID: \(FieldPath.printable(containerID))",
                details: Identifier.rule)
        }
        if let reason = Self.flaw(ofInterfaceName: interfaceName) {
            throw CNIError(
                .invalidEnvironment, "invalid CNI_IFNAME: \(FieldPath.printable(interfaceName))",
                details: "interface name \(reason)")
        }
    }

    /// Why the kernel or the specification would not take the name; `nil` when they do.
    static func flaw(ofInterfaceName name: String) -> String? {
        if name.utf8.count > 15 { return "is longer than 15 bytes" }
        if name == "." || name == ".." { return "is . or .." }
        for scalar in name.unicodeScalars {
            if scalar == "/" || scalar == ":" { return "contains / or :" }
            if scalar.properties.isWhitespace || scalar.value < 0x20 { return "contains white space" }
        }
        return nil
    }
}

/// The form that container IDs and network names share.
enum Identifier {
    static let rule = "it must begin with a letter or digit and hold only letters, digits, '_', '.' and '-'"

    static func isValid(_ text: String) -> Bool {
        guard let first = text.utf8.first, isAlphanumeric(first) else { return false }
        return text.utf8.allSatisfy {
            isAlphanumeric($0) || $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "-")
        }
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: false
        }
    }
}
