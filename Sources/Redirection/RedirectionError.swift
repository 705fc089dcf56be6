import Glibc
import Netlink

/// Why capture could not be set up, read back or taken away.
public struct RedirectionError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: String, Hashable, Sendable {
        /// The kernel refused a change or a reading.
        case kernel
        /// A setting under /proc/sys could not be read or written.
        case setting
        /// The plan asks for something that the back end cannot do.
        case plan
        /// The kernel does not take the capture programs.
        case program
        /// The plan asks for what this back end cannot do.
        case unsupported
    }

    public let code: Code
    /// For an operator, one line.
    public let message: String
    public let cause: String?
    public let hint: String?

    public init(_ code: Code, _ message: String, cause: String? = nil, hint: String? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
        self.hint = hint
    }

    init(_ error: NetlinkError, _ message: String) {
        let hint: String? =
            switch error.code {
            case EPERM: "the agent needs CAP_NET_ADMIN, and CAP_SYS_ADMIN to enter pods' namespaces"
            case ENOENT, EOPNOTSUPP, EAFNOSUPPORT, EPROTONOSUPPORT:
                "the kernel may lack nf_tables, nft_redir, nft_ct or nft_chain_nat (Linux 5.2 or later for inet NAT)"
            default: nil
            }
        self.init(.kernel, message, cause: error.description, hint: hint)
    }

    /// Runs what speaks netlink; its errors come out with what was being done.
    static func wrapping<Value>(
        _ message: String, _ body: () throws(NetlinkError) -> Value
    ) throws(RedirectionError) -> Value where Value: ~Copyable {
        do throws(NetlinkError) {
            return try body()
        } catch {
            throw RedirectionError(error, message)
        }
    }

    public var description: String {
        var text = message
        if let cause { text += ": \(cause)" }
        if let hint { text += " (\(hint))" }
        return text
    }
}
