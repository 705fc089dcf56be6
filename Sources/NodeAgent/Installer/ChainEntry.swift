import CNI

/// Apus's part in the configuration of a node's network, as edits of documents: pure functions that leave alone, and in
/// their order, everything that is not ours.
struct ChainEntry: Hashable, Sendable {
    static let type = InstallerConfiguration.pluginName
    /// libcni's own version for a `.conf` that says none; older ones cannot chain.
    static let oldestVersion = SpecVersion.v0_3_1

    let agentSocket: String
    let exemptNamespaces: [String]

    var json: JSONObject {
        JSONObject([
            .init("type", .string(Self.type)),
            .init("agentSocket", .string(agentSocket)),
            .init("exemptNamespaces", .array(exemptNamespaces.map { .string($0) })),
        ])
    }

    static func isOurs(_ plugin: JSONValue) -> Bool {
        guard case .object(let object) = plugin, case .string(let name) = object["type"] else { return false }
        return name == type
    }

    /// The list with our entry at its end, and no other of ours in it.
    func appended(to list: NetworkList) -> NetworkList {
        var list = Self.removed(from: list)
        list.plugins.append(.object(json))
        return list
    }

    static func removed(from list: NetworkList) -> NetworkList {
        var list = list
        list.plugins.removeAll(where: isOurs)
        return list
    }

    /// Whether the list has our entry once, word for word, behind a plugin that makes the interface. It need not be the
    /// last: what another one has put behind it is none of our business.
    func isComplete(in list: NetworkList) -> Bool {
        let ours = list.plugins.indices.filter { Self.isOurs(list.plugins[$0]) }
        guard ours.count == 1, let place = ours.first, place > 0 else { return false }
        return list.plugins[place] == .object(json)
    }

    /// A configuration with nothing but our plugin, for whom it is called by name.
    var standalone: JSONObject {
        var object = json
        object.members.insert(
            contentsOf: [
                .init("cniVersion", .string(Self.oldestVersion.rawValue)), .init("name", .string(Self.type)),
            ], at: 0)
        return object
    }
}

/// A network's list of plugins, as its author wrote it.
struct NetworkList: Equatable, Sendable {
    private(set) var document: JSONObject

    var plugins: [JSONValue] {
        get { if case .array(let plugins) = document["plugins"] { plugins } else { [] } }
        set { document["plugins"] = .array(newValue) }
    }

    /// Reads a `.conflist`, or makes one of a `.conf` as libcni does: under the same name, so that what libcni has
    /// remembered of running pods is found again.
    /// - Throws: What is wrong with it, for an operator.
    init(_ bytes: [UInt8]) throws(AgentError) {
        let value: JSONValue
        do throws(JSONError) { value = try JSONReader.read(bytes) } catch {
            throw AgentError(.file, "is no JSON", cause: "\(error)")
        }
        guard case .object(let object) = value else { throw AgentError(.file, "is no JSON object") }
        document = object["plugins"] == nil ? try Self.list(ofOne: object) : object
        guard case .string(let name) = document["name"], !name.isEmpty else {
            throw AgentError(.file, "has no field name")
        }
        guard case .array = document["plugins"], !plugins.isEmpty else {
            throw AgentError(.file, "field plugins must be an array that is not empty")
        }
        for (index, plugin) in plugins.enumerated() {
            guard case .object(let object) = plugin, case .string(let type) = object["type"], !type.isEmpty else {
                throw AgentError(.file, "field plugins[\(index)].type must be the file name of a plugin")
            }
        }
    }

    private static func list(ofOne plugin: JSONObject) throws(AgentError) -> JSONObject {
        guard plugin["type"] != nil else { throw AgentError(.file, "has neither plugins nor type") }
        var plugin = plugin
        let name = plugin["name"] ?? .string("k8s-pod-network")
        let version = plugin["cniVersion"] ?? .string(ChainEntry.oldestVersion.rawValue)
        plugin["cniVersion"] = nil
        return JSONObject([
            .init("cniVersion", version), .init("name", name), .init("plugins", .array([.object(plugin)])),
        ])
    }

    /// Whether any plugin beside ours is in it.
    var hasForeignPlugins: Bool { !plugins.allSatisfy(ChainEntry.isOurs) }

    /// - Throws: When our plugin does not speak the list's version: the runtime would fail every pod.
    func checkVersion() throws(AgentError) {
        let version: String
        if case .string(let text) = document["cniVersion"] { version = text } else { version = "" }
        guard SpecVersion(rawValue: version) != nil else {
            let known = SpecVersion.allCases.map(\.rawValue).joined(separator: ", ")
            throw AgentError(
                .file, "field cniVersion is \"\(version)\", which apus-cni does not speak", cause: "it speaks \(known)",
                hint: "set the primary CNI's cniVersion to one of these")
        }
    }

    /// One member a line, so that it can be read and compared by eye.
    var bytes: [UInt8] { document.lines }
}

extension JSONObject {
    /// The text with two spaces for each level.
    var lines: [UInt8] {
        var output: [UInt8] = []
        JSONValue.object(self).write(to: &output, level: 0)
        output.append(UInt8(ascii: "\n"))
        return output
    }
}

extension JSONValue {
    fileprivate func write(to output: inout [UInt8], level: Int) {
        func line(_ level: Int) {
            output.append(UInt8(ascii: "\n"))
            output += [UInt8](repeating: UInt8(ascii: " "), count: 2 * level)
        }
        switch self {
        case .object(let object) where !object.members.isEmpty:
            output.append(UInt8(ascii: "{"))
            for (index, member) in object.members.enumerated() {
                if index > 0 { output.append(UInt8(ascii: ",")) }
                line(level + 1)
                JSONValue.string(member.name).write(to: &output)
                output += ": ".utf8
                member.value.write(to: &output, level: level + 1)
            }
            line(level)
            output.append(UInt8(ascii: "}"))
        case .array(let elements) where !elements.isEmpty:
            output.append(UInt8(ascii: "["))
            for (index, element) in elements.enumerated() {
                if index > 0 { output.append(UInt8(ascii: ",")) }
                line(level + 1)
                element.write(to: &output, level: level + 1)
            }
            line(level)
            output.append(UInt8(ascii: "]"))
        default: write(to: &output)
        }
    }
}
