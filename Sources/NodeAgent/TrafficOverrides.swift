import Handover
import ObjectSource

/// What a pod's annotations and its end ask of ztunnel.
struct TrafficOverrides: Hashable, Sendable {
    var settings = PodSettings.none
    /// Annotations whose value means nothing; there is no limit in their place.
    var invalid: [String] = []

    /// Connections into the pod that may be open at once.
    static let connectionLimit = "apus.dev/connection-limit"
    /// Connections into the pod that may begin in a second.
    static let connectionRate = "apus.dev/connection-rate"
    static let most: UInt32 = 10_000_000

    init(_ metadata: ObjectMeta) {
        settings.isTerminating = metadata.isBeingDeleted
        settings.connectionLimit = number(Self.connectionLimit, metadata)
        settings.connectionRate = number(Self.connectionRate, metadata)
    }

    private mutating func number(_ name: String, _ metadata: ObjectMeta) -> UInt32 {
        guard let text = metadata.annotations[name] else { return 0 }
        guard text.utf8.allSatisfy({ (48...57).contains($0) }), let value = UInt32(text),
            (1...Self.most).contains(value)
        else {
            invalid.append("\(name): \"\(text)\" is no whole number from 1 to \(Self.most)")
            return 0
        }
        return value
    }
}
