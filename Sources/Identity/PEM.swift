import SwiftASN1

/// Reading of PEM with limits. Texts come from files and from the network, so nothing is parsed before it is measured.
enum PEM {
    /// A certificate is one or two kilobytes; RSA 8192 with many names stays below 16.
    static let maximumCertificateSize = 64 << 10

    /// The certificates in a text, in order. Text around the blocks is ignored, blocks of another kind are not.
    ///
    /// - Throws: `code` when the text is too large, holds too many, none, or anything that is no PEM certificate.
    static func certificates(
        in text: String, maximumSize: Int, maximumCount: Int, code: IdentityError.Code, what: String
    ) throws(IdentityError) -> [[UInt8]] {
        guard text.utf8.count <= maximumSize else {
            throw IdentityError(code, "\(what) is larger than \(maximumSize) bytes")
        }
        // The parser slices by UTF-8 position, which is fast in native strings only.
        var text = text
        text.makeContiguousUTF8()
        let documents: [PEMDocument]
        do {
            documents = try PEMDocument.parseMultiple(pemString: text)
        } catch {
            throw IdentityError(code, "\(what) is not well-formed PEM", cause: error)
        }
        guard !documents.isEmpty else { throw IdentityError(code, "\(what) holds no PEM block") }
        guard documents.count <= maximumCount else {
            throw IdentityError(code, "\(what) holds more than \(maximumCount) certificates")
        }
        var certificates: [[UInt8]] = []
        for document in documents {
            guard document.discriminator == "CERTIFICATE" else {
                throw IdentityError(code, "\(what) holds a PEM block that is no certificate")
            }
            guard document.derBytes.count <= maximumCertificateSize else {
                throw IdentityError(code, "\(what) holds a certificate larger than \(maximumCertificateSize) bytes")
            }
            certificates.append(document.derBytes)
        }
        return certificates
    }

    /// One certificate as a PEM block that ends with a line feed.
    static func block(_ type: String, _ der: [UInt8]) -> String {
        PEMDocument(type: type, derBytes: der).pemString + "\n"
    }
}
