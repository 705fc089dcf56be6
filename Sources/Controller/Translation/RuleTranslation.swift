import Addressing
import Mesh
import ObjectSource

/// The rules of one policy. Attributes of HTTP are not known at layer 4:
///
/// - an ALLOW rule that asks for one is left out, so less is allowed;
/// - in a DENY rule they are left away. If ports or sources remain, those deny; an operation or condition of which
///   nothing remains cannot hold, and neither can the rule, or, when `strictDeny`, it holds always.
struct RuleTranslation {
    private typealias Match = Mesh.AuthorizationPolicy.Match
    private typealias Clause = Mesh.AuthorizationPolicy.Clause

    private let namespace: String
    private let isAllow: Bool
    private let strictDeny: Bool
    private let domains: TrustDomains
    private(set) var warnings: [(effect: PolicyWarning.Effect, message: String)] = []

    init(
        _ policy: AuthorizationPolicyObject, _ action: Mesh.AuthorizationPolicy.Action, strictDeny: Bool,
        domains: TrustDomains
    ) {
        namespace = policy.metadata.namespace
        isAllow = action == .allow
        self.strictDeny = strictDeny
        self.domains = domains
    }

    /// `nil` when the rule is left out.
    mutating func rule(_ rule: AuthorizationRule) -> Mesh.AuthorizationPolicy.Rule? {
        var clauses: [Clause] = []
        var unseen: Set<String> = []
        var isIncomplete = false
        func add(_ matches: [Match]) {
            // In strict mode a part of which nothing is left is no condition any more.
            if strictDeny, !isAllow, matches.contains(where: \.isEmpty) { return }
            if matches.contains(where: \.isEmpty) { isIncomplete = true }
            clauses.append(Clause(matches: matches))
        }
        if let to = rule.to { add(to.map { operation($0, &unseen) }) }
        if let from = rule.from { add(from.map { source($0, &unseen) }) }
        for condition in rule.when ?? [] { add([self.condition(condition, &unseen)]) }
        guard !unseen.isEmpty else { return Mesh.AuthorizationPolicy.Rule(clauses: clauses) }
        let names = unseen.sorted().joined(separator: ", ")
        if isAllow {
            warnings.append((.stricter, "a rule is left out: layer 4 does not know \(names)"))
            return nil
        }
        warnings.append(
            isIncomplete
                ? (
                    .weaker,
                    "a rule does not deny all that it says: layer 4 does not know \(names); "
                        + "set targetRefs to a waypoint, or --strict-l7-deny"
                )
                : (.stricter, "a rule denies more than it says: layer 4 does not know \(names)"))
        return Mesh.AuthorizationPolicy.Rule(clauses: clauses)
    }

    // MARK: Parts of a rule

    private func operation(_ operation: PolicyOperation, _ unseen: inout Set<String>) -> Match {
        note(operation.hosts, "hosts", &unseen)
        note(operation.methods, "methods", &unseen)
        note(operation.paths, "paths", &unseen)
        return Match(
            destinationPorts: operation.ports.values.map(Self.port),
            notDestinationPorts: operation.ports.notValues.map(Self.port))
    }

    private func source(_ source: PolicySource, _ unseen: inout Set<String>) -> Match {
        note(source.requestPrincipals, "requestPrincipals", &unseen)
        note(source.remoteIPBlocks, "remoteIpBlocks", &unseen)
        return Match(
            namespaces: source.namespaces.values.map(Self.string),
            notNamespaces: source.namespaces.notValues.map(Self.string),
            principals: principals(source.principals.values),
            notPrincipals: principals(source.principals.notValues),
            serviceAccounts: source.serviceAccounts.values.map(account),
            notServiceAccounts: source.serviceAccounts.notValues.map(account),
            sourceAddresses: source.ipBlocks.values.map(Self.block),
            notSourceAddresses: source.ipBlocks.notValues.map(Self.block))
    }

    private func condition(_ condition: PolicyCondition, _ unseen: inout Set<String>) -> Match {
        let (values, not) = (condition.values.values, condition.values.notValues)
        switch condition.key {
        case "source.ip":
            return Match(sourceAddresses: values.map(Self.block), notSourceAddresses: not.map(Self.block))
        case "source.namespace":
            return Match(namespaces: values.map(Self.string), notNamespaces: not.map(Self.string))
        case "source.principal":
            return Match(principals: principals(values), notPrincipals: principals(not))
        case "destination.ip":
            return Match(destinationAddresses: values.map(Self.block), notDestinationAddresses: not.map(Self.block))
        case "destination.port":
            return Match(destinationPorts: values.map(Self.port), notDestinationPorts: not.map(Self.port))
        default:
            unseen.insert(condition.key)
            return Match()
        }
    }

    private func note(_ values: PolicyValues, _ name: String, _ unseen: inout Set<String>) {
        if !values.isEmpty { unseen.insert(name) }
    }

    // MARK: Values

    /// `*` any value, `*x` an end, `x*` a beginning, else the whole.
    static func string(_ text: String) -> Mesh.AuthorizationPolicy.StringMatch {
        if text == "*" { return .presence }
        if text.hasPrefix("*") { return .suffix(String(text.dropFirst())) }
        if text.hasSuffix("*") { return .prefix(String(text.dropLast())) }
        return .exact(text)
    }

    /// With aliases, one that names a trust domain of the mesh, or the pointer to its own, means each of them: proxies
    /// that know of no aliases go by what is written.
    private func principals(_ texts: [String]) -> [Mesh.AuthorizationPolicy.StringMatch] {
        var seen: Set<String> = []
        return texts.flatMap { text -> [String] in
            guard domains.names.count > 1, !text.hasPrefix("*"), let slash = text.firstIndex(of: "/") else {
                return [text]
            }
            let domain = String(text[..<slash])
            guard domains.contains(domain) || domain == TrustDomains.pointer else { return [text] }
            return [text] + domains.names.map { $0 + text[slash...] }
        }
        .filter { seen.insert($0).inserted }.map(Self.string)
    }

    /// `namespace/name`, or the name alone for one of the policy's namespace.
    private func account(_ text: String) -> Mesh.AuthorizationPolicy.ServiceAccountMatch {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        return parts.count == 2
            ? .init(namespace: String(parts[0]), serviceAccount: String(parts[1]))
            : .init(namespace: namespace, serviceAccount: text)
    }

    /// What is no block stays in its list as such: with it left out, the condition could become none at all.
    private static func block(_ text: String) -> Mesh.AuthorizationPolicy.AddressMatch {
        CIDR(text).map { .init($0) } ?? .unparsable(text)
    }

    /// What is no port becomes one that no connection has, for the same reason.
    private static func port(_ text: String) -> UInt32 { UInt16(text).map(UInt32.init) ?? .max }
}
