/// The numbers of nf_tables' messages and attributes, and the form of its expressions on the wire.
enum NftablesWire {
    static let inet: UInt8 = 1
    /// NFT_CT_ZONE.
    static let conntrackZone: UInt32 = 17
    /// NFT_CT_PROTO_DST and NFT_CT_PROTO_SRC, which go with the directions original (0) and reply (1).
    static let conntrackPorts: [Nftables.ConntrackPort: UInt32] = [.originalDestination: 12, .replySource: 11]
    /// NFT_SOCKET_CGROUPV2.
    static let socketCgroup: UInt32 = 3

    static func type(_ message: UInt16) -> UInt16 { 10 << 8 | message }

    enum Message {
        static let newTable: UInt16 = 0
        static let getTable: UInt16 = 1
        static let deleteTable: UInt16 = 2
        static let newChain: UInt16 = 3
        static let getChain: UInt16 = 4
        static let deleteChain: UInt16 = 5
        static let newRule: UInt16 = 6
        static let getRule: UInt16 = 7
        static let deleteRule: UInt16 = 8
    }

    enum SetMessage {
        static let newSet: UInt16 = 9
        static let getSet: UInt16 = 10
        static let newElement: UInt16 = 12
        static let getElement: UInt16 = 13
        static let deleteElement: UInt16 = 14
    }

    static let batchBegin: UInt16 = 16
    static let batchEnd: UInt16 = 17

    enum Table {
        static let name = 1
        static let userdata = 6
    }

    enum Chain {
        static let table = 1
        static let name = 3
        static let hook = 4
        static let policy = 5
        static let type = 7
        static let hookNumber = 1
        static let hookPriority = 2
    }

    enum Rule {
        static let table = 1
        static let chain = 2
        static let handle = 3
        static let expressions = 4
        static let userdata = 7
    }

    static let listElement = 1
    static let expressionName = 1
    static let expressionData = 2
    static let dataValue = 1
    static let dataVerdict = 2
    static let verdictCode = 1
    static let verdictChain = 2
    /// Register 1 holds 16 bytes; register 0 takes verdicts.
    static let register: UInt32 = 1

    /// The number of the register that begins `word` times 4 bytes into register 1.
    static func register(word: UInt32) -> UInt32 { word % 4 == 0 ? 1 + word / 4 : 8 + word }

    /// The other way round; `nil` for a register that begins elsewhere.
    static func word(register: UInt32) -> UInt32? {
        switch register {
        case 1...4: (register - 1) * 4
        case 8...23: register - 8
        default: nil
        }
    }

    /// `struct nfgenmsg`.
    static func header(family: UInt8 = inet, resource: UInt16 = 0) -> [UInt8] {
        [family, 0] + resource.bigEndian.nativeBytes
    }

    /// A comment as the nft tool stores and shows it: type 0, length, text with its zero byte.
    static func userdata(comment: String) -> [UInt8] {
        let text = Array(comment.utf8.prefix(127)) + [0]
        return [0, UInt8(text.count)] + text
    }

    static func comment(userdata: ArraySlice<UInt8>) -> String? {
        var rest = userdata
        while rest.count >= 2 {
            let length = Int(rest[rest.startIndex + 1])
            guard rest.count >= 2 + length else { return nil }
            if rest.first == 0 {
                return String(decoding: rest.dropFirst(2).prefix(length).prefix { $0 != 0 }, as: UTF8.self)
            }
            rest = rest.dropFirst(2 + length)
        }
        return nil
    }
}

extension Nftables.Verdict {
    var code: Int32 {
        switch self {
        case .drop: 0
        case .accept: 1
        case .jump: -3
        case .goto: -4
        case .returning: -5
        }
    }

    fileprivate init?(_ attributes: Attributes) {
        let chain = attributes.string(NftablesWire.verdictChain)
        switch (attributes.bigEndian32(NftablesWire.verdictCode).map { Int32(bitPattern: $0) }, chain) {
        case (0, _): self = .drop
        case (1, _): self = .accept
        case (-3, let chain?): self = .jump(chain)
        case (-4, let chain?): self = .goto(chain)
        case (-5, _): self = .returning
        default: return nil
        }
    }
}

