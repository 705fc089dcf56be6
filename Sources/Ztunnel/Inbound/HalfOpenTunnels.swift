/// The tunnels to a pod whose peers have not proved who they are yet, on one worker: at most so many at once.
///
/// Port 15008 is open to everybody, and a handshake that has begun costs us more than it costs the peer. Beyond the limit
/// the oldest goes: a good peer needs a few milliseconds, so among those that wait longest are the ones that never mean
/// to end. Whoever floods pushes out its own.
struct HalfOpenTunnels<Tunnel: AnyObject> {
    /// Names a place until it is given up.
    typealias Ticket = UInt64

    /// Per pod and worker. A handshake of ours takes less than a millisecond of the worker, so this is about a second of
    /// its work.
    static var usualLimit: Int { 1024 }

    let limit: Int
    private var waiting: [Ticket: Tunnel] = [:]
    private var next: Ticket = 0
    /// No ticket below it is in use.
    private var oldest: Ticket = 0

    init(limit: Int = Self.usualLimit) { self.limit = limit }

    var count: Int { waiting.count }

    /// Takes a tunnel in.
    /// - Returns: Its ticket, and the tunnel that must go for it, which has lost its place already.
    mutating func add(_ tunnel: Tunnel) -> (ticket: Ticket, evicted: Tunnel?) {
        let evicted = waiting.count < limit ? nil : takeOldest()
        defer { next += 1 }
        waiting[next] = tunnel
        return (next, evicted)
    }

    /// Gives a place up. Nothing happens where it is gone.
    mutating func remove(_ ticket: Ticket) {
        waiting[ticket] = nil
        // Each ticket is passed once, here or in a flood, so that a flood after a long peace has no way to make up for.
        while oldest < next, waiting[oldest] == nil { oldest += 1 }
    }

    private mutating func takeOldest() -> Tunnel? {
        while oldest < next {
            defer { oldest += 1 }
            if let tunnel = waiting.removeValue(forKey: oldest) { return tunnel }
        }
        return nil
    }
}
