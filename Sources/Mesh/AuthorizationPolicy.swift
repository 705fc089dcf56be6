import Addressing

/// Who may connect, at layer 4 (`istio.security.Authorization`).
///
/// Rules are alternatives, the clauses of a rule must all hold, the matches of a clause are alternatives, the fields of
/// a match must all hold, the values of a field are alternatives. ``MeshState/authorize(_:for:)`` evaluates it.
public struct AuthorizationPolicy: Hashable, Sendable {
    public enum Scope: UInt8, Hashable, Sendable {
        /// Every workload of the mesh.
        case global
        /// Every workload of the policy's namespace.
        case namespace
        /// The workloads that list its key.
        case workloadSelector
    }
    public enum Action: UInt8, Hashable, Sendable { case allow, deny }

    public struct Rule: Hashable, Sendable {
        /// None: the rule matches every connection.
        public var clauses: [Clause]
        public init(clauses: [Clause] = []) { self.clauses = clauses }
    }

    public struct Clause: Hashable, Sendable {
        /// None: the clause holds.
        public var matches: [Match]
        public init(matches: [Match] = []) { self.matches = matches }
    }

    public var name: String
    public var namespace: String
    public var scope: Scope
    public var action: Action
    /// None: the policy never matches; with `allow` that denies everything.
    public var rules: [Rule]
    /// Only reported, never enforced.
    public var dryRun: Bool

    public init(
        name: String, namespace: String, scope: Scope, action: Action, rules: [Rule] = [], dryRun: Bool = false
    ) {
        self.name = name
        self.namespace = namespace
        self.scope = scope
        self.action = action
        self.rules = rules
        self.dryRun = dryRun
    }

    /// `namespace/name`, as workloads refer to it and as it is told to the operator.
    public var key: String { "\(namespace)/\(name)" }
}

extension AuthorizationPolicy {
    /// The fields of one match. An empty positive list is no condition; of a `not` list no value may match.
    ///
    /// A value that could not be read stays in its list as `unparsable`. Nobody knows what it meant, so it counts
    /// against the connection: it makes no allow policy match and keeps no deny policy from matching.
    public struct Match: Hashable, Sendable {
        public var namespaces: [StringMatch] = []
        public var notNamespaces: [StringMatch] = []
        /// Compared with the identity without `spiffe://`.
        public var principals: [StringMatch] = []
        public var notPrincipals: [StringMatch] = []
        public var serviceAccounts: [ServiceAccountMatch] = []
        public var notServiceAccounts: [ServiceAccountMatch] = []
        public var sourceAddresses: [AddressMatch] = []
        public var notSourceAddresses: [AddressMatch] = []
        /// The pod's own address, never a service's.
        public var destinationAddresses: [AddressMatch] = []
        public var notDestinationAddresses: [AddressMatch] = []
        /// As on the wire, where they have 32 bits: above 65535 they equal no port.
        public var destinationPorts: [UInt32] = []
        public var notDestinationPorts: [UInt32] = []

        public init(
            namespaces: [StringMatch] = [], notNamespaces: [StringMatch] = [], principals: [StringMatch] = [],
            notPrincipals: [StringMatch] = [], serviceAccounts: [ServiceAccountMatch] = [],
            notServiceAccounts: [ServiceAccountMatch] = [], sourceAddresses: [AddressMatch] = [],
            notSourceAddresses: [AddressMatch] = [], destinationAddresses: [AddressMatch] = [],
            notDestinationAddresses: [AddressMatch] = [], destinationPorts: [UInt32] = [],
            notDestinationPorts: [UInt32] = []
        ) {
            self.namespaces = namespaces
            self.notNamespaces = notNamespaces
            self.principals = principals
            self.notPrincipals = notPrincipals
            self.serviceAccounts = serviceAccounts
            self.notServiceAccounts = notServiceAccounts
            self.sourceAddresses = sourceAddresses
            self.notSourceAddresses = notSourceAddresses
            self.destinationAddresses = destinationAddresses
            self.notDestinationAddresses = notDestinationAddresses
            self.destinationPorts = destinationPorts
            self.notDestinationPorts = notDestinationPorts
        }

        /// No field at all: such a match is skipped and matches nothing.
        public var isEmpty: Bool { self == Match() }
    }

    public enum StringMatch: Hashable, Sendable {
        case exact(String)
        case prefix(String)
        case suffix(String)
        /// Any value, as long as there is one.
        case presence
        /// Came without a type or of an unknown one.
        case unparsable(String)
    }

    /// Namespace and service account of the peer; the trust domain does not matter.
    public struct ServiceAccountMatch: Hashable, Sendable {
        public var namespace: String
        public var serviceAccount: String

        public init(namespace: String, serviceAccount: String) {
            self.namespace = namespace
            self.serviceAccount = serviceAccount
        }
    }

    public enum AddressMatch: Hashable, Sendable {
        case block(CIDR)
        /// Neither 4 nor 16 bytes, or a length beyond the family's.
        case unparsable(String)

        /// As on the wire: address bytes and prefix length.
        public init(bytes: some Collection<UInt8>, length: UInt32) {
            if let address = IPAddress(bytes: bytes), length <= 128, let block = CIDR(address, length: Int(length)) {
                self.init(block)
            } else {
                self = .unparsable("\(bytes.count) bytes/\(length)")
            }
        }

        /// Connections are compared in canonical form, so a block of IPv4-mapped addresses is one of IPv4.
        public init(_ block: CIDR) {
            guard block.base.isMapped, block.length >= 96,
                let canonical = CIDR(block.base.canonical, length: block.length - 96)
            else {
                self = .block(block)
                return
            }
            self = .block(canonical)
        }
    }
}
