import Addressing
import Mesh

/// The fields of one match of a policy. Empty lists are not written.
struct MatchDocument: Codable {
    var namespaces: [Text]?
    var notNamespaces: [Text]?
    var principals: [Text]?
    var notPrincipals: [Text]?
    var serviceAccounts: [Account]?
    var notServiceAccounts: [Account]?
    var sourceIps: [Block]?
    var notSourceIps: [Block]?
    var destinationIps: [Block]?
    var notDestinationIps: [Block]?
    var destinationPorts: [UInt32]?
    var notDestinationPorts: [UInt32]?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case namespaces, notNamespaces, principals, notPrincipals, serviceAccounts, notServiceAccounts, sourceIps
        case notSourceIps, destinationIps, notDestinationIps, destinationPorts, notDestinationPorts
    }

    /// `{Exact: text}`, `{Prefix: text}`, `{Suffix: text}` or `{Presence: {}}`.
    struct Text: Codable {
        var match: AuthorizationPolicy.StringMatch

        /// ``unparsable`` is written for what a control plane sent in no known form, and is not read.
        enum CodingKeys: String, CodingKey, CaseIterable {
            case exact = "Exact"
            case prefix = "Prefix"
            case suffix = "Suffix"
            case presence = "Presence"
        }

        init(_ match: AuthorizationPolicy.StringMatch) { self.match = match }

        init(from decoder: any Decoder) throws {
            if let word = try? decoder.singleValueContainer().decode(String.self) {
                // As a word of its own it has nothing to say, the others have.
                guard word == CodingKeys.presence.rawValue else {
                    throw DecodingError.dataCorrupted(
                        .init(
                            codingPath: decoder.codingPath,
                            debugDescription: "\(word) is no match; write {Exact: \(word)}, Prefix, Suffix or Presence")
                    )
                }
                match = .presence
                return
            }
            let fields = try StrictFields<CodingKeys>(decoder)
            let container = try decoder.container(keyedBy: CodingKeys.self)
            guard container.allKeys.count == 1, let key = container.allKeys.first else {
                throw DecodingError.dataCorrupted(
                    .init(
                        codingPath: decoder.codingPath,
                        debugDescription: "one of Exact, Prefix, Suffix and Presence is wanted"))
            }
            match =
                switch key {
                case .exact: .exact(try fields.required(.exact))
                case .prefix: .prefix(try fields.required(.prefix))
                case .suffix: .suffix(try fields.required(.suffix))
                case .presence: .presence
                }
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: AnyKey.self)
            switch match {
            case .exact(let text): try container.encode(text, forKey: AnyKey(stringValue: "Exact"))
            case .prefix(let text): try container.encode(text, forKey: AnyKey(stringValue: "Prefix"))
            case .suffix(let text): try container.encode(text, forKey: AnyKey(stringValue: "Suffix"))
            case .presence: try container.encode([String: String](), forKey: AnyKey(stringValue: "Presence"))
            case .unparsable(let text): try container.encode(text, forKey: AnyKey(stringValue: "Unparsable"))
            }
        }
    }

    struct Account: Codable {
        var namespace: String
        var serviceAccount: String

        enum CodingKeys: String, CodingKey, CaseIterable { case namespace, serviceAccount }

        init(_ match: AuthorizationPolicy.ServiceAccountMatch) {
            namespace = match.namespace
            serviceAccount = match.serviceAccount
        }

        init(from decoder: any Decoder) throws {
            let fields = try StrictFields<CodingKeys>(decoder)
            namespace = try fields.required(.namespace)
            serviceAccount = try fields.required(.serviceAccount)
        }

        var match: AuthorizationPolicy.ServiceAccountMatch {
            .init(namespace: namespace, serviceAccount: serviceAccount)
        }
    }

    /// `10.0.0.0/8`.
    struct Block: Codable {
        var match: AuthorizationPolicy.AddressMatch

        init(_ match: AuthorizationPolicy.AddressMatch) { self.match = match }

        init(from decoder: any Decoder) throws {
            let text = try decoder.singleValueContainer().decode(String.self)
            guard let block = CIDR(text) else {
                throw DecodingError.dataCorrupted(
                    .init(codingPath: decoder.codingPath, debugDescription: "\(text) is no block such as 10.0.0.0/8"))
            }
            match = .init(block)
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.singleValueContainer()
            switch match {
            case .block(let block): try container.encode(block.description)
            case .unparsable(let text): try container.encode("unparsable: \(text)")
            }
        }
    }
}

extension MatchDocument {
    init(_ match: AuthorizationPolicy.Match) {
        func list<From, To>(_ values: [From], _ make: (From) -> To) -> [To]? {
            values.isEmpty ? nil : values.map(make)
        }
        namespaces = list(match.namespaces, Text.init)
        notNamespaces = list(match.notNamespaces, Text.init)
        principals = list(match.principals, Text.init)
        notPrincipals = list(match.notPrincipals, Text.init)
        serviceAccounts = list(match.serviceAccounts, Account.init)
        notServiceAccounts = list(match.notServiceAccounts, Account.init)
        sourceIps = list(match.sourceAddresses, Block.init)
        notSourceIps = list(match.notSourceAddresses, Block.init)
        destinationIps = list(match.destinationAddresses, Block.init)
        notDestinationIps = list(match.notDestinationAddresses, Block.init)
        destinationPorts = list(match.destinationPorts) { $0 }
        notDestinationPorts = list(match.notDestinationPorts) { $0 }
    }

    init(from decoder: any Decoder) throws {
        let fields = try StrictFields<CodingKeys>(decoder)
        namespaces = try fields.optional(.namespaces)
        notNamespaces = try fields.optional(.notNamespaces)
        principals = try fields.optional(.principals)
        notPrincipals = try fields.optional(.notPrincipals)
        serviceAccounts = try fields.optional(.serviceAccounts)
        notServiceAccounts = try fields.optional(.notServiceAccounts)
        sourceIps = try fields.optional(.sourceIps)
        notSourceIps = try fields.optional(.notSourceIps)
        destinationIps = try fields.optional(.destinationIps)
        notDestinationIps = try fields.optional(.notDestinationIps)
        destinationPorts = try fields.optional(.destinationPorts)
        notDestinationPorts = try fields.optional(.notDestinationPorts)
    }

    var match: AuthorizationPolicy.Match {
        .init(
            namespaces: (namespaces ?? []).map(\.match), notNamespaces: (notNamespaces ?? []).map(\.match),
            principals: (principals ?? []).map(\.match), notPrincipals: (notPrincipals ?? []).map(\.match),
            serviceAccounts: (serviceAccounts ?? []).map(\.match),
            notServiceAccounts: (notServiceAccounts ?? []).map(\.match),
            sourceAddresses: (sourceIps ?? []).map(\.match), notSourceAddresses: (notSourceIps ?? []).map(\.match),
            destinationAddresses: (destinationIps ?? []).map(\.match),
            notDestinationAddresses: (notDestinationIps ?? []).map(\.match),
            destinationPorts: destinationPorts ?? [], notDestinationPorts: notDestinationPorts ?? [])
    }
}
