public import ObjectSource

/// What a user is told about an object, in the object's status.
public struct ObjectCondition: Hashable, Sendable, Comparable {
    /// Who says so: each reporter owns the conditions it writes and leaves those of others alone.
    public enum Reporter: String, Hashable, Sendable, CaseIterable {
        case service = "istio-ambient-service"
        case ztunnelPolicy = "istio-ambient-ztunnel-policy"
        case waypointPolicy = "istio-ambient-waypoint-policy"
        case workloadEntry = "istio-ambient-workloadentry"
    }

    public let object: ObjectKey
    public let reporter: Reporter
    /// The target that the condition is about, where a policy has several; empty else.
    public let ancestor: String
    public let type: String
    public let isTrue: Bool
    public let reason: String
    public let message: String
    /// The form of the object that this is said of; 0 where forms are not counted.
    public let generation: Int64

    public init(
        _ object: ObjectKey, _ reporter: Reporter, ancestor: String = "", type: String, isTrue: Bool, reason: String,
        message: String, generation: Int64 = 0
    ) {
        self.object = object
        self.reporter = reporter
        self.ancestor = ancestor
        self.type = type
        self.isTrue = isTrue
        self.reason = reason
        self.message = message
        self.generation = generation
    }

    public static func < (left: ObjectCondition, right: ObjectCondition) -> Bool {
        (left.object, left.type, left.ancestor) < (right.object, right.type, right.ancestor)
    }
}

extension ObjectCondition: CustomStringConvertible {
    public var description: String {
        "\(object)\(ancestor.isEmpty ? "" : " at \(ancestor)"): \(type) is \(isTrue ? "true" : "false"), \(reason): "
            + message
    }
}
