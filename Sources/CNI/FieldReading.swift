// Typed access to the members of a JSON object. `null` counts as absent, as it does for every other plugin.

extension JSONObject {
    private func present(_ name: String) -> JSONValue? {
        guard let value = self[name], !value.isNull else { return nil }
        return value
    }

    /// - Parameter path: where this object stands, for messages: `prevResult.ips[0]`; empty at the top.
    func string(_ name: String, at path: String = "") throws(CNIError) -> String? {
        guard let value = present(name) else { return nil }
        guard case .string(let text) = value else {
            throw .wrongType(Self.field(name, path), expected: "a string", found: value)
        }
        return text
    }

    func integer(_ name: String, at path: String = "") throws(CNIError) -> Int? {
        guard let value = present(name) else { return nil }
        guard case .number(let number) = value, let integer = number.integer else {
            throw .wrongType(Self.field(name, path), expected: "an integer", found: value)
        }
        return integer
    }

    func array(_ name: String, at path: String = "") throws(CNIError) -> [JSONValue]? {
        guard let value = present(name) else { return nil }
        guard case .array(let elements) = value else {
            throw .wrongType(Self.field(name, path), expected: "an array", found: value)
        }
        return elements
    }

    func object(_ name: String, at path: String = "") throws(CNIError) -> JSONObject? {
        guard let value = present(name) else { return nil }
        guard case .object(let object) = value else {
            throw .wrongType(Self.field(name, path), expected: "an object", found: value)
        }
        return object
    }

    func strings(_ name: String, at path: String = "") throws(CNIError) -> [String]? {
        guard let elements = try array(name, at: path) else { return nil }
        var result: [String] = []
        for (index, element) in elements.enumerated() {
            guard case .string(let text) = element else {
                throw .wrongType("\(Self.field(name, path))[\(index)]", expected: "a string", found: element)
            }
            result.append(text)
        }
        return result
    }

    /// The array's elements, which must all be objects, with their paths.
    func objects(_ name: String, at path: String = "") throws(CNIError) -> [(object: JSONObject, path: String)]? {
        guard let elements = try array(name, at: path) else { return nil }
        var result: [(JSONObject, String)] = []
        for (index, element) in elements.enumerated() {
            let path = "\(Self.field(name, path))[\(index)]"
            guard case .object(let object) = element else {
                throw .wrongType(path, expected: "an object", found: element)
            }
            result.append((object, path))
        }
        return result
    }

    private static func field(_ name: String, _ path: String) -> String { path.isEmpty ? name : "\(path).\(name)" }
}
