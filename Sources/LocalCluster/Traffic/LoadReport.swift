/// What became of the connections of a load, each on the clock that all processes of the machine share (CLOCK_MONOTONIC).
public struct LoadReport: Codable, Sendable, Hashable {
    public enum Outcome: Int, Codable, Sendable {
        /// The line came back.
        case served = 0
        /// connect() failed or did not end in time.
        case connectFailed = 1
        /// Connected, and then closed or reset before the line came back.
        case broken = 2
        /// Connected, and the line did not come back in time.
        case silent = 3
    }

    public struct Sample: Sendable, Hashable {
        /// Nanoseconds: when connect() was called, when it succeeded (0: never), when it was over.
        public var started: UInt64
        public var connected: UInt64
        public var ended: UInt64
        public var outcome: Outcome
        /// errno of a failure, else 0.
        public var error: Int32

        public init(started: UInt64, connected: UInt64 = 0, ended: UInt64, outcome: Outcome, error: Int32 = 0) {
            self.started = started
            self.connected = connected
            self.ended = ended
            self.outcome = outcome
            self.error = error
        }
    }

    public var samples: [Sample]

    public init(samples: [Sample]) { self.samples = samples }

    public func count(_ outcome: Outcome) -> Int { samples.count { $0.outcome == outcome } }

    // MARK: Around a kill

    /// When a process was killed. Between the two it is dying: it may still accept, and what it held is being closed.
    public struct Kill: Sendable, Hashable {
        public var signalled: UInt64
        public var dead: UInt64

        public init(signalled: UInt64, dead: UInt64) {
            self.signalled = signalled
            self.dead = dead
        }
    }

    /// A load seen from a kill.
    public struct AroundKill: Sendable, Hashable {
        /// In service at the kill: begun before it and not over. These may be reset.
        public var inService = 0
        public var inServiceLost = 0
        /// Begun after it.
        public var after = 0
        public var afterFailed = 0
        /// The longest from connect() to the answer among those begun after it, nanoseconds.
        public var afterSlowest: UInt64 = 0
        /// Over before it, and failed: no business of the kill's.
        public var beforeFailed = 0
        /// connect() that failed or timed out, whenever it was called.
        public var connectFailed = 0

        /// No connect() failed, and everything begun after the kill was served in time.
        public func held(within limit: Duration) -> Bool {
            connectFailed == 0 && afterFailed == 0 && beforeFailed == 0 && after > 0
                && Duration.nanoseconds(Int64(clamping: afterSlowest)) <= limit
        }
    }

    /// What became of the connections of one kill.
    /// - Parameters:
    ///   - earlier: a kill before it. What began before that one was over is left to it.
    ///   - later: a kill after it. What is begun after that one, or is in service then, is left to it, unless it had had
    ///     `limit` to be over.
    public func around(
        _ kill: Kill, after earlier: Kill? = nil, before later: Kill? = nil, limit: Duration = .seconds(2)
    ) -> AroundKill {
        let grace = UInt64(limit.components.seconds) * 1_000_000_000
        func isAnothers(_ sample: Sample) -> Bool {
            if let earlier, sample.started < earlier.dead, sample.ended < kill.signalled { return true }
            guard let later else { return false }
            return sample.started >= later.dead
                || (sample.started >= kill.dead && sample.ended >= later.signalled
                    && later.signalled < sample.started + grace)
        }
        var result = AroundKill()
        for sample in samples where !isAnothers(sample) {
            if sample.outcome == .connectFailed { result.connectFailed += 1 }
            if sample.started >= kill.dead {
                result.after += 1
                if sample.outcome != .served { result.afterFailed += 1 }
                result.afterSlowest = max(result.afterSlowest, sample.ended - sample.started)
            } else if sample.ended >= kill.signalled {
                result.inService += 1
                if sample.outcome != .served { result.inServiceLost += 1 }
            } else if sample.outcome != .served {
                result.beforeFailed += 1
            }
        }
        return result
    }
}

extension LoadReport.Sample: Codable {
    /// Five numbers: a load has thousands of these.
    public init(from decoder: any Decoder) throws {
        var values = try decoder.unkeyedContainer()
        started = try values.decode(UInt64.self)
        connected = try values.decode(UInt64.self)
        ended = try values.decode(UInt64.self)
        outcome = try values.decode(LoadReport.Outcome.self)
        error = try values.decode(Int32.self)
    }

    public func encode(to encoder: any Encoder) throws {
        var values = encoder.unkeyedContainer()
        try values.encode(started)
        try values.encode(connected)
        try values.encode(ended)
        try values.encode(outcome)
        try values.encode(error)
    }
}
