import Synchronization

/// How many connections into a pod may be open, and how many may begin in a second. One a pod, shared by all workers.
///
/// Every connection is counted, limited or not, so that a limit that comes later knows of those that are open.
final class ConnectionLimiter: Sendable {
    /// Why a connection is not taken, with the limit that is in force.
    enum Refusal: Error, Equatable, CustomStringConvertible {
        case tooManyOpen(UInt32)
        case tooFast(UInt32)

        var description: String {
            switch self {
            case .tooManyOpen(let limit):
                "the pod has as many connections as it may: \(limit) (annotation apus.dev/connection-limit)"
            case .tooFast(let rate):
                "connections to the pod begin faster than they may: \(rate) a second (annotation apus.dev/connection-rate)"
            }
        }

        /// As the metric tells it.
        var reason: String {
            switch self {
            case .tooManyOpen: "connections"
            case .tooFast: "rate"
            }
        }
    }

    private let open = Atomic<Int>(0)
    private let limit = Atomic<UInt32>(0)
    private let rate = Atomic<UInt32>(0)
    /// When, in nanoseconds, the next connection would be due if they came evenly.
    private let due = Atomic<UInt64>(0)

    /// Connections that are open.
    var count: Int { open.load(ordering: .relaxed) }

    /// 0 for no limit. What is open already stays.
    func set(connections: UInt32, perSecond: UInt32) {
        limit.store(connections, ordering: .relaxed)
        rate.store(perSecond, ordering: .relaxed)
    }

    /// Counts a connection in; ``give()`` must follow when it is over.
    func take(at now: UInt64) throws(Refusal) {
        let count = open.wrappingAdd(1, ordering: .relaxed).newValue
        do throws(Refusal) {
            let most = limit.load(ordering: .relaxed)
            if most > 0, count > most { throw .tooManyOpen(most) }
            let perSecond = rate.load(ordering: .relaxed)
            if perSecond > 0, !isDue(at: now, RatePace(perSecond: perSecond)) { throw .tooFast(perSecond) }
        } catch {
            give()
            throw error
        }
    }

    func give() { open.wrappingSubtract(1, ordering: .relaxed) }

    private func isDue(at now: UInt64, _ pace: RatePace) -> Bool {
        var seen = due.load(ordering: .relaxed)
        while let next = pace.admit(at: now, due: seen) {
            let (exchanged, current) = due.weakCompareExchange(expected: seen, desired: next, ordering: .relaxed)
            if exchanged { return true }
            seen = current
        }
        return false
    }
}

/// Evenly spaced events with a second's worth of patience (the generic cell rate algorithm): after a quiet second as many
/// may come at once as come in a second.
struct RatePace {
    let interval: UInt64
    private static let patience: UInt64 = 1_000_000_000

    init(perSecond: UInt32) { interval = Self.patience / UInt64(max(perSecond, 1)) }

    /// When the next event is due if one happens now; `nil` when it may not happen now.
    func admit(at now: UInt64, due: UInt64) -> UInt64? {
        let from = max(now, due)
        guard from - now <= Self.patience - interval else { return nil }
        return from + interval
    }
}

/// The limiters of the pods that are served, by the pod's uid.
final class ConnectionLimiters: Sendable {
    private let limiters = Mutex<[String: ConnectionLimiter]>([:])

    func of(_ uid: String) -> ConnectionLimiter {
        limiters.withLock { limiters in
            if let known = limiters[uid] { return known }
            let made = ConnectionLimiter()
            limiters[uid] = made
            return made
        }
    }

    func forget(_ uid: String) { limiters.withLock { $0[uid] = nil } }
}
