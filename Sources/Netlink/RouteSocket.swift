import Addressing

/// The routing side of a network namespace: links, addresses, routes and policy rules (rtnetlink).
///
/// It speaks to the namespace the thread was in when it was opened; see ``NetlinkSocket``.
public struct RouteSocket: ~Copyable {
    var socket: NetlinkSocket

    public init() throws(NetlinkError) {
        socket = try NetlinkSocket(.route)
    }

    /// What to do when the object is there already, or is not.
    public enum Existing: Sendable {
        /// An object that exists is an error (EEXIST).
        case refuse
        /// An object that exists is replaced.
        case replace

        var flags: UInt16 {
            switch self {
            case .refuse: NetlinkSocket.Flag.create | NetlinkSocket.Flag.exclusive
            case .replace: NetlinkSocket.Flag.create | NetlinkSocket.Flag.replace
            }
        }
    }
}

extension IPAddress.Family {
    /// The address family's number in the kernel's interfaces.
    public var kernelNumber: UInt8 { self == .v4 ? 2 : 10 }

    init?(kernelNumber: UInt8) {
        switch kernelNumber {
        case 2: self = .v4
        case 10: self = .v6
        default: return nil
        }
    }
}
