import ObjectSource

/// Which Events there are of what happened, so that what happens again is counted and does not flood the API. A value.
struct EventBook: Sendable {
    struct Key: Hashable, Sendable {
        var subject: ObjectEvent.Subject
        var reason: String
    }

    enum Entry: Hashable, Sendable {
        case create(name: String, count: Int)
        case update(name: String, count: Int)
    }

    private struct Series: Sendable {
        var name: String
        var count = 0
        var isWritten = false
        /// In seconds of any clock that does not go back.
        var lastWritten = -Double.infinity
        var lastSeen: Double
    }

    /// Series that are remembered, at most; the API forgets Events after an hour.
    static let maximumSeries = 2048
    static let life = 3600.0
    /// The least time between two writings of one series.
    static let rest = 10.0
    /// Events a second in the long run, and at once.
    static let rate = 20.0
    static let burst = 400.0

    private var series: [Key: Series] = [:]
    private var tokens = EventBook.burst
    private var lastRefill: Double?
    /// What was not written, to keep the API from being flooded.
    private(set) var suppressed = 0

    /// For tests.
    var seriesCount: Int { series.count }

    /// - Parameter suffix: Makes the name of a new Event unique.
    /// - Returns: What is to be written; `nil` when it was written a moment ago, or too much is.
    mutating func note(_ event: ObjectEvent, at now: Double, suffix: String) -> Entry? {
        refill(now)
        let key = Key(subject: event.subject, reason: event.reason)
        if series[key].map({ now - $0.lastSeen > Self.life }) ?? true {
            makeRoom(now)
            // A name may have 253 bytes.
            series[key] = Series(name: "\(event.subject.name.name.prefix(220)).\(suffix)", lastSeen: now)
        }
        guard var entry = series[key] else { return nil }
        entry.count += 1
        entry.lastSeen = now
        defer { series[key] = entry }
        guard now - entry.lastWritten >= Self.rest, tokens >= 1 else {
            suppressed += 1
            return nil
        }
        tokens -= 1
        entry.lastWritten = now
        return entry.isWritten
            ? .update(name: entry.name, count: entry.count) : .create(name: entry.name, count: entry.count)
    }

    /// It is there now.
    mutating func written(_ event: ObjectEvent) {
        series[Key(subject: event.subject, reason: event.reason)]?.isWritten = true
    }

    /// It is not there, or no longer: the next is made anew.
    mutating func forget(_ event: ObjectEvent) { series[Key(subject: event.subject, reason: event.reason)] = nil }

    private mutating func refill(_ now: Double) {
        tokens = min(Self.burst, tokens + Self.rate * max(0, now - (lastRefill ?? now)))
        lastRefill = now
    }

    private mutating func makeRoom(_ now: Double) {
        guard series.count >= Self.maximumSeries else { return }
        series = series.filter { now - $0.value.lastSeen <= Self.life }
        guard series.count >= Self.maximumSeries else { return }
        // The newer half stays: making room one by one would look at all of them every time.
        let newer = series.sorted { $0.value.lastSeen > $1.value.lastSeen }.prefix(Self.maximumSeries / 2)
        series = Dictionary(uniqueKeysWithValues: newer.map { ($0.key, $0.value) })
    }
}
