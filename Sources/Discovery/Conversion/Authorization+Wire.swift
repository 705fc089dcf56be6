import Addressing
import Foundation
public import IstioAPI
public import Mesh
import SwiftProtobuf

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
