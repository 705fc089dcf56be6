/// What goes wrong on purpose. All of it can be changed while the server serves; nothing of it changes what is stored.
public struct Faults: Sendable {
    /// By path (`/api/v1/pods`) or the beginning of one with `*` at its end: the status of every answer.
    public var refusals: [String: Int] = [:]
    /// Tokens whose bearers are not answered at all.
    public var unanswered: Set<String> = []
    /// Every answer comes so much later.
    public var answerDelay = Duration.zero
    /// Watches are answered with 410, whatever they ask for.
    public var expiresWatches = false
    /// Pages after the first are answered with 410.
    public var expiresPages = false
    /// A 410 comes as an event of a stream that began well.
    public var expiresByEvent = false
    /// Watches end as soon as they begin.
    public var endsWatchesAtOnce = false
    /// Watches tell nothing, bookmarks neither; whoever watches again hears of it all.
    public var isSilent = false
    /// Every event comes so much later.
    public var eventDelay = Duration.zero
    /// Every event comes so many times.
    public var copies = 1
    /// So many events are held back and then told in the wrong order, the latest first.
    public var reverses = 1

    public init() {}

    func refusal(of path: String) -> Int? {
        if let status = refusals[path] { return status }
        return refusals.first { $0.key.hasSuffix("*") && path.hasPrefix($0.key.dropLast()) }?.value
    }
}