extension Nftables.Expression {
    /// The kernel's name of the expression.
    var name: String {
        switch self {
        case .loadMeta, .setMark: "meta"
        case .loadConntrack, .loadConntrackPort, .setConntrackMark, .setConntrackZone: "ct"
        case .loadPayload, .loadPayloadBeside: "payload"
        case .loadSocketCgroup: "socket"
        case .lookup: "lookup"
        case .sourceNAT: "nat"
        case .bitwise: "bitwise"
        case .compare: "cmp"
        case .immediate, .verdict: "immediate"
        case .redirect: "redir"
        case .notrack: "notrack"
        case .counter: "counter"
        case .other(let name, _): name
        }
    }

    func encode(into writer: inout AttributeWriter) {
        let register = NftablesWire.register
        writer.put(NftablesWire.expressionName, string: name)
        writer.nest(NftablesWire.expressionData) { data in
            switch self {
            case .loadMeta(let key):
                data.put(2, bigEndian: key.rawValue)
                data.put(1, bigEndian: register)
            case .setMark:
                data.put(2, bigEndian: Nftables.Meta.mark.rawValue)
                data.put(3, bigEndian: register)
            case .loadConntrack(let key):
                data.put(2, bigEndian: key.rawValue)
                data.put(1, bigEndian: register)
            case .loadConntrackPort(let port):
                data.put(2, bigEndian: NftablesWire.conntrackPorts[port] ?? 0)
                data.put(1, bigEndian: register)
                data.put(3, [port == .originalDestination ? 0 : 1])
            case .setConntrackMark:
                data.put(2, bigEndian: Nftables.Conntrack.mark.rawValue)
                data.put(4, bigEndian: register)
            case .setConntrackZone:
                data.put(2, bigEndian: NftablesWire.conntrackZone)
                data.put(4, bigEndian: register)
            case .loadSocketCgroup(let level):
                data.put(1, bigEndian: NftablesWire.socketCgroup)
                data.put(2, bigEndian: register)
                data.put(3, bigEndian: level)
            case .loadPayload(let header, let offset, let length):
                data.put(1, bigEndian: register)
                data.put(2, bigEndian: header.rawValue)
                data.put(3, bigEndian: offset)
                data.put(4, bigEndian: length)
            case .loadPayloadBeside(let header, let offset, let length, let word):
                data.put(1, bigEndian: NftablesWire.register(word: word))
                data.put(2, bigEndian: header.rawValue)
                data.put(3, bigEndian: offset)
                data.put(4, bigEndian: length)
            case .lookup(let set):
                data.put(1, string: set)
                data.put(2, bigEndian: register)
            case .sourceNAT(let family):
                data.put(1, bigEndian: UInt32(0))
                data.put(2, bigEndian: family.rawValue)
                data.put(3, bigEndian: register)
            case .bitwise(let mask, let xor):
                data.put(1, bigEndian: register)
                data.put(2, bigEndian: register)
                data.put(3, bigEndian: UInt32(mask.count))
                data.nest(4) { $0.put(NftablesWire.dataValue, mask) }
                data.nest(5) { $0.put(NftablesWire.dataValue, xor) }
            case .compare(let comparison, let value):
                data.put(1, bigEndian: register)
                data.put(2, bigEndian: comparison.rawValue)
                data.nest(3) { $0.put(NftablesWire.dataValue, value) }
            case .immediate(let value):
                data.put(1, bigEndian: register)
                data.nest(2) { $0.put(NftablesWire.dataValue, value) }
            case .redirect:
                data.put(1, bigEndian: register)
            case .verdict(let verdict):
                data.put(1, bigEndian: UInt32(0))
                data.nest(2) { value in
                    value.nest(NftablesWire.dataVerdict) { inner in
                        inner.put(NftablesWire.verdictCode, bigEndian: UInt32(bitPattern: verdict.code))
                        switch verdict {
                        case .jump(let chain), .goto(let chain):
                            inner.put(NftablesWire.verdictChain, string: chain)
                        case .accept, .drop, .returning: break
                        }
                    }
                }
            case .counter, .notrack: break
            case .other(_, let bytes): data.header(bytes)
            }
        }
    }

    init?(decoding expression: Attributes) {
        guard let name = expression.string(NftablesWire.expressionName) else { return nil }
        let raw = expression[NftablesWire.expressionData] ?? []
        self = Self.known(name, Attributes(raw)) ?? .other(name: name, data: Array(raw))
    }

