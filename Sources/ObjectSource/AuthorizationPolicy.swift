/// Who may connect to whom (`security.istio.io`).
public struct AuthorizationPolicy: Hashable, Sendable {
    public enum Action: String, Hashable, Sendable, CaseIterable {
        case allow = "ALLOW"
        case deny = "DENY"
        case audit = "AUDIT"
        case custom = "CUSTOM"
    }
    /// The annotation that asks for evaluation without enforcement.
    public static let dryRunAnnotation = "istio.io/dry-run"

    public var metadata: ObjectMeta
    /// Labels of the workloads it is for; `nil` means all of the namespace.
    public var selector: [String: String]?
    /// Objects it is attached to; such policies are a waypoint's.
    public var targets: [PolicyTarget]
    public var action: Action
    /// The policy matches when any does.
    public var rules: [AuthorizationRule]

    public init(
        metadata: ObjectMeta, selector: [String: String]? = nil, targets: [PolicyTarget] = [],
        action: Action = .allow, rules: [AuthorizationRule] = []
    ) {
        self.metadata = metadata
        self.selector = selector
        self.targets = targets
        self.action = action
        self.rules = rules
    }
}

/// ``AuthorizationPolicy`` for those who see another type of that name as well.
public typealias AuthorizationPolicyObject = AuthorizationPolicy

public struct PolicyTarget: Hashable, Sendable {
    public var group: String
    public var kind: String
    public var name: String

    public init(group: String = "", kind: String, name: String) {
        self.group = group
        self.kind = kind
        self.name = name
    }
}

/// All parts that are present must hold; of each part any element.
public struct AuthorizationRule: Hashable, Sendable {
    /// `nil`: not asked about. An empty list cannot be written.
    public var from: [PolicySource]?
    public var to: [PolicyOperation]?
    public var when: [PolicyCondition]?

    public init(from: [PolicySource]? = nil, to: [PolicyOperation]? = nil, when: [PolicyCondition]? = nil) {
        self.from = from
        self.to = to
        self.when = when
    }
}

/// Values of one attribute: any of `values`, none of `notValues`.
public struct PolicyValues: Hashable, Sendable {
    public var values: [String]
    public var notValues: [String]

    public init(_ values: [String] = [], not notValues: [String] = []) {
        self.values = values
        self.notValues = notValues
    }

    public var isEmpty: Bool { values.isEmpty && notValues.isEmpty }
}

/// Where a request comes from. All attributes that are set must hold.
public struct PolicySource: Hashable, Sendable {
    public var principals = PolicyValues()
    public var namespaces = PolicyValues()
    public var serviceAccounts = PolicyValues()
    public var ipBlocks = PolicyValues()
    /// Known only to who reads HTTP.
    public var requestPrincipals = PolicyValues()
    public var remoteIPBlocks = PolicyValues()

    public init() {}
}

/// What a request is for. All attributes that are set must hold.
public struct PolicyOperation: Hashable, Sendable {
    public var ports = PolicyValues()
    /// Known only to who reads HTTP.
    public var hosts = PolicyValues()
    public var methods = PolicyValues()
    public var paths = PolicyValues()

    public init() {}
}

public struct PolicyCondition: Hashable, Sendable {
    public var key: String
    public var values: PolicyValues

    public init(key: String, values: PolicyValues) {
        self.key = key
        self.values = values
    }
}
