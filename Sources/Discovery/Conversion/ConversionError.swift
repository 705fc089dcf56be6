/// Why a resource from the wire is no resource of the mesh. Only the resource is refused, never its neighbours.
public struct ConversionError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The field, as on the wire.
    public let field: String
    public let message: String

    public init(_ field: String, _ message: String) {
        self.field = field
        self.message = message
    }

    public var description: String { "\(field): \(message)" }
}

/// Limits of what is taken from the wire.
enum WireNumber {
    static func port(_ value: UInt32, _ field: String) throws(ConversionError) -> UInt16 {
        guard let port = UInt16(exactly: value) else { throw ConversionError(field, "\(value) is no port") }
        return port
    }
}
