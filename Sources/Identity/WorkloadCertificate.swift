public import FoundationEssentials
public import Mesh

/// A certificate that a workload can show, with its key and the roots its peers are checked against.
///
/// Everything is DER, ready for a TLS engine. The description leaves the key out.
public struct WorkloadCertificate: Sendable {
    public let identity: SPIFFEIdentity
    /// Leaf first, then intermediates; the roots are not in it.
    public let chainDER: [[UInt8]]
    /// PKCS #8 (RFC 5958).
    public let privateKeyDER: [UInt8]
    /// The trust bundle that came with the certificate.
    public let rootsDER: [[UInt8]]
    public let notBefore: Date
    public let notAfter: Date
    /// The leaf's serial number in hexadecimal, as `openssl x509 -serial` prints it.
    public let serialNumber: String

    public init(
        identity: SPIFFEIdentity, chainDER: [[UInt8]], privateKeyDER: [UInt8], rootsDER: [[UInt8]], notBefore: Date,
        notAfter: Date, serialNumber: String
    ) {
        self.identity = identity
        self.chainDER = chainDER
        self.privateKeyDER = privateKeyDER
        self.rootsDER = rootsDER
        self.notBefore = notBefore
        self.notAfter = notAfter
        self.serialNumber = serialNumber
    }

    /// Whether the certificate can be used at this moment.
    public func isValid(at time: Date) -> Bool { notBefore <= time && time < notAfter }
}

extension WorkloadCertificate: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "\(identity) serial \(serialNumber) until \(notAfter)" }
    public var debugDescription: String { description }
    /// Dumps must not show the key.
    public var customMirror: Mirror {
        Mirror(self, children: ["identity": identity, "serialNumber": serialNumber, "notAfter": notAfter])
    }
}
