import Foundation
import Identity

/// An identity and its certificate, as the config dump writes it.
struct CertificateDocument: Encodable {
    struct Detail: Encodable {
        /// Base64 of the PEM text.
        let pem: String
        /// Decimal, as `istioctl` reads it.
        let serialNumber: String
        let validFrom: String
        let expirationTime: String
    }
    let identity: String
    let state: String
    let certChain: [Detail]
    let rootCerts: [Detail]

    init(_ status: CertificateManager.Status) {
        identity = status.identity.description
        // A certificate that is in force is available, whatever became of the attempt to renew it.
        state =
            status.state == .unavailable
            ? "\(status.state.rawValue): \(status.error.map { "\($0)" } ?? "-")" : status.state.rawValue
        certChain = status.chain.map(Detail.init)
        rootCerts = status.roots.map(Detail.init)
    }
}

extension CertificateDocument.Detail {
    init(_ certificate: CertificateDetail) {
        pem = Data(certificate.pem.utf8).base64EncodedString()
        serialNumber = certificate.serialNumber
        validFrom = certificate.notBefore.ISO8601Format()
        expirationTime = certificate.notAfter.ISO8601Format()
    }
}
