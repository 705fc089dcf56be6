import Addressing

/// What is known of a condition. `unknown` comes from a value that could not be read.
enum Ternary {
    case no, unknown, yes

    init(_ value: Bool) { self = value ? .yes : .no }

    /// Strongest of several alternatives.
    static func any<Value>(_ values: [Value], _ test: (Value) -> Ternary) -> Ternary {
        var result = Ternary.no
        for value in values {
            switch test(value) {
            case .yes: return .yes
            case .unknown: result = .unknown
            case .no: break
            }
        }
        return result
    }

    /// Weakest of several conditions.
    static func all<Value>(_ values: [Value], _ test: (Value) -> Ternary) -> Ternary {
        var result = Ternary.yes
        for value in values {
            switch test(value) {
            case .no: return .no
            case .unknown: result = .unknown
            case .yes: break
            }
        }
        return result
    }

    static prefix func ! (value: Ternary) -> Ternary {
        switch value {
        case .yes: .no
        case .no: .yes
        case .unknown: .unknown
        }
    }
}

/// Holds one connection against policies.
struct AuthorizationMatcher {
    private let request: AuthorizationRequest
    private let principal: String?
    /// The same peer under the other names of its trust domain.
    private let aliases: [String]

    /// - Parameter trustDomains: Those that count as the workload's own.
    init(_ request: AuthorizationRequest, trustDomains: TrustDomains) {
        self.request = request
        principal = request.sourceIdentity?.principal
        aliases = request.sourceIdentity.map { Self.aliases(of: $0, trustDomains) } ?? []
    }

    private static func aliases(of identity: SPIFFEIdentity, _ trustDomains: TrustDomains) -> [String] {
        guard trustDomains.contains(identity.trustDomain) else { return [] }
        var names = trustDomains.names
        if !names.contains(TrustDomains.pointer) { names.append(TrustDomains.pointer) }
        guard names.count > 1 else { return [] }
        return names.filter { $0 != identity.trustDomain }.map {
            SPIFFEIdentity(
                trustDomain: $0, namespace: identity.namespace, serviceAccount: identity.serviceAccount
            ).principal
        }
    }

    /// Whether a policy acts on the connection. In doubt a deny policy does and an allow policy does not.
    func fires(_ policy: AuthorizationPolicy) -> Bool {
        switch Ternary.any(policy.rules, matches) {
        case .yes: true
        case .no: false
        case .unknown: policy.action == .deny
        }
    }

    private func matches(_ rule: AuthorizationPolicy.Rule) -> Ternary {
        Ternary.all(rule.clauses) { clause in
            clause.matches.isEmpty ? .yes : Ternary.any(clause.matches, matches)
        }
    }

    private func matches(_ match: AuthorizationPolicy.Match) -> Ternary {
        if match.isEmpty { return .no }
        return Ternary.all([
            field(match.namespaces, match.notNamespaces) { test($0, request.sourceIdentity?.namespace) },
            field(match.principals, match.notPrincipals, testPrincipal),
            field(match.serviceAccounts, match.notServiceAccounts) { test($0) },
            field(match.sourceAddresses, match.notSourceAddresses) { test($0, request.sourceAddress) },
            field(match.destinationAddresses, match.notDestinationAddresses) { test($0, request.destination.address) },
            field(match.destinationPorts, match.notDestinationPorts) {
                Ternary($0 == UInt32(request.destination.port))
            },
        ]) { $0 }
    }

    private func field<Value>(_ positive: [Value], _ negative: [Value], _ test: (Value) -> Ternary) -> Ternary {
        let wanted = positive.isEmpty ? Ternary.yes : Ternary.any(positive, test)
        if negative.isEmpty { return wanted }
        return Ternary.all([wanted, !Ternary.any(negative, test)]) { $0 }
    }

    /// A peer is matched under each name that its trust domain has.
    private func testPrincipal(_ pattern: AuthorizationPolicy.StringMatch) -> Ternary {
        let own = test(pattern, principal)
        guard own == .no, !aliases.isEmpty else { return own }
        return Ternary.any(aliases) { test(pattern, $0) }
    }

    /// A peer without identity has no value, and nothing matches that.
    private func test(_ pattern: AuthorizationPolicy.StringMatch, _ value: String?) -> Ternary {
        if case .unparsable = pattern { return .unknown }
        guard let value else { return .no }
        switch pattern {
        case .exact(let text): return Ternary(value == text)
        case .prefix(let text): return Ternary(value.hasPrefix(text))
        case .suffix(let text): return Ternary(value.hasSuffix(text))
        case .presence: return Ternary(!value.isEmpty)
        case .unparsable: return .unknown
        }
    }

    private func test(_ account: AuthorizationPolicy.ServiceAccountMatch) -> Ternary {
        guard let identity = request.sourceIdentity else { return .no }
        return Ternary(
            identity.namespace == account.namespace && identity.serviceAccount == account.serviceAccount)
    }

    private func test(_ block: AuthorizationPolicy.AddressMatch, _ address: IPAddress) -> Ternary {
        switch block {
        case .block(let block): Ternary(block.contains(address))
        case .unparsable: .unknown
        }
    }
}
