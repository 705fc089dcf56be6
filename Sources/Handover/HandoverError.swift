/// Why bytes are not the message they should be. The sender is at fault; the receiver drops the message
/// (and mostly the connection), and tells the operator ``message``.
public struct HandoverError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The kinds of fault.
    public enum Code: String, Hashable, Sendable {
        /// The bytes end inside a field.
        case truncated
        /// A varint of more than ten bytes, a field number outside 1...2^29-1, or a group.
        case malformed
        /// A known field with another wire type than its own.
        case wrongWireType
        /// A number that does not fit its field, or an enumeration value that has no meaning here.
        case outOfRange
        /// A string that is not UTF-8.
        case notUTF8
        /// A string, a nested message or the whole message is longer than its limit.
        case tooLong
        /// A repeated field has more elements than its limit.
        case tooMany
        /// A field that must be there is not.
        case missing
    }

    public let code: Code
    /// One sentence for an operator: which message, which field, what is wrong with it.
    public let message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { "\(message) (\(code.rawValue))" }
}
