import Addressing

/// `istio.security.Authorization` as it is read.
struct PolicyWire {
    private var name = ""
    private var namespace = ""
    private var scope = 0
    private var action = 0
    private var rules: [AuthorizationPolicy.Rule] = []
    private var dryRun = false

    mutating func merge(_ cursor: inout WireCursor) throws(ConversionError) {
        while let field = try cursor.next() {
            switch (field.number, field.kind) {
            case (1, .length): name = try cursor.string("name")
            case (2, .length): namespace = try cursor.string("namespace")
            case (3, .varint): scope = try cursor.enumeration()
            case (4, .varint): action = try cursor.enumeration()
            case (5, .length):
                var rule = AuthorizationPolicy.Rule()
                try cursor.message { (cursor) throws(ConversionError) in
                    try Self.each(1, in: &cursor) { (cursor) throws(ConversionError) in
                        var clause = AuthorizationPolicy.Clause()
                        try Self.each(2, in: &cursor) { (cursor) throws(ConversionError) in
                            clause.matches.append(try Self.match(&cursor))
                        }
                        rule.clauses.append(clause)
                    }
                }
                rules.append(rule)
            case (6, .varint): dryRun = try cursor.bool()
            case (7, .length): try WireParts.checkExtension(&cursor)
            default: try cursor.skip(field)
            }
        }
    }

    func value() throws(ConversionError) -> AuthorizationPolicy {
        guard !name.isEmpty else { throw ConversionError("name", "is missing") }
        guard let scope = UInt8(exactly: scope).flatMap(AuthorizationPolicy.Scope.init) else {
            throw WireParts.unknown("scope", scope)
        }
        guard let action = UInt8(exactly: action).flatMap(AuthorizationPolicy.Action.init) else {
            throw WireParts.unknown("action", action)
        }
        return AuthorizationPolicy(
            name: name, namespace: namespace, scope: scope, action: action, rules: rules, dryRun: dryRun)
    }

    /// Reads every message of a repeated field, and nothing else of the message around it.
    private static func each(
        _ number: UInt32, in cursor: inout WireCursor,
        _ read: (inout WireCursor) throws(ConversionError) -> Void
    ) throws(ConversionError) {
        while let field = try cursor.next() {
            if field.number == number, field.kind == .length {
                try cursor.message(read)
            } else {
                try cursor.skip(field)
            }
        }
    }

    private static func match(_ cursor: inout WireCursor) throws(ConversionError)
        -> AuthorizationPolicy.Match
    {
        var match = AuthorizationPolicy.Match()
        while let field = try cursor.next() {
            switch (field.number, field.kind) {
            case (1, .length): match.namespaces.append(try string(&cursor))
            case (2, .length): match.notNamespaces.append(try string(&cursor))
            case (3, .length): match.principals.append(try string(&cursor))
            case (4, .length): match.notPrincipals.append(try string(&cursor))
            case (5, .length): match.sourceAddresses.append(try block(&cursor))
            case (6, .length): match.notSourceAddresses.append(try block(&cursor))
            case (7, .length): match.destinationAddresses.append(try block(&cursor))
            case (8, .length): match.notDestinationAddresses.append(try block(&cursor))
            case (9, .varint), (9, .length):
                try cursor.repeated(field.kind) {
                    match.destinationPorts.append(UInt32(truncatingIfNeeded: $0))
                }
            case (10, .varint), (10, .length):
                try cursor.repeated(field.kind) {
                    match.notDestinationPorts.append(UInt32(truncatingIfNeeded: $0))
                }
            case (11, .length): match.serviceAccounts.append(try account(&cursor))
            case (12, .length): match.notServiceAccounts.append(try account(&cursor))
            case (13, .length): try WireParts.checkExtension(&cursor)
            default: try cursor.skip(field)
            }
        }
        return match
    }

    private static func string(
        _ cursor: inout WireCursor
    ) throws(ConversionError) -> AuthorizationPolicy.StringMatch {
        var value = AuthorizationPolicy.StringMatch.unparsable("")
        try cursor.message { (cursor) throws(ConversionError) in
            while let field = try cursor.next() {
                switch (field.number, field.kind) {
                case (1, .length): value = .exact(try cursor.string("exact"))
                case (2, .length): value = .prefix(try cursor.string("prefix"))
                case (3, .length): value = .suffix(try cursor.string("suffix"))
                case (4, .length):
                    try cursor.message { (cursor) throws(ConversionError) in
                        while let field = try cursor.next() { try cursor.skip(field) }
                    }
                    value = .presence
                default: try cursor.skip(field)
                }
            }
        }
        return value
    }

    private static func account(
        _ cursor: inout WireCursor
    ) throws(ConversionError) -> AuthorizationPolicy.ServiceAccountMatch {
        var value = AuthorizationPolicy.ServiceAccountMatch(namespace: "", serviceAccount: "")
        try cursor.message { (cursor) throws(ConversionError) in
            while let field = try cursor.next() {
                switch (field.number, field.kind) {
                case (1, .length): value.namespace = try cursor.string("namespace")
                case (2, .length): value.serviceAccount = try cursor.string("serviceAccount")
                default: try cursor.skip(field)
                }
            }
        }
        return value
    }

    private static func block(
        _ cursor: inout WireCursor
    ) throws(ConversionError) -> AuthorizationPolicy.AddressMatch {
        var bytes = 0..<0
        var length: UInt32 = 0
        try cursor.message { (cursor) throws(ConversionError) in
            while let field = try cursor.next() {
                switch (field.number, field.kind) {
                case (1, .length): bytes = try cursor.range()
                case (2, .varint): length = try cursor.uint32()
                default: try cursor.skip(field)
                }
            }
        }
        return AuthorizationPolicy.AddressMatch(bytes: cursor.bytes[bytes], length: length)
    }
}
