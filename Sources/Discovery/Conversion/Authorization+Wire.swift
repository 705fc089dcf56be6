import Addressing
import Foundation
public import IstioAPI
public import Mesh
import SwiftProtobuf

extension AuthorizationPolicy {
    /// The policy of a resource.
    ///
    /// Values inside matches that cannot be read stay in the policy as such and count against the connection.
    ///
    /// - Throws: ``ConversionError`` for an unknown scope or action, and without a name.
    public init(wire: Istio_Security_Authorization) throws(ConversionError) {
        guard !wire.name.isEmpty else { throw ConversionError("name", "is missing") }
        let scope: Scope
        switch wire.scope {
        case .global: scope = .global
        case .namespace: scope = .namespace
        case .workloadSelector: scope = .workloadSelector
        case .UNRECOGNIZED(let value): throw ConversionError("scope", "the value \(value) is unknown")
        }
        let action: Action
        switch wire.action {
        case .allow: action = .allow
        case .deny: action = .deny
        case .UNRECOGNIZED(let value): throw ConversionError("action", "the value \(value) is unknown")
        }
        self.init(
            name: wire.name, namespace: wire.namespace, scope: scope, action: action,
            rules: wire.rules.map { rule in
                Rule(clauses: rule.clauses.map { clause in Clause(matches: clause.matches.map { Match(wire: $0) }) })
            },
            dryRun: wire.dryRun)
    }
}

extension AuthorizationPolicy.Match {
    init(wire: Istio_Security_Match) {
        func accounts(
            _ list: [Istio_Security_ServiceAccountMatch]
        ) -> [AuthorizationPolicy.ServiceAccountMatch] {
            list.map { .init(namespace: $0.namespace, serviceAccount: $0.serviceAccount) }
        }
        func strings(_ list: [Istio_Security_StringMatch]) -> [AuthorizationPolicy.StringMatch] {
            list.map { .init(wire: $0) }
        }
        func addresses(_ list: [Istio_Security_Address]) -> [AuthorizationPolicy.AddressMatch] {
            list.map { .init(bytes: $0.address, length: $0.length) }
        }
        self.init(
            namespaces: strings(wire.namespaces), notNamespaces: strings(wire.notNamespaces),
            principals: strings(wire.principals), notPrincipals: strings(wire.notPrincipals),
            serviceAccounts: accounts(wire.serviceAccounts), notServiceAccounts: accounts(wire.notServiceAccounts),
            sourceAddresses: addresses(wire.sourceIps), notSourceAddresses: addresses(wire.notSourceIps),
            destinationAddresses: addresses(wire.destinationIps),
            notDestinationAddresses: addresses(wire.notDestinationIps),
            destinationPorts: wire.destinationPorts, notDestinationPorts: wire.notDestinationPorts)
    }
}

extension AuthorizationPolicy.StringMatch {
    init(wire: Istio_Security_StringMatch) {
        switch wire.matchType {
        case .exact(let text): self = .exact(text)
        case .prefix(let text): self = .prefix(text)
        case .suffix(let text): self = .suffix(text)
        case .presence: self = .presence
        case nil: self = .unparsable("")
        }
    }
}

extension Istio_Security_Authorization {
    /// The resource of a policy.
    public init(_ policy: AuthorizationPolicy) {
        self.init()
        name = policy.name
        namespace = policy.namespace
        scope =
            switch policy.scope {
            case .global: .global
            case .namespace: .namespace
            case .workloadSelector: .workloadSelector
            }
        action = policy.action == .deny ? .deny : .allow
        dryRun = policy.dryRun
        rules = policy.rules.map { rule in
            var wire = Istio_Security_Rule()
            wire.clauses = rule.clauses.map { clause in
                var wire = Istio_Security_Clause()
                wire.matches = clause.matches.map { Istio_Security_Match($0) }
                return wire
            }
            return wire
        }
    }
}

extension Istio_Security_Match {
    init(_ match: AuthorizationPolicy.Match) {
        self.init()
        func accounts(
            _ list: [AuthorizationPolicy.ServiceAccountMatch]
        ) -> [Istio_Security_ServiceAccountMatch] {
            list.map { entry in
                var wire = Istio_Security_ServiceAccountMatch()
                wire.namespace = entry.namespace
                wire.serviceAccount = entry.serviceAccount
                return wire
            }
        }
        func strings(_ list: [AuthorizationPolicy.StringMatch]) -> [Istio_Security_StringMatch] {
            list.map { entry in
                var wire = Istio_Security_StringMatch()
                switch entry {
                case .exact(let text): wire.exact = text
                case .prefix(let text): wire.prefix = text
                case .suffix(let text): wire.suffix = text
                case .presence: wire.presence = Google_Protobuf_Empty()
                case .unparsable: break
                }
                return wire
            }
        }
        func addresses(_ list: [AuthorizationPolicy.AddressMatch]) -> [Istio_Security_Address] {
            list.map { entry in
                var wire = Istio_Security_Address()
                // What could not be read stays unreadable.
                if case .block(let block) = entry {
                    wire.address = Data(block.base.bytes)
                    wire.length = UInt32(block.length)
                }
                return wire
            }
        }
        namespaces = strings(match.namespaces)
        notNamespaces = strings(match.notNamespaces)
        principals = strings(match.principals)
        notPrincipals = strings(match.notPrincipals)
        serviceAccounts = accounts(match.serviceAccounts)
        notServiceAccounts = accounts(match.notServiceAccounts)
        sourceIps = addresses(match.sourceAddresses)
        notSourceIps = addresses(match.notSourceAddresses)
        destinationIps = addresses(match.destinationAddresses)
        notDestinationIps = addresses(match.notDestinationAddresses)
        destinationPorts = match.destinationPorts
        notDestinationPorts = match.notDestinationPorts
    }
}
