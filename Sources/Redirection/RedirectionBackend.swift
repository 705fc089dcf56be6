import LinuxNetwork
import Netlink

/// A means of capture. All functions block (system calls, no waiting for peers) and enter the namespace with the
/// calling thread: never call them on the cooperative pool.
public protocol RedirectionBackend: Sendable {
    /// Why plans cannot ask for the seal here (``RedirectionPlan/requiresSeal``); `nil` when they can.
    var sealProblem: RedirectionError? { get }

    /// Does beforehand what of ``apply(_:in:)`` takes the kernel long and changes nothing for the pod's traffic: for who waits
    /// for something else meanwhile. May run beside ``apply(_:in:)``, and beside nothing else here: what one of them has done
    /// the other leaves as it is, and what this leaves goes with ``remove(in:)``.
    func prepare(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws

    /// Makes the plan hold, from whatever is there. Doing it again changes nothing.
    func apply(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws

    /// Stops capturing new connections and keeps translating those that are captured.
    func leave(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws

    /// Takes everything away; what is still captured is cut. Nothing to take away is no error.
    func remove(in namespace: borrowing NetworkNamespace) throws

    /// Reads back what holds in the kernel.
    /// - Returns: What differs from the plan; empty when nothing does.
    func verify(
        _ plan: RedirectionPlan, _ phase: RedirectionPhase, in namespace: borrowing NetworkNamespace
    ) throws -> [Drift]

    /// ztunnel's listeners that are not there.
    func missingListeners(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws -> [Drift]

    /// Connections that were open when capture began and go on past ztunnel until they close.
    func sparedConnections(in namespace: borrowing NetworkNamespace) throws -> [SocketEntry]

    /// Ends these connections.
    func cut(_ connections: [SocketEntry], in namespace: borrowing NetworkNamespace) throws

    /// Drops all TCP of the namespace but loopback's until ``unblock(in:)``, by means that do not depend on capture's own.
    /// Doing it again changes nothing.
    func block(in namespace: borrowing NetworkNamespace) throws

    /// Ends what ``block(in:)`` began; where nothing is blocked that is no error.
    func unblock(in namespace: borrowing NetworkNamespace) throws

    /// How many connections pass through ztunnel in the namespace, idle tunnels between ztunnels apart.
    func capturedConnections(in namespace: borrowing NetworkNamespace) throws -> Int
}

extension RedirectionBackend {
    public var sealProblem: RedirectionError? { SealProbe.problem() }

    public func prepare(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws {}

    public func missingListeners(_ plan: RedirectionPlan, in namespace: borrowing NetworkNamespace) throws -> [Drift] {
        try namespace.run { () throws(RedirectionError) in
            try RedirectionError.wrapping("cannot list ztunnel's listeners") { () throws(NetlinkError) in
                var diagnostics = try SocketDiagnostics()
                return try ZtunnelListeners.missing(plan, &diagnostics)
            }
        }
    }

    public func sparedConnections(in namespace: borrowing NetworkNamespace) throws -> [SocketEntry] {
        try namespace.run { () throws(RedirectionError) in
            try RedirectionError.wrapping("cannot list the pod's connections") { () throws(NetlinkError) in
                var diagnostics = try SocketDiagnostics()
                return try SparedConnections.list(&diagnostics)
            }
        }
    }

    public func cut(_ connections: [SocketEntry], in namespace: borrowing NetworkNamespace) throws {
        try namespace.run { () throws(RedirectionError) in
            try RedirectionError.wrapping("cannot end connections that go past the mesh") { () throws(NetlinkError) in
                var diagnostics = try SocketDiagnostics()
                for connection in connections { try diagnostics.destroy(connection) }
            }
        }
    }

    public func block(in namespace: borrowing NetworkNamespace) throws {
        try namespace.run { () throws(RedirectionError) in
            try RedirectionError.wrapping("cannot block the pod's traffic") { () throws(NetlinkError) in
                var nftables = try NftablesSocket()
                try CaptureGuard.raise(&nftables)
            }
        }
    }

    public func unblock(in namespace: borrowing NetworkNamespace) throws {
        try namespace.run { () throws(RedirectionError) in
            try RedirectionError.wrapping("cannot let the pod's traffic pass again") { () throws(NetlinkError) in
                var nftables = try NftablesSocket()
                try CaptureGuard.lower(&nftables)
            }
        }
    }
}
