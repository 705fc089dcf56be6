import Addressing
import Testing

@Suite("IP addresses")
struct IPAddressTests {
    @Test(
        "text goes in and the canonical form comes out",
        arguments: [
            ("10.0.0.1", "10.0.0.1"), ("255.255.255.255", "255.255.255.255"), ("0.0.0.0", "0.0.0.0"),
            ("::", "::"), ("::1", "::1"), ("fd00:201:1::5", "fd00:201:1::5"),
            ("2001:0DB8:0000:0000:0000:ff00:0042:8329", "2001:db8::ff00:42:8329"),
            ("1:0:0:2:0:0:0:3", "1:0:0:2::3"), ("1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7"),
            ("::ffff:10.1.2.3", "::ffff:10.1.2.3"), ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"),
            ("1::", "1::"), ("fe80::1:0:0:1", "fe80::1:0:0:1"),
        ])
    func roundTrip(text: String, canonical: String) throws {
        let address = try #require(IPAddress(text))
        #expect(address.description == canonical)
        #expect(IPAddress(canonical) == address)
        #expect(IPAddress(bytes: address.bytes) == address)
    }

    @Test(
        "what is no address is refused",
        arguments: [
            "", ".", "1", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1.2.3.4 ", " 1.2.3.4", "1.2.3.-4",
            "1.2.3.0x4",
            ":", ":::", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "12345::", "g::",
            "::1%eth0",
            "[::1]", "1.2.3.4::", "::1.2.3", "::1.2.3.4.5", "::1.2.3.4:5", "\u{0661}.2.3.4",
        ])
    func refused(text: String) { #expect(IPAddress(text) == nil) }

    @Test("an IPv4-mapped address is the IPv4 address it maps")
    func mapped() throws {
        let mapped = try #require(IPAddress("::ffff:10.1.2.3"))
        #expect(mapped.canonical == IPAddress(10, 1, 2, 3))
        #expect(IPAddress(10, 1, 2, 3).mapped == mapped)
        #expect(try #require(IPAddress("::ffff:127.0.0.1")).isLoopback)
        #expect(try #require(IPAddress("::1")).canonical == .loopbackV6)
    }

    @Test("blocks hold their members and no one else")
    func blocks() throws {
        let ten = try #require(CIDR("10.1.2.3/8"))
        #expect(ten.description == "10.0.0.0/8")
        #expect(ten.contains(IPAddress(10, 255, 0, 1)))
        #expect(!ten.contains(IPAddress(11, 0, 0, 0)))
        #expect(!ten.contains(try #require(IPAddress("::ffff:10.0.0.1"))))
        let six = try #require(CIDR("fd00:201:1::/65"))
        #expect(six.contains(try #require(IPAddress("fd00:201:1:0:7fff::"))))
        #expect(!six.contains(try #require(IPAddress("fd00:201:1:0:8000::"))))
        #expect(try #require(CIDR("::/0")).contains(.loopbackV6))
        #expect(try #require(CIDR("0.0.0.0/0")).contains(IPAddress(255, 255, 255, 255)))
        #expect(CIDR("192.0.2.7") == CIDR(IPAddress(192, 0, 2, 7)))
        for bad in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/+8", "::/129", "/8", "10.0.0.0/8/8"] {
            #expect(CIDR(bad) == nil, "\(bad)")
        }
    }

    @Test("endpoints are written the way URLs write them")
    func endpoints() throws {
        for text in ["10.0.0.1:80", "[fd00::1]:15008", "[::]:65535"] {
            #expect(try #require(Endpoint(text)).description == text)
        }
        for bad in [
            "10.0.0.1", "10.0.0.1:", "10.0.0.1:65536", "fd00::1:80", "[10.0.0.1]:80", "[fd00::1]80", ":80", "a:80",
        ] {
            #expect(Endpoint(bad) == nil, "\(bad)")
        }
    }

    @Test("any mix of characters of addresses is parsed or refused, never worse, and what is parsed prints back")
    func noise() {
        var random = SplitMix(seed: 7)
        let alphabet = Array("0123456789abcdef::..[]/%g")
        for _ in 0..<20_000 {
            let text = String(
                (0..<Int.random(in: 0...24, using: &random)).map { _ in alphabet.randomElement(using: &random)! })
            if let address = IPAddress(text) { #expect(IPAddress(address.description) == address) }
            if let block = CIDR(text) { #expect(CIDR(block.description) == block) }
        }
    }
}

/// A small generator with a fixed seed, so that a failure can be had again.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
