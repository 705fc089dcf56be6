import Addressing

/// What must hold in the node's own network namespace so that kubelet's probes reach enrolled pods past policy, and
/// nothing else does.
///
/// Probes leave the node with ``RedirectionPlan/probeAddress(_:)`` as their source, which the pod's own rules exempt.
/// That address must mean something, so whatever else uses it on this node is dropped.
public struct HostProbePlan: Hashable, Sendable {
    /// Whose connections are probes.
    public enum Sender: Hashable, Sendable {
        /// Sockets made in kubelet's cgroup, to an address and port of ``HostProbePlan/destinations``. Without a cgroup
        /// nobody's are.
        case kubelet(SocketCgroup?)
        /// Any socket of the node, to any port of an address: Istio's rules.
        case anySocket
    }

    public var sender: Sender
    /// The addresses of enrolled pods and the ports that their probes name. Without any nothing has to hold.
    public var destinations: [IPAddress: Set<UInt16>]

    public init(_ sender: Sender, destinations: [IPAddress: Set<UInt16>] = [:]) {
        self.sender = sender
        self.destinations = destinations
    }
}

/// A cgroup (version 2) by which sockets are told apart: a socket belongs to the one its process was in when it made it.
public struct SocketCgroup: Hashable, Sendable {
    /// The inode of its directory.
    public let id: UInt64
    /// Steps below the root that this process sees; not 0, since every socket is the root's.
    public let level: UInt32

    /// `nil` for the root, and for what is deeper than nf_tables can look (255).
    public init?(id: UInt64, level: UInt32) {
        guard (1..<255).contains(level) else { return nil }
        self.id = id
        self.level = level
    }
}
