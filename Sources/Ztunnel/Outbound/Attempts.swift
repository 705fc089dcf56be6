/// What a captured connection has tried so far, and whether it may try again. A value; the clock is passed in.
///
/// Nothing of the application's is read before a peer has answered, so until then another tunnel or another endpoint can
/// carry the connection as if the first had never been.
struct Attempts {
    enum Next: Equatable {
        /// Another tunnel to the same endpoint.
        case sameEndpoint
        /// Another endpoint, if there is one.
        case otherEndpoint
        case giveUp
    }

    /// Tunnels tried to one endpoint: a peer that was restarted takes its tunnels along.
    static let tunnelLimit = 3
    static let endpointLimit = 3
    /// Nanoseconds after which nothing new is tried.
    static let patience: UInt64 = 30_000_000_000

    private(set) var tried: [String] = []
    private var tunnels = 0
    private let startedAt: UInt64

    init(at now: UInt64) { startedAt = now }

    /// An attempt begins.
    mutating func began() { tunnels += 1 }

    /// What to do after a failure.
    /// - Parameter endpoint: the uid of the one that was tried; `nil` where there is no choice.
    mutating func next(after kind: TunnelFailure.Kind, of endpoint: String?, at now: UInt64) -> Next {
        guard kind != .final, now - startedAt < Self.patience else { return .giveUp }
        if kind == .tunnelLost, tunnels < Self.tunnelLimit { return .sameEndpoint }
        guard let endpoint, tried.count + 1 < Self.endpointLimit else { return .giveUp }
        tried.append(endpoint)
        tunnels = 0
        return .otherEndpoint
    }
}
