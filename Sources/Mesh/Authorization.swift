import Addressing

/// One connection as policies see it.
public struct AuthorizationRequest: Hashable, Sendable {
    /// What the peer's certificate proves; `nil` for plain TCP.
    public let sourceIdentity: SPIFFEIdentity?
    /// The TCP peer; for HBONE through a waypoint that is the waypoint.
    public let sourceAddress: IPAddress
    /// The pod's own address, never a service's, and the port the application is reached on.
    public let destination: Endpoint

    public init(sourceIdentity: SPIFFEIdentity?, sourceAddress: IPAddress, destination: Endpoint) {
        self.sourceIdentity = sourceIdentity
        self.sourceAddress = sourceAddress.canonical
        self.destination = destination.canonical
    }
}

/// Whether a connection is let through, and by what.
public struct AuthorizationVerdict: Hashable, Sendable {
    public enum Outcome: Hashable, Sendable {
        /// No enforced allow policy applies to the workload.
        case allowedByDefault
        case allowed(by: String)
        case denied(by: String)
        /// Allow policies apply and none of them matches.
        case notAllowed
        /// The workload lists a policy nobody has sent, and the settings say to refuse then.
        case unknownPolicy(String)
    }

    /// A policy in dry run that would have matched.
    public struct DryRun: Hashable, Sendable {
        /// `namespace/name` of the policy.
        public let policy: String
        public let action: AuthorizationPolicy.Action

        public init(policy: String, action: AuthorizationPolicy.Action) {
            self.policy = policy
            self.action = action
        }
    }

    public let outcome: Outcome
    /// Policies in dry run that match; the allow ones only when no enforced policy denied before they were looked at.
    public let dryRun: [DryRun]
    /// Keys the workload lists that no policy is known for.
    public let unknownPolicies: [String]

    public init(_ outcome: Outcome, dryRun: [DryRun] = [], unknownPolicies: [String] = []) {
        self.outcome = outcome
        self.dryRun = dryRun
        self.unknownPolicies = unknownPolicies
    }

    public var isAllowed: Bool {
        switch outcome {
        case .allowedByDefault, .allowed: true
        case .denied, .notAllowed, .unknownPolicy: false
        }
    }

    /// The policy that decided, as `namespace/name`.
    public var policy: String? {
        switch outcome {
        case .allowed(let key), .denied(let key), .unknownPolicy(let key): key
        case .allowedByDefault, .notAllowed: nil
        }
    }

    /// Why a connection is refused, as it stands in the access log; `nil` when it is allowed.
    public var denial: String? {
        switch outcome {
        case .allowedByDefault, .allowed: nil
        case .denied(let key): "explicitly denied by: \(key)"
        case .notAllowed: "allow policies exist, but none allowed"
        case .unknownPolicy(let key): "policy is not known yet: \(key)"
        }
    }
}

extension MeshState {
    /// Whether policy lets a connection through to a workload.
    ///
    /// Enforced deny policies come first; then, if any enforced allow policy applies, one of them has to match. Policies
    /// apply that are global, that are of the workload's namespace, and that the workload lists by key.
    public func authorize(_ request: AuthorizationRequest, for workload: Workload) -> AuthorizationVerdict {
        let (policies, unknown) = policies(for: workload)
        if policies.isEmpty, unknown.isEmpty { return AuthorizationVerdict(.allowedByDefault) }

        let matcher = AuthorizationMatcher(
            request, trustDomains: settings.trustDomains.companions(of: workload.trustDomain))
        var dryRun: [AuthorizationVerdict.DryRun] = []
        func verdict(_ outcome: AuthorizationVerdict.Outcome) -> AuthorizationVerdict {
            AuthorizationVerdict(outcome, dryRun: dryRun, unknownPolicies: unknown)
        }
        func note(_ action: AuthorizationPolicy.Action) {
            for policy in policies where policy.dryRun && policy.action == action && matcher.fires(policy) {
                dryRun.append(AuthorizationVerdict.DryRun(policy: policy.key, action: action))
            }
        }

        note(.deny)
        for policy in policies where !policy.dryRun && policy.action == .deny && matcher.fires(policy) {
            return verdict(.denied(by: policy.key))
        }
        if settings.unknownPolicies == .deny, let key = unknown.first { return verdict(.unknownPolicy(key)) }
        note(.allow)
        let allowing = policies.filter { !$0.dryRun && $0.action == .allow }
        if allowing.isEmpty { return verdict(.allowedByDefault) }
        if let policy = allowing.first(where: matcher.fires) { return verdict(.allowed(by: policy.key)) }
        return verdict(.notAllowed)
    }

    /// The policies that apply to a workload, and the keys it lists that are not known. Ordered, so that the same
    /// connection is always refused by the same policy.
    public func policies(for workload: Workload) -> (policies: [AuthorizationPolicy], unknown: [String]) {
        if tables.policyKeys.isEmpty, workload.authorizationPolicies.isEmpty { return ([], []) }
        var keys: [String] = []
        for realm in workload.namespace.isEmpty ? [""] : ["", workload.namespace] {
            if let found = tables.policyKeys[realm] { keys += found }
        }
        for key in workload.authorizationPolicies where !keys.contains(key) { keys.append(key) }
        var policies: [AuthorizationPolicy] = []
        var unknown: [String] = []
        for key in keys {
            if let policy = tables.policiesByKey[key] { policies.append(policy) } else { unknown.append(key) }
        }
        return (policies, unknown)
    }
}
