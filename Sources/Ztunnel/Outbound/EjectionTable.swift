import Addressing

/// Which endpoints of a service are passed over for a while, because connections to them failed several times in a row.
///
/// A value with time passed in (nanoseconds). Kept by what the client addresses, so that one broken port of a pod does
/// not take its others out. The first ejection is short; each that follows without a success in between is twice as
/// long. Of a service's endpoints one always stays.
struct EjectionTable {
    /// Failures in a row that eject an endpoint.
    static let threshold: UInt8 = 3
    static let firstPause: UInt64 = 5_000_000_000
    static let longestPause: UInt64 = 300_000_000_000
    /// An endpoint that was not tried for so long is forgotten.
    static let memory: UInt64 = 600_000_000_000
    /// Endpoints remembered; while there are so many, no more are added.
    static let capacity = 4096

    private struct Record {
        var failures: UInt8 = 0
        var ejections: UInt8 = 0
        /// 0 while it takes part.
        var until: UInt64 = 0
        var touched: UInt64
    }

    private var records: [Endpoint: [String: Record]] = [:]
    private(set) var count = 0

    /// Endpoints, by uid, that connections to `destination` should not go to now.
    func ejected(from destination: Endpoint, at now: UInt64) -> Set<String> {
        guard let group = records[destination] else { return [] }
        return Set(group.lazy.filter { $0.value.until > now }.map(\.key))
    }

    /// A connection to an endpoint failed before anything was sent.
    /// - Parameter endpoints: how many there are to choose from.
    /// - Returns: Nanoseconds the endpoint is passed over from now; `nil` when it is not.
    mutating func failed(_ uid: String, of destination: Endpoint, among endpoints: Int, at now: UInt64) -> UInt64? {
        if records[destination]?[uid] == nil, count >= Self.capacity {
            forgetOld(at: now)
            guard count < Self.capacity else { return nil }
        }
        var group = records[destination] ?? [:]
        var record = group[uid] ?? Record(touched: now)
        if group[uid] == nil { count += 1 }
        record.touched = now
        record.failures = min(record.failures + 1, Self.threshold)
        defer {
            group[uid] = record
            records[destination] = group
        }
        guard record.failures >= Self.threshold, record.until <= now else { return nil }
        let others = group.count { $0.key != uid && $0.value.until > now }
        guard others + 1 < endpoints else { return nil }
        let pause = min(Self.firstPause << UInt64(min(record.ejections, 8)), Self.longestPause)
        record.ejections = min(record.ejections + 1, 8)
        record.until = now + pause
        // When its time is over it is tried again, and one more failure is enough.
        record.failures = Self.threshold - 1
        return pause
    }

    /// A connection to an endpoint came about: nothing is held against it any more.
    mutating func succeeded(_ uid: String, of destination: Endpoint) {
        guard records[destination]?.removeValue(forKey: uid) != nil else { return }
        count -= 1
        if records[destination]?.isEmpty == true { records[destination] = nil }
    }

    private mutating func forgetOld(at now: UInt64) {
        for (destination, group) in records {
            let kept = group.filter { $0.value.touched + Self.memory > now }
            count -= group.count - kept.count
            records[destination] = kept.isEmpty ? nil : kept
        }
    }
}
