import Addressing
import Mesh
import Testing

@testable import HBONE

@Suite("PROXY protocol version 2")
struct ProxyHeaderTests {
    private static let client = Endpoint("10.244.1.5:43210")!
    private static let server = Endpoint("10.96.0.10:80")!
    private static let client6 = Endpoint("[fd00::5]:43210")!
    private static let identity = SPIFFEIdentity("spiffe://cluster.local/ns/shop/sa/web")!

    private func parse(_ bytes: [UInt8]) throws(ProxyHeaderError) -> (header: ProxyHeader, length: Int)? {
        try ProxyHeader.parse(bytes.span.bytes)
    }

    @Test("the bytes of a header over IPv4 with the client's identity")
    func bytes() {
        let header = ProxyHeader(source: Self.client, destination: Self.server, clientIdentity: Self.identity)
        let name = Array("spiffe://cluster.local/ns/shop/sa/web".utf8)
        let expected: [UInt8] =
            [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11]
            + [0, UInt8(12 + 3 + name.count), 10, 244, 1, 5, 10, 96, 0, 10, 0xa8, 0xca, 0, 80]
            + [0xd0, 0, UInt8(name.count)] + name
        #expect(header.encoded == expected)
    }

    @Test("what is written is read again, whatever stands behind it")
    func roundTrip() throws {
        let headers = [
            ProxyHeader(source: Self.client, destination: Self.server, clientIdentity: Self.identity),
            ProxyHeader(source: Self.client, destination: Self.server, clientIdentity: nil),
            ProxyHeader(source: Self.client6, destination: Endpoint("[fd00::1]:80")!, clientIdentity: Self.identity),
            ProxyHeader(ends: nil), ProxyHeader(ends: nil, values: []),
            ProxyHeader(
                ends: .init(source: Self.client, destination: Self.server),
                values: [.init(type: 4, bytes: []), .init(type: 5, bytes: [1, 2, 3])]),
        ]
        for header in headers {
            let bytes = header.encoded
            let read = try #require(try parse(bytes + Array("GET / HTTP/1.1".utf8)))
            #expect(read.header == header && read.length == bytes.count)
            for count in 0..<bytes.count { #expect(try parse(Array(bytes[..<count])) == nil) }
        }
        #expect(headers[0].clientIdentity == Self.identity && headers[1].clientIdentity == nil)
    }

    @Test("ends of two families are written in the mapped form")
    func mixed() throws {
        let header = ProxyHeader(source: Self.client6, destination: Self.server, clientIdentity: nil)
        let read = try #require(try parse(header.encoded))
        #expect(read.header.ends?.source == Self.client6)
        #expect(read.header.ends?.destination.canonical == Self.server)
    }

    @Test("a connection of the proxy's own, and kinds that are not TCP, name no ends")
    func local() throws {
        var bytes = ProxyHeader(source: Self.client, destination: Self.server, clientIdentity: Self.identity).encoded
        bytes[12] = 0x20
        #expect(try parse(bytes)?.header.ends == nil)
        bytes[12] = 0x21
        bytes[13] = 0x12
        let datagram = try #require(try parse(bytes))
        #expect(datagram.header.ends == nil && datagram.header.clientIdentity == Self.identity)
        bytes[13] = 0x00
        #expect(try parse(bytes)?.header == ProxyHeader(ends: nil))
    }

    @Test("what is no header is refused at once, and what is too long before it is gathered")
    func refused() throws {
        let good = ProxyHeader(source: Self.client, destination: Self.server, clientIdentity: nil).encoded
        func changed(_ at: Int, _ value: UInt8) -> [UInt8] {
            var bytes = good
            bytes[at] = value
            return bytes
        }
        let cases: [([UInt8], ProxyHeaderError)] = [
            (Array("PROXY TCP4 1.2.3.4".utf8), .notProxyProtocol), (Array("G".utf8), .notProxyProtocol),
            (changed(12, 0x11), .unknownVersion(1)), (changed(12, 0x22), .unknownCommand(2)),
            (Array(changed(14, 0x10)[..<16]), .tooLong(16 + 0x100c)), (changed(15, 11), .shortAddresses),
            (Array(changed(13, 0x21)), .shortAddresses), (Array(changed(13, 0x31)), .shortAddresses),
            (changed(15, 13) + [4], .shortValue(type: 4)), (changed(15, 16) + [4, 0, 2, 0], .shortValue(type: 4)),
        ]
        for (bytes, expected) in cases {
            let error = #expect(throws: ProxyHeaderError.self) { try parse(bytes) }
            #expect(error == expected)
        }
    }

    @Test("an identity that is none is not taken for one")
    func badIdentity() throws {
        for text in ["", "spiffe://cluster.local", "https://cluster.local/ns/a/sa/b"] {
            let value = ProxyHeader.Value(type: ProxyHeader.identityType, bytes: Array(text.utf8))
            #expect(ProxyHeader(ends: nil, values: [value]).clientIdentity == nil)
        }
    }
}
