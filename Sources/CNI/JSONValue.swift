/// A JSON value (RFC 8259) that loses nothing a reader could care about: the order of members, members that occur
/// twice, and the digits of numbers stay as they were written.
///
/// A chained plugin hands on what earlier plugins reported, fields it does not know included, so values are kept and
/// not mapped to types.
public enum JSONValue: Sendable {
    case null
    case bool(Bool)
    case number(JSONNumber)
    case string(String)
    case array([JSONValue])
    case object(JSONObject)
}

/// A number as its text. A value that no machine type holds (`1e400`, thirty digits) is passed on whole.
public struct JSONNumber: Sendable, Hashable {
    /// The digits as read; always a number of the JSON grammar.
    public let text: String

    init(validated text: String) { self.text = text }

    public init(_ value: some FixedWidthInteger) { text = String(value) }

    /// The value where it is written as an integer (no fraction, no exponent) and fits; `nil` otherwise.
    public var integer: Int? { Int(text) }
}

/// The members of an object in their order, names that occur twice included.
public struct JSONObject: Sendable {
    public struct Member: Sendable {
        public var name: String
        public var value: JSONValue

        public init(_ name: String, _ value: JSONValue) {
            self.name = name
            self.value = value
        }
    }

    public var members: [Member]

    public init(_ members: [Member] = []) { self.members = members }

    /// The value of a member; of several with one name the last, which is what runtimes and other plugins see.
    ///
    /// Setting replaces the last one in its place or appends; setting `nil` removes all of that name.
    public subscript(name: String) -> JSONValue? {
        get { members.last { $0.name.hasSameBytes(as: name) }?.value }
        set {
            guard let newValue else {
                members.removeAll { $0.name.hasSameBytes(as: name) }
                return
            }
            if let index = members.lastIndex(where: { $0.name.hasSameBytes(as: name) }) {
                members[index].value = newValue
            } else {
                members.append(Member(name, newValue))
            }
        }
    }
}

extension JSONValue {
    /// The word for the kind of value in messages: "a string", "an object", ...
    public var kind: String {
        switch self {
        case .null: "null"
        case .bool: "a boolean"
        case .number: "a number"
        case .string: "a string"
        case .array: "an array"
        case .object: "an object"
        }
    }

    public var isNull: Bool {
        if case .null = self { true } else { false }
    }
}

// MARK: - Equality

// Not synthesised: `String` compares by canonical equivalence (KELVIN SIGN equals "K"), JSON names are code points.

extension JSONValue: Equatable {
    public static func == (left: JSONValue, right: JSONValue) -> Bool {
        switch (left, right) {
        case (.null, .null): true
        case (.bool(let left), .bool(let right)): left == right
        case (.number(let left), .number(let right)): left == right
        case (.string(let left), .string(let right)): left.hasSameBytes(as: right)
        case (.array(let left), .array(let right)): left == right
        case (.object(let left), .object(let right)): left == right
        default: false
        }
    }
}

extension JSONObject: Equatable {}

extension JSONObject.Member: Equatable {
    public static func == (left: Self, right: Self) -> Bool {
        left.name.hasSameBytes(as: right.name) && left.value == right.value
    }
}

extension String {
    /// Equal code point by code point, without Unicode's canonical equivalence.
    func hasSameBytes(as other: String) -> Bool { utf8.elementsEqual(other.utf8) }
}
