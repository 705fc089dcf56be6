import Addressing
import Testing

@testable import Ztunnel

/// SOCKS5 as a conversation of values.
@Suite("SOCKS5 negotiation")
struct SocksExchangeTests {
    /// Gives the bytes as they are wanted. What is left over is the application's.
    private func talk(_ bytes: [UInt8]) -> (said: [UInt8], outcome: SocksExchange.Outcome?, rest: [UInt8]) {
        var exchange = SocksExchange()
        var (said, rest): ([UInt8], ArraySlice<UInt8>) = ([], bytes[...])
        while exchange.wanted > 0, rest.count >= exchange.wanted {
            let part = Array(rest.prefix(exchange.wanted))
            rest = rest.dropFirst(part.count)
            switch exchange.take(part) {
            case .goOn(let reply): said += reply
            case .refuse(let reply): return (said + reply, .refuse(reply), Array(rest))
            case .connect(let target): return (said, .connect(target), Array(rest))
            }
        }
        return (said, nil, Array(rest))
    }

    private static let hello: [UInt8] = [5, 1, 0]
    private static func request(_ type: UInt8, _ address: [UInt8], command: UInt8 = 1) -> [UInt8] {
        hello + [5, command, 0, type] + address
    }
    private static func host(_ name: String, _ port: [UInt8] = [0, 80]) -> [UInt8] {
        request(3, [UInt8(name.utf8.count)] + Array(name.utf8) + port)
    }

    struct Row: Sendable, CustomTestStringConvertible {
        let what: String
        let bytes: [UInt8]
        let outcome: SocksExchange.Outcome
        var testDescription: String { what }

        init(_ what: String, _ bytes: [UInt8], _ outcome: SocksExchange.Outcome) {
            (self.what, self.bytes, self.outcome) = (what, bytes, outcome)
        }

        /// Refused with a code of a reply.
        init(_ what: String, _ bytes: [UInt8], code: UInt8) {
            self.init(what, bytes, .refuse([5, code, 0, 1, 0, 0, 0, 0, 0, 0]))
        }
    }

    static let rows = [
        Row("an address", request(1, [10, 0, 0, 7, 0x1f, 0x90]), .connect(.address(Endpoint("10.0.0.7:8080")!))),
        Row(
            "an address of IPv6", request(4, [0xfd, 0] + [UInt8](repeating: 0, count: 13) + [7, 0, 80]),
            .connect(.address(Endpoint("[fd00::7]:80")!))),
        Row(
            "an address in mapped form",
            request(4, [UInt8](repeating: 0, count: 10) + [0xff, 0xff, 10, 0, 0, 7, 0, 80]),
            .connect(.address(Endpoint("10.0.0.7:80")!))),
        Row("a name", host("web.shop"), .connect(.host("web.shop", port: 80))),
        Row("an address as a name", host("10.0.0.7"), .connect(.address(Endpoint("10.0.0.7:80")!))),
        Row(
            "several methods", [5, 3, 2, 1, 0] + request(1, [1, 2, 3, 4, 0, 1]).dropFirst(3),
            .connect(.address(Endpoint("1.2.3.4:1")!))),
        Row("another version", [4, 1, 0, 80, 10, 0, 0, 7, 0], .refuse([])),
        Row("a request of HTTP", Array("CONNECT web:80 HTTP/1.1\r\n\r\n".utf8), .refuse([])),
        Row("no method", [5, 0], .refuse([5, 0xff])),
        Row("methods with authentication alone", [5, 2, 1, 2], .refuse([5, 0xff])),
        Row("a request of another version", hello + [4, 1, 0, 1], code: 1),
        Row("a reserved byte that is used", hello + [5, 1, 1, 1], code: 1),
        Row("BIND", request(1, [], command: 2), code: 7),
        Row("UDP ASSOCIATE", request(1, [], command: 3), code: 7),
        Row("a type of address nobody knows", request(2, []), code: 8),
        Row("an empty name", request(3, [0]), code: 1),
        Row("a name with a line end", host("web\r\nx"), code: 1),
        Row("a name with a byte beyond ASCII", request(3, [3, 0x77, 0xff, 0x77, 0, 80]), code: 1),
        Row("a name with a colon that is no address", host("web:80"), code: 1),
        Row("port 0", request(1, [10, 0, 0, 7, 0, 0]), code: 1),
    ]

    @Test("what a client says, and what comes of it", arguments: rows)
    func outcome(row: Row) {
        let (said, outcome, rest) = talk(row.bytes + [1, 2, 3])
        #expect(outcome == row.outcome)
        // What follows is never read.
        if case .connect = row.outcome {
            #expect(rest == [1, 2, 3] && said == [5, 0])
        }
    }

    @Test("cut short anywhere it waits, and has said no more than it was asked", arguments: rows)
    func prefixes(row: Row) {
        guard case .connect = row.outcome else { return }
        for length in 0..<row.bytes.count {
            let (said, outcome, _) = talk(Array(row.bytes.prefix(length)))
            #expect(outcome == nil && said.count <= 2, "\(length)")
        }
    }

    @Test("whatever comes, it ends within 262 bytes and never wants more than one message")
    func noise() {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<20_000 {
            var bytes = (0..<600).map { _ in UInt8.random(in: 0...255, using: &random) }
            bytes.replaceSubrange(0..<3, with: [5, 1, 0])
            bytes.replaceSubrange(3..<6, with: [5, 1, 0])
            let (_, outcome, rest) = talk(bytes)
            #expect(outcome != nil && bytes.count - rest.count <= 3 + 4 + 1 + 255 + 2)
        }
    }
}
