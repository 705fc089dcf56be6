public import FoundationEssentials
import X509

/// What an operator wants to see of a certificate.
public struct CertificateDetail: Sendable, Hashable {
    public let pem: String
    /// Decimal, as Istio's ztunnel shows it.
    public let serialNumber: String
    public let notBefore: Date
    public let notAfter: Date

    /// `nil` for what is no certificate.
    public init?(der: [UInt8]) {
        // Only certificates that were checked when they came are shown; one that is none has nothing to show.
        guard let certificate = try? Certificate(derEncoded: der) else { return nil }
        pem = PEM.block("CERTIFICATE", der)
        serialNumber = Self.decimal(Array(certificate.serialNumber.bytes))
        notBefore = certificate.notValidBefore
        notAfter = certificate.notValidAfter
    }

    /// A number of any size, given as bytes, in decimal digits.
    static func decimal(_ magnitude: [UInt8]) -> String {
        var digits: [UInt8] = [0]
        for byte in magnitude {
            var carry = Int(byte)
            for index in digits.indices {
                let value = Int(digits[index]) * 256 + carry
                digits[index] = UInt8(value % 10)
                carry = value / 10
            }
            while carry > 0 {
                digits.append(UInt8(carry % 10))
                carry /= 10
            }
        }
        return String(decoding: digits.reversed().map { $0 + UInt8(ascii: "0") }, as: UTF8.self)
    }
}
