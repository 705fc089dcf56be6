import Addressing

extension Nftables.Table {
    /// The table in the nft tool's language, as `nft -s list table inet NAME` shows it. What this code never writes
    /// stands in brackets, by the kernel's name.
    public var text: String {
        var text = "table inet \(name) {\n"
        if let comment { text += "\tcomment \"\(comment)\"\n" }
        for (index, chain) in chains.enumerated() {
            if index > 0 { text += "\n" }
            text += "\tchain \(chain.name) {\n"
            if let base = chain.base {
                text += "\t\ttype \(base.type.rawValue) hook \(base.hook) priority \(base.priorityText); "
                text += "policy \(base.acceptsByDefault ? "accept" : "drop");\n"
            }
            for rule in chain.rules { text += "\t\t\(rule.text)\n" }
            text += "\t}\n"
        }
        return text + "}\n"
    }
}

extension Nftables.Base {
    fileprivate var priorityText: String {
        switch (hook, priority) {
        case (_, -300): "raw"
        case (_, -150): "mangle"
        case (.prerouting, -100): "dstnat"
        case (_, 0): "filter"
        case (.postrouting, 100): "srcnat"
        default: String(priority)
        }
    }
}

extension Nftables.Rule {
    /// The rule in the nft tool's language.
    public var text: String {
        var writer = NftablesRuleWriter()
        for expression in expressions { writer.add(expression) }
        let body = writer.finish()
        return comment.map { "\(body) comment \"\($0)\"" } ?? body
    }
}

/// Puts the words of a rule together from its expressions.
private struct NftablesRuleWriter {
    private var words: [String] = []
    /// What the register holds, in words, with how its values are written.
    private var loaded: (name: String, style: Style)?
    private var mask: (mask: [UInt8], xor: [UInt8])?
    private var immediate: [UInt8]?
    /// A match of the family or the transport that is left unsaid when the next one implies it.
    private var implied: (text: String, by: String)?
    private var isV6 = false
    private var isUDP = false

    private enum Style { case number, hexMark, name, port, address, family, transport, state, bytes }

    mutating func add(_ expression: Nftables.Expression) {
        switch expression {
        case .loadMeta(let key): load(key)
        case .loadPayload(let header, let offset, let length): load(header, offset, length)
        case .loadPayloadBeside(let header, let offset, let length, _):
            let before = loaded?.name
            load(header, offset, length)
            if let before, let name = loaded?.name { loaded = ("\(before) . \(name)", .bytes) }
        case .lookup(let name): say("\(loaded?.name ?? "[lookup]") @\(name)")
        case .sourceNAT(let family):
            say("snat \(family == .v4 ? "ip" : "ip6") to \(Self.text(immediate ?? [], .address))")
        case .loadConntrack(let key): loaded = ("ct \(key)", key == .state ? .state : .hexMark)
        case .loadConntrackPort(let port):
            loaded = (port == .originalDestination ? "ct original proto-dst" : "ct reply proto-src", .port)
        case .loadSocketCgroup(let level): loaded = ("socket cgroupv2 level \(level)", .number)
        case .bitwise(let mask, let xor): self.mask = (mask, xor)
        case .compare(let comparison, let value): compare(comparison, value)
        case .immediate(let value): immediate = value
        case .setMark: set("meta mark set")
        case .setConntrackMark: set("ct mark set")
        case .setConntrackZone: set("ct zone set")
        case .redirect: say("redirect" + (immediate.map { " to :\(Self.bigEndian($0))" } ?? ""))
        case .notrack: say("notrack")
        case .counter: say("counter")
        case .verdict(let verdict): say(Self.text(verdict))
        case .other(let name, _): say("[\(name)]")
        }
    }

    mutating func finish() -> String {
        settle()
        return words.joined(separator: " ")
    }

    private mutating func settle() {
        if let implied { words.append(implied.text) }
        implied = nil
    }

    private mutating func say(_ text: String) {
        settle()
        words.append(text)
        (loaded, mask, immediate) = (nil, nil, nil)
    }

    private mutating func load(_ key: Nftables.Meta) {
        switch key {
        case .etherType: loaded = ("meta protocol", .bytes)
        case .mark: loaded = ("meta mark", .hexMark)
        case .inputInterface: loaded = ("iif", .number)
        case .outputInterface: loaded = ("oif", .number)
        case .inputName: loaded = ("iifname", .name)
        case .outputName: loaded = ("oifname", .name)
        case .networkProtocol: loaded = ("meta nfproto", .family)
        case .transportProtocol: loaded = ("meta l4proto", .transport)
        }
    }

