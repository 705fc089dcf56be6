/// What nf_tables holds, as values.
public enum Nftables {
    /// Which packets a table sees; the kernel's numbers.
    public enum Family: UInt8, Hashable, Sendable {
        /// IPv4 and IPv6.
        case inet = 1
        /// Frames between the ports of bridges.
        case bridge = 7
    }

    /// A place in a packet's way where a base chain listens; the kernel's numbers.
    public enum Hook: UInt32, Hashable, Sendable {
        case prerouting = 0
        case input = 1
        case forward = 2
        case output = 3
        case postrouting = 4
    }

    /// What a base chain may do.
    public enum ChainType: String, Hashable, Sendable {
        case filter
        /// Sees the first packet of a connection; what it decides holds for the rest.
        case nat
        /// Routes a packet again when a rule changed its mark.
        case route
    }

    /// What makes a chain a base chain.
    public struct Base: Hashable, Sendable {
        public var type: ChainType
        public var hook: Hook
        /// Lower comes first: -300 raw, -150 mangle, -100 destination NAT, 0 filter, 100 source NAT.
        public var priority: Int32
        public var acceptsByDefault: Bool

        public init(_ type: ChainType, _ hook: Hook, priority: Int32, acceptsByDefault: Bool = true) {
            self.type = type
            self.hook = hook
            self.priority = priority
            self.acceptsByDefault = acceptsByDefault
        }
    }

    /// A chain with its rules, in order. A chain without a base is reached by jumps only.
    public struct Chain: Hashable, Sendable {
        public var name: String
        public var base: Base?
        public var rules: [Rule]

        public init(_ name: String, _ base: Base? = nil, rules: [Rule] = []) {
            self.name = name
            self.base = base
            self.rules = rules
        }
    }

    /// A rule: expressions that are evaluated in order until one does not match.
    public struct Rule: Hashable, Sendable {
        public var expressions: [Expression]
        /// At most 127 bytes.
        public var comment: String?

        public init(_ expressions: [Expression], comment: String? = nil) {
            self.expressions = expressions
            self.comment = comment
        }
    }

    /// A table with all that is in it, as wanted or as read back from the kernel.
    public struct Table: Hashable, Sendable {
        public var name: String
        /// At most 127 bytes; kept from the table's first creation on.
        public var comment: String?
        public var chains: [Chain]
        public var sets: [NamedSet]

        public init(_ name: String, comment: String? = nil, chains: [Chain] = [], sets: [NamedSet] = []) {
            self.name = name
            self.comment = comment
            self.chains = chains
            self.sets = sets
        }
    }

    /// One step of a rule. There is one register: `load…` fill it, the others use it.
    /// Only ``lookup(_:)`` looks beyond its 16 bytes, at what ``loadPayloadBeside(_:offset:length:word:)`` put there.
    public enum Expression: Hashable, Sendable {
        case loadMeta(Meta)
        /// Sets the packet's mark from the register.
        case setMark
        case loadConntrack(Conntrack)
        /// 2 bytes, network order.
        case loadConntrackPort(ConntrackPort)
        /// Sets the connection's mark from the register.
        case setConntrackMark
        /// Sets the zone of a connection that conntrack has not seen yet from the register; 2 bytes, machine order.
        case setConntrackZone
        /// The control group (version 2) that the packet's local socket was made in, or the one above it at a level counted
        /// from the root; 8 bytes, machine order. Does not match without a socket, or with one of a group above the level.
        /// Prerouting, input and output only.
        case loadSocketCgroup(level: UInt32)
        case loadPayload(Header, offset: UInt32, length: UInt32)
        /// As ``loadPayload(_:offset:length:)``, to the right of what is loaded: `word` times 4 bytes further on.
        case loadPayloadBeside(Header, offset: UInt32, length: UInt32, word: UInt32)
        /// Matches when the set of this name holds what is loaded.
        case lookup(String)
        /// Translates the source to the address in the register. NAT chains of postrouting and input only.
        case sourceNAT(AddressFamily)
        /// register = (register & mask) ^ xor
        case bitwise(mask: [UInt8], xor: [UInt8])
        case compare(Comparison, [UInt8])
        case immediate([UInt8])
        /// Translates the destination to this host, to the port in the register.
        case redirect
        /// Keeps connection tracking, and with it translation, off the packet. Before priority -200 only.
        case notrack
        case verdict(Verdict)
        /// Counts packets and bytes. The figures are no part of the value.
        case counter
        /// Something this code never writes, as the kernel names it.
        case other(name: String, data: [UInt8])
    }

    /// What kind of address is meant; the kernel's numbers.
    public enum AddressFamily: UInt32, Hashable, Sendable { case v4 = 2, v6 = 10 }

    /// What is known about a packet beside its bytes; the kernel's numbers.
    public enum Meta: UInt32, Hashable, Sendable {
        /// 2 bytes, network order: what a frame carries, 0x0800 IPv4, 0x86dd IPv6.
        case etherType = 1
        /// 4 bytes, machine order.
        case mark = 3
        case inputInterface = 4
        case outputInterface = 5
        /// 16 bytes, padded with zeros.
        case inputName = 6
        case outputName = 7
        /// 1 byte: 2 IPv4, 10 IPv6.
        case networkProtocol = 15
        /// 1 byte: 6 TCP, 17 UDP.
        case transportProtocol = 16
    }

    /// What conntrack knows about a packet's connection; the kernel's numbers.
    public enum Conntrack: UInt32, Hashable, Sendable {
        /// 4 bytes, machine order; see ``ConntrackState``.
        case state = 0
        case status = 2
        /// 4 bytes, machine order.
        case mark = 3
    }

    /// A port of a connection as conntrack has it, whatever the packet at hand says.
    public enum ConntrackPort: Hashable, Sendable {
        /// Where the connection wanted to go, before translation.
        case originalDestination
        /// Whom its answers come from, before they are translated back.
        case replySource
    }

    /// Bits of ``Conntrack/status``.
    public enum ConntrackStatus {
        /// The destination was translated.
        public static let destinationTranslated: UInt32 = 0x20
    }

    /// Bits of ``Conntrack/state``.
    public enum ConntrackState {
        public static let invalid: UInt32 = 1
        public static let established: UInt32 = 2
        public static let related: UInt32 = 4
        public static let new: UInt32 = 8
    }

    /// Where ``Expression/loadPayload(_:offset:length:)`` counts from; the kernel's numbers.
    public enum Header: UInt32, Hashable, Sendable { case link = 0, network = 1, transport = 2 }

    public enum Comparison: UInt32, Hashable, Sendable {
        case equal = 0
        case notEqual = 1
        case less = 2
        case lessOrEqual = 3
        case greater = 4
        case greaterOrEqual = 5
    }

    public enum Verdict: Hashable, Sendable {
        case accept
        case drop
        case returning
        case jump(String)
        case goto(String)
    }
}
