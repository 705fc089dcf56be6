/// TLS records in a stream (RFC 8446, section 5.1), read from outside.
public struct TLSRecords: Sendable, Hashable {
    public private(set) var handshake = 0
    public private(set) var applicationData = 0
    public private(set) var other = 0
    /// Bytes of whole records.
    public private(set) var bytes = 0
    /// Whether the stream was records from its first byte to its last; the last one may be cut.
    public private(set) var isPure = true

    public var count: Int { handshake + applicationData + other }

    /// - Parameter stream: begins at the beginning of a record.
    public init(_ stream: some Collection<UInt8>) {
        var rest = Array(stream)[...]
        while !rest.isEmpty {
            let header = Array(rest.prefix(5))
            guard header.count == 5 else {
                // A header that was cut is a record as far as it goes.
                isPure = isPure && (20...23).contains(header[0])
                return
            }
            let length = Int(header[3]) << 8 | Int(header[4])
            // 2^14 and 256 bytes of expansion at most.
            guard (20...23).contains(header[0]), header[1] == 3, header[2] <= 4, length <= 16640 else {
                isPure = false
                return
            }
            guard rest.count >= 5 + length else { return }
            switch header[0] {
            case 22: handshake += 1
            case 23: applicationData += 1
            default: other += 1
            }
            bytes += 5 + length
            rest = rest.dropFirst(5 + length)
        }
    }
}
