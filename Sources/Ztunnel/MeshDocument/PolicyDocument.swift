import Addressing
import Mesh

/// A policy as the config dump and the local configuration write it: rules are lists of clauses, clauses lists of
/// matches.
struct PolicyDocument: Codable {
    enum Scope: String, Codable, CaseIterable {
        case global = "Global"
        case namespace = "Namespace"
        case workloadSelector = "WorkloadSelector"
    }
    enum Action: String, Codable, CaseIterable {
        case allow = "Allow"
        case deny = "Deny"
    }

    var name: String
    var namespace: String
    var scope: Scope
    var action: Action
    var dryRun: Bool
    var rules: [[[MatchDocument]]]

    enum CodingKeys: String, CodingKey, CaseIterable { case name, namespace, scope, action, dryRun, rules }
}

extension PolicyDocument {
    init(_ policy: AuthorizationPolicy) {
        name = policy.name
        namespace = policy.namespace
        scope =
            switch policy.scope {
            case .global: .global
            case .namespace: .namespace
            case .workloadSelector: .workloadSelector
            }
        action = policy.action == .allow ? .allow : .deny
        dryRun = policy.dryRun
        rules = policy.rules.map { $0.clauses.map { $0.matches.map(MatchDocument.init) } }
    }

    init(from decoder: any Decoder) throws {
        let fields = try StrictFields<CodingKeys>(decoder)
        name = try fields.required(.name)
        namespace = try fields.required(.namespace)
        // What they are decides over who gets in: neither has a default.
        _ = try fields.required(.scope, String.self)
        _ = try fields.required(.action, String.self)
        scope = try fields.choice(.scope, or: Scope.workloadSelector)
        action = try fields.choice(.action, or: Action.deny)
        dryRun = try fields.value(.dryRun, or: false)
        rules = try fields.value(.rules, or: [])
    }

    var policy: AuthorizationPolicy {
        let scope: AuthorizationPolicy.Scope =
            switch scope {
            case .global: .global
            case .namespace: .namespace
            case .workloadSelector: .workloadSelector
            }
        return AuthorizationPolicy(
            name: name, namespace: namespace, scope: scope, action: action == .allow ? .allow : .deny,
            rules: rules.map { clauses in .init(clauses: clauses.map { .init(matches: $0.map(\.match)) }) },
            dryRun: dryRun)
    }
}
