/// A `.conflist`: a network as a chain of plugins, from the side of whoever runs the chain.
public struct ConfigurationList: Sendable {
    public let version: SpecVersion
    public let name: String
    /// The plugins' own objects, in order; each has a `type`.
    public let plugins: [JSONObject]

    /// Reads the text of a conflist.
    /// - Throws: ``CNIError`` 6 for a text that is no JSON or a wrong type, 7 for a wrong value, 1 for the version.
    public init(_ text: [UInt8]) throws(CNIError) {
        let json: JSONValue
        do throws(JSONError) { json = try JSONReader.read(text) } catch {
            throw CNIError(error, in: "the configuration list")
        }
        guard case .object(let document) = json else {
            throw CNIError(.decoding, "the configuration list must be an object, found \(json.kind)")
        }
        let header = try NetworkConfiguration(document)
        (version, name) = (header.version, header.name)
        var plugins: [JSONObject] = []
        for (plugin, path) in try document.objects("plugins") ?? [] {
            guard let type = try plugin.string("type", at: path), !type.isEmpty, !type.utf8.contains(UInt8(ascii: "/"))
            else { throw CNIError(.invalidConfiguration, "field \(path).type must be the file name of a plugin") }
            plugins.append(plugin)
        }
        guard !plugins.isEmpty else { throw CNIError(.invalidConfiguration, "the configuration list has no plugins") }
        self.plugins = plugins
    }

    /// The file name of a plugin.
    public func type(ofPlugin index: Int) -> String {
        if case .string(let type) = plugins[index]["type"] { type } else { "" }
    }

    /// What a plugin gets on stdin: its object with the list's version and name, and the result so far.
    public func request(forPlugin index: Int, previousResult: JSONValue?) -> [UInt8] {
        var request = plugins[index]
        request["cniVersion"] = .string(version.rawValue)
        request["name"] = .string(name)
        if let previousResult { request["prevResult"] = previousResult }
        return request.bytes
    }
}
