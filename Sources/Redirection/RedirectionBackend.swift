import LinuxNetwork

/// A means of capture. All functions block (system calls, no waiting for peers) and enter the namespace with the
/// calling thread: never call them on the cooperative pool.
public protocol RedirectionBackend: Sendable {
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

    /// How many connections pass through ztunnel in the namespace, idle tunnels between ztunnels apart.
    func capturedConnections(in namespace: borrowing NetworkNamespace) throws -> Int
}
