import Crypto
import Foundation

/// Writes revocation lists as bytes (RFC 5280 section 5.1), good ones and bad ones.
struct TestRevocationList {
    /// The issuer's name, DER.
    var issuer: [UInt8]
    /// Serial numbers, magnitude only, as certificates have them.
    var serials: [[UInt8]] = []
    var thisUpdate = Date() - 60
    var nextUpdate: Date? = Date() + 3600
    /// Whole extensions, DER, of the list.
    var extensions: [[UInt8]] = []
    /// Whole extensions of every entry.
    var entryExtensions: [[UInt8]] = []

    func der(_ key: P256.Signing.PrivateKey) throws -> [UInt8] {
        let algorithm = Self.tlv(0x30, Self.tlv(0x06, [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]))
        var list = Self.tlv(0x02, [1]) + algorithm + issuer + Self.time(thisUpdate)
        if let nextUpdate { list += Self.time(nextUpdate) }
        let entries = serials.flatMap { serial in
            let positive = serial.first.map { $0 & 0x80 != 0 } ?? true ? [0] + serial : serial
            let extra = entryExtensions.isEmpty ? [] : Self.tlv(0x30, entryExtensions.flatMap { $0 })
            return Self.tlv(0x30, Self.tlv(0x02, positive) + Self.time(thisUpdate) + extra)
        }
        if !entries.isEmpty { list += Self.tlv(0x30, entries) }
        if !extensions.isEmpty { list += Self.tlv(0xa0, Self.tlv(0x30, extensions.flatMap { $0 })) }
        let signed = Self.tlv(0x30, list)
        let signature = try key.signature(for: signed).derRepresentation
        return Self.tlv(0x30, signed + algorithm + Self.tlv(0x03, [0] + signature))
    }

    func pem(_ key: P256.Signing.PrivateKey) throws -> String { Self.pem("X509 CRL", try der(key)) }

    static func pem(_ kind: String, _ der: [UInt8]) -> String {
        let lines = Data(der).base64EncodedString(options: [.lineLength64Characters, .endLineWithLineFeed])
        return "-----BEGIN \(kind)-----\n\(lines)\n-----END \(kind)-----\n"
    }

    static func criticalExtension(_ oid: [UInt8], _ value: [UInt8]) -> [UInt8] {
        tlv(0x30, tlv(0x06, oid) + tlv(0x01, [0xff]) + tlv(0x04, value))
    }

    static func tlv(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
        let count = content.count
        if count < 0x80 { return [tag, UInt8(count)] + content }
        var length: [UInt8] = []
        var rest = count
        while rest > 0 {
            length.insert(UInt8(rest & 0xff), at: 0)
            rest >>= 8
        }
        return [tag, 0x80 | UInt8(length.count)] + length + content
    }

    private static func time(_ date: Date) -> [UInt8] {
        var calendar = Calendar(identifier: .gregorian)
        calendar.timeZone = TimeZone(secondsFromGMT: 0) ?? .current
        let parts = calendar.dateComponents([.year, .month, .day, .hour, .minute, .second], from: date)
        func two(_ number: Int?) -> String { String(format: "%02d", (number ?? 0) % 100) }
        let text =
            two(parts.year) + two(parts.month) + two(parts.day) + two(parts.hour) + two(parts.minute)
            + two(parts.second) + "Z"
        return tlv(0x17, Array(text.utf8))
    }
}
