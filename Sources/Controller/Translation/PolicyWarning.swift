/// A policy that is not, or not wholly, in force at layer 4, and why.
public struct PolicyWarning: Hashable, Sendable, Comparable, CustomStringConvertible {
    public enum Effect: String, Hashable, Sendable, CaseIterable {
        /// More is refused than the policy says.
        case stricter
        /// Something that the policy means to refuse is let through.
        case weaker
        /// The policy is not in force at all.
        case ignored
    }

    /// `namespace/name`
    public let policy: String
    public let effect: Effect
    public let message: String

    public init(policy: String, effect: Effect, message: String) {
        self.policy = policy
        self.effect = effect
        self.message = message
    }

    public var description: String { "\(policy): \(message)" }

    public static func < (left: PolicyWarning, right: PolicyWarning) -> Bool {
        (left.policy, left.message) < (right.policy, right.message)
    }
}
