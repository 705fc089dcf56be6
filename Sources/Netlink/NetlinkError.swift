import Glibc

/// A netlink request that the kernel refused, or that could not be sent, read or understood.
public struct NetlinkError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What was asked, for an operator: `add rule fwmark 0x111/0xfff`.
    public let operation: String
    /// The `errno` value, positive.
    public let code: CInt
    /// The kernel's own words (extended acknowledgement), where it sent some.
    public let detail: String?

    public init(operation: String, code: CInt, detail: String? = nil) {
        self.operation = operation
        self.code = code
        self.detail = detail
    }

    public var description: String {
        let reason = String(cString: strerror(code))
        guard let detail, !detail.isEmpty else { return "\(operation): \(reason) (\(code))" }
        return "\(operation): \(reason) (\(code)): \(detail)"
    }

    /// A message from the kernel that does not parse.
    static func malformed(_ operation: String) -> NetlinkError {
        NetlinkError(operation: operation, code: EBADMSG, detail: "the kernel's answer could not be read")
    }
}
