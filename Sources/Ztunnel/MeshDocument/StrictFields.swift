/// The fields of one object of a document, of which none may be unknown: a misspelt field is an error and not a default.
struct StrictFields<Key: CodingKey & CaseIterable> {
    private let container: KeyedDecodingContainer<Key>

    init(_ decoder: any Decoder, _ type: Key.Type = Key.self) throws {
        for key in try decoder.container(keyedBy: AnyKey.self).allKeys where Key(stringValue: key.stringValue) == nil {
            throw Self.error(
                decoder.codingPath + [key],
                "unknown field; known here are \(Key.allCases.map(\.stringValue).joined(separator: ", "))")
        }
        container = try decoder.container(keyedBy: Key.self)
    }

    func required<Value: Decodable>(_ key: Key, _ type: Value.Type = Value.self) throws -> Value {
        guard container.contains(key) else { throw error(key, "is missing") }
        return try container.decode(Value.self, forKey: key)
    }

    /// `nil` when the field is not there or null.
    func optional<Value: Decodable>(_ key: Key, _ type: Value.Type = Value.self) throws -> Value? {
        try container.decodeIfPresent(Value.self, forKey: key)
    }

    func value<Value: Decodable>(_ key: Key, or standard: Value) throws -> Value { try optional(key) ?? standard }

    /// One of a few words.
    func choice<Choice: RawRepresentable<String> & CaseIterable>(_ key: Key, or standard: Choice) throws -> Choice {
        guard let text = try optional(key, String.self) else { return standard }
        guard let choice = Choice(rawValue: text) else {
            throw error(key, "\(text) is none of \(Choice.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        return choice
    }

    func error(_ key: Key, _ text: String) -> DecodingError { Self.error(container.codingPath + [key], text) }

    private static func error(_ path: [any CodingKey], _ text: String) -> DecodingError {
        .dataCorrupted(.init(codingPath: path, debugDescription: text))
    }
}

/// Any name.
struct AnyKey: CodingKey {
    let stringValue: String
    let intValue: Int? = nil

    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
}
