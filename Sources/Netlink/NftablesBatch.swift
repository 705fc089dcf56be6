extension Nftables {
    /// Changes that take effect together or not at all.
    public struct Batch: Sendable {
        struct Step: Sendable {
            let message: NetlinkSocket.Message
            let name: String
        }

        private(set) var steps: [Step] = []
        private let family: Family

        /// - Parameter family: Of the tables that are meant.
        public init(_ family: Family = .inet) { self.family = family }

        public var isEmpty: Bool { steps.isEmpty }

        /// Adds an empty table; one that exists is left as it is.
        public mutating func addTable(_ name: String, comment: String? = nil) {
            append(NftablesWire.Message.newTable, create: true, "add table \(name)") { writer in
                writer.put(NftablesWire.Table.name, string: name)
                if let comment {
                    writer.put(NftablesWire.Table.userdata, NftablesWire.userdata(comment: comment))
                }
            }
        }

        /// Deletes a table with all that is in it; one that is not there is an error unless added in this batch.
        public mutating func deleteTable(_ name: String) {
            append(NftablesWire.Message.deleteTable, create: false, "delete table \(name)") { writer in
                writer.put(NftablesWire.Table.name, string: name)
            }
        }

        /// Deletes the table if there is one.
        public mutating func removeTable(_ name: String) {
            addTable(name)
            deleteTable(name)
        }

        /// Adds a chain, without its rules; one that exists with the same base is left as it is, with another base it
        /// is an error.
        public mutating func addChain(_ chain: Chain, table: String) {
            append(NftablesWire.Message.newChain, create: true, "add chain \(table) \(chain.name)") { writer in
                writer.put(NftablesWire.Chain.table, string: table)
                writer.put(NftablesWire.Chain.name, string: chain.name)
                guard let base = chain.base else { return }
                writer.nest(NftablesWire.Chain.hook) { hook in
                    hook.put(NftablesWire.Chain.hookNumber, bigEndian: base.hook.rawValue)
                    hook.put(NftablesWire.Chain.hookPriority, bigEndian: UInt32(bitPattern: base.priority))
                }
                writer.put(NftablesWire.Chain.policy, bigEndian: UInt32(base.acceptsByDefault ? 1 : 0))
                writer.put(NftablesWire.Chain.type, string: base.type.rawValue)
            }
        }

        /// Deletes a chain; it must be empty by then.
        public mutating func deleteChain(_ name: String, table: String) {
            append(NftablesWire.Message.deleteChain, create: false, "delete chain \(table) \(name)") { writer in
                writer.put(NftablesWire.Chain.table, string: table)
                writer.put(NftablesWire.Chain.name, string: name)
            }
        }

        /// Adds a rule at the end of a chain.
        public mutating func addRule(_ rule: Rule, chain: String, table: String) {
            append(
                NftablesWire.Message.newRule, create: true, append: true,
                "add rule \(table) \(chain) \(rule.comment ?? "")"
            ) { writer in
                writer.put(NftablesWire.Rule.table, string: table)
                writer.put(NftablesWire.Rule.chain, string: chain)
                writer.nest(NftablesWire.Rule.expressions) { list in
                    for expression in rule.expressions {
                        list.nest(NftablesWire.listElement) { expression.encode(into: &$0) }
                    }
                }
                if let comment = rule.comment {
                    writer.put(NftablesWire.Rule.userdata, NftablesWire.userdata(comment: comment))
                }
            }
        }

        /// Deletes all rules of a chain, or of all chains of the table.
        public mutating func flush(table: String, chain: String? = nil) {
            append(NftablesWire.Message.deleteRule, create: false, "flush \(table) \(chain ?? "")") { writer in
                writer.put(NftablesWire.Rule.table, string: table)
                if let chain { writer.put(NftablesWire.Rule.chain, string: chain) }
            }
        }

        mutating func append(
            _ message: UInt16, create: Bool, append: Bool = false, _ name: String,
            _ body: (inout AttributeWriter) -> Void
        ) {
            var writer = AttributeWriter()
            writer.header(NftablesWire.header(family: family.rawValue))
            body(&writer)
            var flags: UInt16 = create ? NetlinkSocket.Flag.create : 0
            if append { flags |= NetlinkSocket.Flag.append }
            steps.append(
                Step(
                    message: NetlinkSocket.Message(type: NftablesWire.type(message), flags: flags, body: writer.bytes),
                    name: name))
        }
    }
}
