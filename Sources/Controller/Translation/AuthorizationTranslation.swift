import Mesh
import ObjectSource

/// AuthorizationPolicy as policies of layer 4.
struct AuthorizationTranslation {
    private let configuration: MeshConfiguration

    init(_ configuration: MeshConfiguration) { self.configuration = configuration }

    struct Outcome {
        var policies: [Mesh.AuthorizationPolicy] = []
        var attachments: PolicyAttachments
        var warnings: [PolicyWarning] = []
    }

    func policies(of objects: ObjectSnapshot) -> Outcome {
        var outcome = Outcome(attachments: PolicyAttachments(rootNamespace: configuration.rootNamespace))
        for object in objects.authorizationPolicies.values.sorted(by: {
            $0.metadata.objectName < $1.metadata.objectName
        }) {
            // Those are a waypoint's.
            guard object.targets.isEmpty else { continue }
            let key = object.metadata.objectName.description
            guard let action = Self.action(object.action) else {
                outcome.warnings.append(
                    PolicyWarning(
                        policy: key, effect: .ignored, message: "the action \(object.action.rawValue) is not enforced"))
                continue
            }
            let isDryRun = object.metadata.annotations[AuthorizationPolicyObject.dryRunAnnotation] == "true"
            guard !isDryRun || configuration.publishesDryRun else { continue }
            var translation = RuleTranslation(
                object, action, strictDeny: configuration.strictL7Deny,
                domains: TrustDomains(configuration.trustDomain, aliases: configuration.trustDomainAliases))
            let rules = object.rules.compactMap { translation.rule($0) }
            outcome.warnings += translation.warnings.map {
                PolicyWarning(policy: key, effect: $0.effect, message: $0.message)
            }
            outcome.policies.append(
                Mesh.AuthorizationPolicy(
                    name: object.metadata.name, namespace: object.metadata.namespace, scope: scope(object),
                    action: action, rules: rules, dryRun: isDryRun))
            if let selector = object.selector {
                outcome.attachments.add(object.metadata.objectName, selector: selector)
            }
        }
        return outcome
    }

    private static func action(_ action: AuthorizationPolicyObject.Action) -> Mesh.AuthorizationPolicy.Action? {
        switch action {
        case .allow: .allow
        case .deny: .deny
        case .audit, .custom: nil
        }
    }

    private func scope(_ object: AuthorizationPolicyObject) -> Mesh.AuthorizationPolicy.Scope {
        if object.selector != nil { return .workloadSelector }
        return object.metadata.namespace == configuration.rootNamespace ? .global : .namespace
    }
}

/// Which policies workloads refer to by name: those that select them by labels.
struct PolicyAttachments {
    let rootNamespace: String
    private var byNamespace: [String: [(key: String, selector: [String: String])]] = [:]

    init(rootNamespace: String) { self.rootNamespace = rootNamespace }

    mutating func add(_ policy: ObjectName, selector: [String: String]) {
        byNamespace[policy.namespace, default: []].append((policy.description, selector))
    }

    func policies(for workload: ObjectMeta) -> [String] {
        Set([workload.namespace, rootNamespace]).flatMap { namespace in
            (byNamespace[namespace] ?? []).filter { workload.labels.isMatched(by: $0.selector) }.map(\.key)
        }
    }
}
