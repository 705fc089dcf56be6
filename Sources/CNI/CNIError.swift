/// The error object of the specification, as a plugin prints it on stdout.
public struct CNIError: Error, Sendable, Hashable {
    /// Error codes: 0-99 are the specification's, from 100 on a plugin's own.
    public struct Code: RawRepresentable, Sendable, Hashable {
        public let rawValue: UInt32

        public init(rawValue: UInt32) { self.rawValue = rawValue }

        /// 1: the configuration's version is not spoken.
        public static let incompatibleVersion = Code(rawValue: 1)
        /// 2: a field asks for what the plugin cannot do.
        public static let unsupportedField = Code(rawValue: 2)
        /// 3: the container is not known, or does not exist.
        public static let unknownContainer = Code(rawValue: 3)
        /// 4: environment variables are missing or wrong; the message names them.
        public static let invalidEnvironment = Code(rawValue: 4)
        /// 5: stdin could not be read or stdout not be written.
        public static let inputOutput = Code(rawValue: 5)
        /// 6: the configuration is no JSON or a field has the wrong type.
        public static let decoding = Code(rawValue: 6)
        /// 7: the configuration reads well and says something wrong.
        public static let invalidConfiguration = Code(rawValue: 7)
        /// 8: `CNI_NETNS` is no usable network namespace.
        public static let invalidNamespace = Code(rawValue: 8)
        /// 11: a passing condition; the runtime should try again later.
        public static let tryAgainLater = Code(rawValue: 11)
        /// 50: the plugin cannot serve ADD now.
        public static let notAvailable = Code(rawValue: 50)
        /// 51: as 50, and running containers may have limited connectivity.
        public static let notAvailableLimited = Code(rawValue: 51)
        /// 999: the code libcni gives an error that has none.
        public static let other = Code(rawValue: 999)
    }

    public var code: Code
    /// What failed, for an operator, in a line.
    public var message: String
    /// Cause, and what to do about it. May be empty.
    public var details: String
    /// The `cniVersion` of the error object: the configuration's as far as it is known.
    public var version: String

    public init(
        _ code: Code, _ message: String, details: String = "", version: String = SpecVersion.newest.rawValue
    ) {
        self.code = code
        self.message = message
        self.details = details
        self.version = version
    }

    /// Reads the error object of a plugin; `nil` when the value is none.
    public init?(_ json: JSONValue) {
        guard case .object(let object) = json, case .number(let number) = object["code"],
            let integer = number.integer, let code = UInt32(exactly: integer)
        else { return nil }
        func text(_ name: String) -> String? {
            if case .string(let text) = object[name] { text } else { nil }
        }
        self.init(
            Code(rawValue: code), text("msg") ?? "", details: text("details") ?? "",
            version: text("cniVersion") ?? SpecVersion.newest.rawValue)
    }

    public var json: JSONValue {
        var object = JSONObject([
            .init("cniVersion", .string(version)),
            .init("code", .number(JSONNumber(code.rawValue))),
            .init("msg", .string(message)),
        ])
        if !details.isEmpty { object["details"] = .string(details) }
        return .object(object)
    }
}

extension CNIError: CustomStringConvertible {
    /// One line without control characters, for logs: the texts may come from a peer.
    public var description: String {
        let text = details.isEmpty ? message : "\(message); \(details)"
        var line = ""
        for scalar in text.unicodeScalars {
            line += scalar.value < 0x20 || scalar.value == 0x7f ? " " : String(Character(scalar))
        }
        return "\(line) (code \(code.rawValue))"
    }
}

extension CNIError {
    /// The error of a text that is no JSON.
    init(_ error: JSONError, in what: String) {
        self.init(.decoding, "cannot read \(what): \(error)", details: "it must be one JSON object of at most 1 MiB")
    }

    /// The error of a field with a value of another kind.
    static func wrongType(_ field: String, expected: String, found: JSONValue) -> CNIError {
        CNIError(.decoding, "field \(field) must be \(expected), found \(found.kind)")
    }
}
