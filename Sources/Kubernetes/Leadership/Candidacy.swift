/// What a candidate for a lease knows, and what it may do about it. A value, apart from I/O.
///
/// Others' clocks are not believed: a lease has run out when it has not changed for its whole time by the candidate's own
/// clock, counted from when it was seen to change.
struct Candidacy: Sendable {
    let identity: String
    let namespace: String
    let name: String
    let duration: Duration

    private var seen: Lease?
    private var seenAt: ContinuousClock.Instant?

    init(identity: String, namespace: String, name: String, duration: Duration) {
        self.identity = identity
        self.namespace = namespace
        self.name = name
        self.duration = duration
    }

    /// Takes in the lease as the server has it.
    mutating func observe(_ lease: Lease?, at now: ContinuousClock.Instant) {
        guard seenAt == nil || lease != seen else { return }
        seen = lease
        seenAt = now
    }

    var isHolder: Bool { seen?.holder == identity }
    /// Who leads as far as is known; `nil` for nobody.
    var holder: String? { seen.flatMap { $0.holder.isEmpty ? nil : $0.holder } }

    /// The lease to write, to take it or to keep it.
    /// - Parameter time: Seconds since 1970, for those who read it.
    /// - Returns: `nil` while somebody else has it.
    func claim(at now: ContinuousClock.Instant, time: Double) -> Lease? {
        guard var lease = seen else {
            return Lease(
                namespace: namespace, name: name, holder: identity, duration: duration, acquired: time, renewed: time)
        }
        if !isHolder {
            let limit = max(lease.duration, .seconds(1))
            guard lease.holder.isEmpty || seenAt.map({ now - $0 >= limit }) ?? false else { return nil }
            lease.holder = identity
            lease.acquired = time
            lease.transitions += 1
        }
        lease.duration = duration
        lease.renewed = time
        return lease
    }

    /// The lease to write to let go of it, so that the next need not wait; `nil` when it is not held.
    func release(time: Double) -> Lease? {
        guard isHolder, var lease = seen else { return nil }
        lease.holder = ""
        lease.duration = .seconds(1)
        lease.renewed = time
        return lease
    }
}
