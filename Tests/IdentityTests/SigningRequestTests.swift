import Crypto
import Foundation
import Identity
import Mesh
import SwiftASN1
import Testing
import X509

@Suite struct SigningRequestTests {
    @Test func opensslAcceptsAndFindsOneCriticalURI() throws {
        let directory = try TemporaryDirectory()
        let request = try CertificateSigningRequestMaker.make(for: workload("client"))
        let path = try directory.write("request.csr", request.csrPEM)

        let verified = try OpenSSL.run("req", "-in", path, "-verify", "-noout", "-text")
        #expect(verified.status == 0)
        #expect(verified.output.contains("self-signature verify OK") || verified.output.contains("verify OK"))
        #expect(verified.output.contains("X509v3 Subject Alternative Name: critical"))
        #expect(verified.output.contains("URI:spiffe://cluster.local/ns/demo/sa/client"))
        #expect(verified.output.contains("prime256v1"))
        #expect(verified.output.contains("Signature Algorithm: ecdsa-with-SHA256"))

        let subject = try OpenSSL.run("req", "-in", path, "-noout", "-subject")
        #expect(subject.output.trimmingCharacters(in: .whitespacesAndNewlines) == "subject=")
    }

    @Test func everyRequestHasItsOwnKey() throws {
        let first = try CertificateSigningRequestMaker.make(for: workload("client"))
        let second = try CertificateSigningRequestMaker.make(for: workload("client"))
        #expect(first.key.rawRepresentation != second.key.rawRepresentation)
        let csr = try CertificateSigningRequest(pemEncoded: first.csrPEM)
        #expect(csr.publicKey == Certificate.PublicKey(first.key.publicKey))
    }
}
