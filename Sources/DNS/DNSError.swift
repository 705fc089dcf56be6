/// Why bytes are no DNS message. The sender is at fault; nothing of the message is used.
public struct DNSError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: String, Hashable, Sendable {
        /// The bytes end inside something.
        case truncated
        /// A label longer than 63, of a kind that does not exist, or a name longer than 255 bytes.
        case badName
        /// A compression pointer that does not point to an earlier name.
        case badPointer
        /// Something that stands in a place where it must not.
        case malformed
        /// Longer than a message can be.
        case tooLong
    }

    public let code: Code
    /// What is wrong, as words for a log.
    public let message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { message }
}
