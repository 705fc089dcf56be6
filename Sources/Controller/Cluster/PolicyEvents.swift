import Kubernetes
import ObjectSource
import Synchronization

/// Tells whoever wrote a policy, by an Event on it, that layer 4 does not enforce it as written: once for each thing that
/// is wrong with it.
final class PolicyEvents: Sendable {
    private let recorder: ClusterEventRecorder
    private let told = Mutex<Set<PolicyWarning>>([])

    init(_ recorder: ClusterEventRecorder) { self.recorder = recorder }

    func tell(_ warnings: [PolicyWarning], _ objects: ObjectSnapshot) {
        let now = Set(warnings)
        let before = told.withLock { told in
            defer { told = now }
            return told
        }
        for warning in now.subtracting(before).sorted() { recorder.record(Self.event(warning, objects)) }
    }

    static func event(_ warning: PolicyWarning, _ objects: ObjectSnapshot) -> ObjectEvent {
        let parts = warning.policy.split(separator: "/", maxSplits: 1).map(String.init)
        let name = ObjectName(namespace: parts.first ?? "", name: parts.last ?? "")
        return ObjectEvent(
            ObjectEvent.Subject(
                apiVersion: ObjectKind.authorizationPolicy.apiVersions[0],
                kind: ObjectKind.authorizationPolicy.rawValue, name: name,
                uid: objects.authorizationPolicies[name]?.metadata.uid ?? ""),
            reason: reason(warning.effect), message: "\(warning.message). \(meaning(warning.effect))")
    }

    private static func reason(_ effect: PolicyWarning.Effect) -> String {
        switch effect {
        case .stricter: "PolicyStricter"
        case .weaker: "PolicyWeaker"
        case .ignored: "PolicyIgnored"
        }
    }

    private static func meaning(_ effect: PolicyWarning.Effect) -> String {
        switch effect {
        case .stricter: "More is refused than the policy says; move the rule to a waypoint to have it as written"
        case .weaker:
            "What this rule means to refuse is let through; move it to a waypoint, or run the controller with "
                + "--strict-l7-deny"
        case .ignored: "The policy is not in force"
        }
    }
}
