/// How often what changes is published: the first change at once, those that follow it gathered for a while, so that a
/// thousand changes a second are not as many messages to each proxy.
enum PushPace {
    /// What a message to one proxy, and its answer, may cost the controller: that much of one processor is used, at most.
    private static let each = Duration.microseconds(250)
    private static let least = Duration.milliseconds(10)
    /// Nobody waits longer than this for what others are told meanwhile.
    private static let most = Duration.seconds(1)

    /// The time from one publication to the next.
    static func rest(clients: Int) -> Duration { min(max(least, each * clients), most) }
}
