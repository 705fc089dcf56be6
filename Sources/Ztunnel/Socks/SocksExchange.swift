import Addressing

/// The server's side of a SOCKS5 negotiation (RFC 1928), as far as it goes here: no authentication, CONNECT alone. A
/// value; who has it reads exactly the bytes it wants and sends what it says.
///
///     greeting -> methods -> request -> address -> over
struct SocksExchange {
    /// Where a client wants to go.
    enum Target: Hashable {
        case address(Endpoint)
        case host(String, port: UInt16)
    }

    enum Outcome: Hashable {
        /// Send these bytes, if any, and read on.
        case goOn([UInt8])
        case connect(Target)
        /// Send these bytes, if any, and close.
        case refuse([UInt8])
    }

    /// Codes of a reply.
    enum Reply: UInt8 {
        case succeeded = 0
        case generalFailure, notAllowed, networkUnreachable, hostUnreachable, connectionRefused
        case commandNotSupported = 7
        case addressTypeNotSupported

        /// The message; the address that was bound is told as 0.0.0.0:0, since the connection may not be there yet.
        var bytes: [UInt8] { [5, rawValue, 0, 1, 0, 0, 0, 0, 0, 0] }
    }

    private enum Stage {
        case greeting
        case methods(Int)
        case request
        case addressV4, addressV6
        case hostLength
        case host(Int)
        case over
    }

    private static let version: UInt8 = 5
    private static let connect: UInt8 = 1
    private var stage = Stage.greeting

    /// How many bytes are to be read and given to ``take(_:)`` next; 0 when it is over. What follows the negotiation is
    /// the application's and is never wanted.
    var wanted: Int {
        switch stage {
        case .greeting: 2
        case .methods(let count): count
        case .request: 4
        case .addressV4: 4 + 2
        case .addressV6: 16 + 2
        case .hostLength: 1
        case .host(let length): length + 2
        case .over: 0
        }
    }

    /// - Parameter bytes: As many as are ``wanted``.
    mutating func take(_ bytes: [UInt8]) -> Outcome {
        guard bytes.count == wanted else { return end(.refuse([])) }
        switch stage {
        case .greeting:
            // Another version has another form of answer, if any.
            guard bytes[0] == Self.version else { return end(.refuse([])) }
            guard bytes[1] > 0 else { return end(.refuse([Self.version, 0xff])) }
            stage = .methods(Int(bytes[1]))
            return .goOn([])
        case .methods:
            guard bytes.contains(0) else { return end(.refuse([Self.version, 0xff])) }
            stage = .request
            return .goOn([Self.version, 0])
        case .request:
            guard bytes[0] == Self.version, bytes[2] == 0 else { return end(.refuse(Reply.generalFailure.bytes)) }
            guard bytes[1] == Self.connect else { return end(.refuse(Reply.commandNotSupported.bytes)) }
            switch bytes[3] {
            case 1: stage = .addressV4
            case 3: stage = .hostLength
            case 4: stage = .addressV6
            default: return end(.refuse(Reply.addressTypeNotSupported.bytes))
            }
            return .goOn([])
        case .hostLength:
            guard bytes[0] > 0 else { return end(.refuse(Reply.generalFailure.bytes)) }
            stage = .host(Int(bytes[0]))
            return .goOn([])
        case .addressV4, .addressV6, .host: return target(bytes.dropLast(2), bytes.suffix(2))
        case .over: return .refuse([])
        }
    }

    private mutating func target(_ address: ArraySlice<UInt8>, _ port: ArraySlice<UInt8>) -> Outcome {
        let port = port.reduce(UInt16(0)) { $0 << 8 | UInt16($1) }
        let target: Target? =
            if case .host = stage {
                Self.host(address, port)
            } else {
                IPAddress(bytes: Array(address)).map { .address(Endpoint($0.canonical, port)) }
            }
        guard let target, port > 0 else { return end(.refuse(Reply.generalFailure.bytes)) }
        return end(.connect(target))
    }

    private static func host(_ bytes: ArraySlice<UInt8>, _ port: UInt16) -> Target? {
        // No more than what a host name is made of: it ends up in a question to name servers, and in the log.
        let allowed = bytes.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: ":"):
                true
            default: false
            }
        }
        guard allowed else { return nil }
        let text = String(decoding: bytes, as: UTF8.self)
        if let address = IPAddress(text) { return .address(Endpoint(address.canonical, port)) }
        return text.contains(":") ? nil : .host(text, port: port)
    }

    private mutating func end(_ outcome: Outcome) -> Outcome {
        stage = .over
        return outcome
    }
}