    private mutating func load(_ header: Nftables.Header, _ offset: UInt32, _ length: UInt32) {
        let transport = isUDP ? "udp" : "tcp"
        switch (header, offset, length) {
        case (.network, 12, 4): loaded = ("ip saddr", .address)
        case (.network, 16, 4): loaded = ("ip daddr", .address)
        case (.network, 8, 16): loaded = ("ip6 saddr", .address)
        case (.network, 24, 16): loaded = ("ip6 daddr", .address)
        case (.transport, 0, 2): loaded = ("\(transport) sport", .port)
        case (.transport, 2, 2): loaded = ("\(transport) dport", .port)
        default:
            let base =
                switch header {
                case .link: "ll"
                case .network: "nh"
                case .transport: "th"
                }
            loaded = ("@\(base),\(offset * 8),\(length * 8)", .bytes)
        }
    }

    private mutating func compare(_ comparison: Nftables.Comparison, _ value: [UInt8]) {
        guard let (name, style) = loaded else { return say("[cmp]") }
        let sign = Self.sign(comparison)
        switch (style, comparison) {
        case (.family, .equal):
            isV6 = value == [10]
            imply("\(name) \(isV6 ? "ipv6" : "ipv4")", by: isV6 ? "ip6" : "ip")
        case (.transport, .equal) where value == [6] || value == [17]:
            isUDP = value == [17]
            imply("\(name) \(isUDP ? "udp" : "tcp")", by: isUDP ? "udp" : "tcp")
        case (.state, .notEqual) where mask?.mask == Self.native(Nftables.ConntrackState.new):
            say("\(name) new")
        default:
            let first = name.split(separator: " ").first.map(String.init) ?? name
            if implied?.by == first { implied = nil }
            let operand = Self.text(value, style)
            if let mask {
                say("\(name) & \(Self.text(mask.mask, style)) \(sign.isEmpty ? "== " : sign)\(operand)")
            } else {
                say("\(name) \(sign)\(operand)")
            }
        }
    }

    private mutating func imply(_ text: String, by word: String) {
        settle()
        implied = (text, word)
        (loaded, mask) = (nil, nil)
    }

    /// As nft has it: the bits that are set, then those that are kept, so that `& keep ^ xor` reads as `& a | b`.
    private mutating func set(_ what: String) {
        if let loaded, let mask {
            let kept = zip(mask.mask, mask.xor).map { $0 | $1 }
            say("\(what) \(loaded.name) & \(Self.text(kept, loaded.style)) | \(Self.text(mask.xor, loaded.style))")
        } else if let immediate {
            say("\(what) \(Self.number(immediate))")
        } else {
            say("\(what) \(loaded?.name ?? "?")")
        }
    }

    // MARK: Values

    /// Nothing for equality, which goes without saying.
    private static func sign(_ comparison: Nftables.Comparison) -> String {
        switch comparison {
        case .equal: ""
        case .notEqual: "!= "
        case .less: "< "
        case .lessOrEqual: "<= "
        case .greater: "> "
        case .greaterOrEqual: ">= "
        }
    }

    private static func text(_ value: [UInt8], _ style: Style) -> String {
        switch style {
        case .hexMark, .state:
            let digits = String(number(value), radix: 16)
            return "0x" + String(repeating: "0", count: max(0, 8 - digits.count)) + digits
        case .name: return "\"" + String(decoding: value.prefix { $0 != 0 }, as: UTF8.self) + "\""
        case .port: return String(bigEndian(value))
        case .address: return IPAddress(bytes: value[...])?.description ?? "?"
        case .family, .transport, .number: return String(number(value))
        case .bytes: return "0x" + String(bigEndian(value), radix: 16)
        }
    }

    private static func text(_ verdict: Nftables.Verdict) -> String {
        switch verdict {
        case .accept: "accept"
        case .drop: "drop"
        case .returning: "return"
        case .jump(let chain): "jump \(chain)"
        case .goto(let chain): "goto \(chain)"
        }
    }

    /// Of a value in the machine's order, at most eight bytes.
    private static func number(_ value: [UInt8]) -> UInt64 {
        bigEndian(UInt16(1).littleEndian == 1 ? value.reversed() : value)
    }

    private static func bigEndian(_ value: some Sequence<UInt8>) -> UInt64 { value.reduce(0) { $0 << 8 | UInt64($1) } }

    private static func native(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }
}
