/// A message that fills one packet of one of the sockets between the parts of a node.
///
/// Decoding is strict: unknown fields are skipped (newer peers may add some), everything else that is not
/// right throws. Of a field that comes twice, and of a oneof with two cases, the last one counts.
public protocol HandoverMessage: Hashable, Sendable {
    /// Longest packet in bytes that a receiver takes; receive into a buffer of this size and refuse truncated ones.
    static var maximumLength: Int { get }
    /// The name in errors.
    static var name: String { get }
    init(from reader: inout ProtobufReader) throws(HandoverError)
    func write(to writer: inout ProtobufWriter)
}

extension HandoverMessage {
    public static var name: String { "\(Self.self)" }

    /// Decodes one packet.
    public init(decoding bytes: [UInt8]) throws(HandoverError) {
        guard bytes.count <= Self.maximumLength else {
            throw HandoverError(
                .tooLong, "\(Self.name): \(bytes.count) bytes, the limit is \(Self.maximumLength)")
        }
        var reader = ProtobufReader(bytes, name: Self.name)
        try self.init(from: &reader)
    }

    /// The packet. Values outside the limits are written as they are: it is the receiver that refuses.
    public func encoded() -> [UInt8] {
        var writer = ProtobufWriter()
        write(to: &writer)
        return writer.bytes
    }
}

/// Limits in bytes and elements that all messages share.
public enum HandoverLimits {
    /// Names of pods, namespaces, service accounts, containers, interfaces and uids (Kubernetes: 253).
    public static let name = 253
    /// A file path (PATH_MAX).
    public static let path = 4096
    /// Text of an error that travels; ``shortened(_:)`` keeps senders within it.
    public static let text = 512
    /// Descriptors one packet may carry (the kernel's SCM_MAX_FD).
    public static let descriptors = 253

    /// `message` cut to ``text`` bytes at a character boundary.
    public static func shortened(_ message: String) -> String {
        guard message.utf8.count > text else { return message }
        var result = ""
        var room = text - 3
        for character in message {
            room -= character.utf8.count
            if room < 0 { break }
            result.append(character)
        }
        return result + "..."
    }
}