    private static func known(_ name: String, _ data: Attributes) -> Nftables.Expression? {
        let register = NftablesWire.register
        func value(_ type: Int) -> [UInt8]? {
            data.nested(type)?[NftablesWire.dataValue].map { Array($0) }
        }
        switch name {
        case "meta":
            if data.bigEndian32(1) == register, let key = data.bigEndian32(2).flatMap(Nftables.Meta.init(rawValue:)) {
                return .loadMeta(key)
            }
            let setsMark = data.bigEndian32(2) == Nftables.Meta.mark.rawValue
            return data.bigEndian32(3) == register && setsMark ? .setMark : nil
        case "ct":
            // A direction makes it another expression.
            if let direction = data[3] {
                guard data.bigEndian32(1) == register, let key = data.bigEndian32(2) else { return nil }
                let wanted: Nftables.ConntrackPort = direction.first == 0 ? .originalDestination : .replySource
                return NftablesWire.conntrackPorts[wanted] == key ? .loadConntrackPort(wanted) : nil
            }
            if data.bigEndian32(1) == register,
                let key = data.bigEndian32(2).flatMap(Nftables.Conntrack.init(rawValue:))
            {
                return .loadConntrack(key)
            }
            guard data.bigEndian32(4) == register else { return nil }
            return switch data.bigEndian32(2) {
            case Nftables.Conntrack.mark.rawValue: .setConntrackMark
            case NftablesWire.conntrackZone: .setConntrackZone
            default: nil
            }
        case "payload":
            guard let word = data.bigEndian32(1).flatMap(NftablesWire.word(register:)),
                let offset = data.bigEndian32(3), let length = data.bigEndian32(4),
                let header = data.bigEndian32(2).flatMap(Nftables.Header.init(rawValue:))
            else { return nil }
            return word == 0
                ? .loadPayload(header, offset: offset, length: length)
                : .loadPayloadBeside(header, offset: offset, length: length, word: word)
        case "socket":
            guard data.bigEndian32(1) == NftablesWire.socketCgroup, data.bigEndian32(2) == register,
                let level = data.bigEndian32(3)
            else { return nil }
            return .loadSocketCgroup(level: level)
        case "lookup":
            // A register to fill makes it a map, and flags turn it round.
            guard data.bigEndian32(2) == register, data[3] == nil, data.bigEndian32(5) ?? 0 == 0,
                let set = data.string(1)
            else { return nil }
            return .lookup(set)
        case "nat":
            // The kernel adds the upper end of the range, equal here, and the flag that an address is given.
            guard data.bigEndian32(1) == 0, data.bigEndian32(3) == register,
                data.bigEndian32(4) ?? register == register, data[5] == nil, (data.bigEndian32(7) ?? 1) & ~1 == 0,
                let family = data.bigEndian32(2).flatMap(Nftables.AddressFamily.init(rawValue:))
            else { return nil }
            return .sourceNAT(family)
        case "bitwise":
            // Operation 0 is mask and xor; the others are shifts and newer forms.
            guard data.bigEndian32(1) == register, data.bigEndian32(2) == register,
                data.bigEndian32(6) ?? 0 == 0, let mask = value(4), let xor = value(5)
            else { return nil }
            return .bitwise(mask: mask, xor: xor)
        case "cmp":
            guard data.bigEndian32(1) == register, let value = value(3),
                let comparison = data.bigEndian32(2).flatMap(Nftables.Comparison.init(rawValue:))
            else { return nil }
            return .compare(comparison, value)
        case "immediate":
            if data.bigEndian32(1) == 0 {
                return data.nested(2)?.nested(NftablesWire.dataVerdict)
                    .flatMap { Nftables.Verdict($0) }.map { .verdict($0) }
            }
            guard data.bigEndian32(1) == register, let value = value(2) else { return nil }
            return .immediate(value)
        case "redir":
            // The kernel adds the upper end of the range, equal here, and the flag that a port is given.
            guard data.bigEndian32(1) == register, data.bigEndian32(2) ?? register == register,
                (data.bigEndian32(3) ?? 2) & ~2 == 0
            else { return nil }
            return .redirect
        case "counter": return .counter
        case "notrack": return .notrack
        default: return nil
        }
    }
}
