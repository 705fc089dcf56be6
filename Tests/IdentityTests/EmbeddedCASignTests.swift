import Addressing
import Crypto
import Foundation
import Identity
import Mesh
import SwiftASN1
import Testing
import X509

/// What the authority issues, judged by OpenSSL.
@Suite struct EmbeddedCASignTests {
    let directory: TemporaryDirectory
    let authority: EmbeddedCA
    let now = Date()

    init() throws {
        directory = try TemporaryDirectory()
        authority = try EmbeddedCA(directory: directory.path, trustDomain: "cluster.local", now: now)
    }

    private func leaf(_ validity: Duration? = nil) throws -> Certificate {
        let request = try CertificateSigningRequestMaker.make(for: workload("client"))
        let chain = try authority.sign(csrPEM: request.csrPEM, for: workload("client"), validity: validity, now: now)
        return try Certificate(derEncoded: chain.chainDER[0])
    }

    @Test(arguments: ["sslserver", "sslclient"])
    func opensslVerifiesTheLeafForBothSides(purpose: String) throws {
        let request = try CertificateSigningRequestMaker.make(for: workload("client"))
        let chain = try authority.sign(csrPEM: request.csrPEM, for: workload("client"), validity: nil, now: now)
        #expect(chain.elements.count == 2)
        let leaf = try directory.write("leaf.pem", chain.elements[0])
        let root = try directory.write("bundle.pem", chain.elements[1])
        let verified = try OpenSSL.run("verify", "-x509_strict", "-purpose", purpose, "-CAfile", root, leaf)
        #expect(verified.status == 0, "\(verified.output)")

        let text = try OpenSSL.run("x509", "-in", leaf, "-noout", "-text").output
        #expect(text.contains("X509v3 Subject Alternative Name: critical"))
        #expect(text.contains("URI:spiffe://cluster.local/ns/demo/sa/client"))
        #expect(text.contains("CA:FALSE"))
        #expect(text.contains("Digital Signature, Key Encipherment"))
        #expect(text.contains("TLS Web Server Authentication, TLS Web Client Authentication"))
        let subject = try OpenSSL.run("x509", "-in", leaf, "-noout", "-subject").output
        #expect(subject.trimmingCharacters(in: .whitespacesAndNewlines) == "subject=")
    }

    @Test func ignoresEveryNameInTheRequest() throws {
        let key = directory.file("k.pem")
        let csr = directory.file("r.csr")
        let made = try OpenSSL.run(
            "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out",
            csr,
            "-subj", "/O=system:masters/CN=admin", "-addext",
            "subjectAltName=URI:spiffe://cluster.local/ns/kube-system/sa/admin,DNS:istiod.istio-system.svc")
        #expect(made.status == 0, "\(made.output)")
        let chain = try authority.sign(
            csrPEM: try directory.read("r.csr"), for: workload("client"), validity: nil, now: now)
        let leaf = try Certificate(derEncoded: chain.chainDER[0])
        #expect(leaf.subject == DistinguishedName())
        #expect(
            try leaf.extensions.subjectAlternativeNames
                == SubjectAlternativeNames([.uniformResourceIdentifier("spiffe://cluster.local/ns/demo/sa/client")]))
    }

    /// Asked for, and given: seconds from now; the certificate begins two minutes earlier.
    static let lifetimes: [(Int64?, Int64)] = [
        (nil, 86_400), (0, 86_400), (-1, 86_400), (.min, 86_400), (1, 1), (600, 600), (7_776_000, 7_776_000),
    ]

    @Test("R49: the lifetime that was asked for, or a day", arguments: lifetimes)
    func givesTheLifetimeThatWasAskedFor(asked: Int64?, given: Int64) throws {
        let certificate = try leaf(asked.map { .seconds($0) })
        #expect(abs(certificate.notValidAfter.timeIntervalSince(now) - Double(given)) <= 1)
        // The root itself begins two minutes before it was made, so the leaf's beginning is exact.
        #expect(abs(certificate.notValidBefore.timeIntervalSince(now) + 120) <= 1)
    }

    @Test("R49: more than ninety days is refused, not cut", arguments: [7_776_001, 34_560_000, .max] as [Int64])
    func refusesALifetimeBeyondNinetyDays(asked: Int64) throws {
        let error = #expect(throws: IdentityError.self) { try leaf(.seconds(asked)) }
        #expect(error?.code == .validityTooLong)
    }

    @Test func neverOutlivesTheRoot() throws {
        let late = authority.rootNotAfter - 3600
        let request = try CertificateSigningRequestMaker.make(for: workload("client"))
        let chain = try authority.sign(csrPEM: request.csrPEM, for: workload("client"), validity: nil, now: late)
        let leaf = try Certificate(derEncoded: chain.chainDER[0])
        #expect(leaf.notValidAfter == authority.rootNotAfter)
        let error = #expect(throws: IdentityError.self) {
            try authority.sign(
                csrPEM: request.csrPEM, for: workload("client"), validity: nil, now: authority.rootNotAfter)
        }
        #expect(error?.code == .authorityExpired)
    }

    @Test func serialsAreLongAndDiffer() throws {
        let serials = try (0..<16).map { _ in try leaf().serialNumber }
        #expect(Set(serials).count == 16)
        for serial in serials {
            #expect(serial.bytes.count == 16)
            #expect((serial.bytes.first ?? 0) & 0xc0 == 0x40)
        }
    }

    @Test func refusesForeignTrustDomainsAndImpossibleNames() throws {
        let refused = [
            workload("client", trustDomain: "other.example"), workload("a/b"), workload(""), workload("x?y"),
            workload("client", namespace: "a#b"), workload(String(repeating: "a", count: 3000)),
        ]
        for identity in refused {
            let request = try CertificateSigningRequestMaker.make(for: workload("client"))
            let error = #expect(throws: IdentityError.self) {
                try authority.sign(csrPEM: request.csrPEM, for: identity, validity: nil, now: now)
            }
            #expect(error?.code == .identityRefused, "\(identity.serviceAccount.prefix(20))")
        }
    }

    @Test(arguments: [("P-384", 0), ("RSA", 0), ("P-521", 1), ("ED25519", 1)])
    func signsKeysThatPeersUnderstand(kind: String, refused: Int) throws {
        let arguments =
            switch kind {
            case "RSA": ["-newkey", "rsa:2048"]
            case "ED25519": ["-newkey", "ed25519"]
            default: ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:\(kind)"]
            }
        let made = try OpenSSL.run(
            [
                "req", "-new", "-nodes", "-keyout", directory.file("k"), "-out", directory.file("r.csr"), "-subj",
                "/CN=x",
            ]
                + arguments)
        #expect(made.status == 0, "\(made.output)")
        let csr = try directory.read("r.csr")
        if refused == 1 {
            let error = #expect(throws: IdentityError.self) {
                try authority.sign(csrPEM: csr, for: workload("client"), validity: nil, now: now)
            }
            #expect(error?.code == .unsupportedKey)
        } else {
            let chain = try authority.sign(csrPEM: csr, for: workload("client"), validity: nil, now: now)
            let leaf = try directory.write("leaf.pem", chain.elements[0])
            #expect(try OpenSSL.run("verify", "-CAfile", directory.file("root-cert.pem"), leaf).status == 0)
        }
    }

    @Test func serverCertificateServesItsNamesAndAddresses() throws {
        let v4 = try #require(IPAddress("127.0.0.1"))
        let v6 = try #require(IPAddress("fd00::1"))
        let server = try authority.serverCertificate(
            names: ["istiod.istio-system.svc", "localhost"], addresses: [v4, v6], now: now)
        let chain = try directory.write("server.pem", server.chainPEM)
        let key = try directory.write("server.key", server.privateKeyPEM)
        let root = directory.file("root-cert.pem")
        for name in ["istiod.istio-system.svc", "localhost"] {
            let verified = try OpenSSL.run(
                "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", name, "-CAfile", root, chain)
            #expect(verified.status == 0, "\(verified.output)")
        }
        for address in ["127.0.0.1", "fd00::1"] {
            #expect(try OpenSSL.run("verify", "-verify_ip", address, "-CAfile", root, chain).status == 0)
        }
        #expect(try OpenSSL.run("verify", "-verify_hostname", "evil.example", "-CAfile", root, chain).status != 0)
        #expect(try OpenSSL.run("verify", "-purpose", "sslclient", "-CAfile", root, chain).status != 0)
        let publicOfKey = try OpenSSL.run("pkey", "-in", key, "-pubout").output
        let publicOfLeaf = try OpenSSL.run("x509", "-in", chain, "-pubkey", "-noout").output
        #expect(publicOfKey == publicOfLeaf)
    }

    @Test func serverCertificateNeedsAName() throws {
        let error = #expect(throws: IdentityError.self) {
            try authority.serverCertificate(names: [], addresses: [], now: now)
        }
        #expect(error?.code == .configuration)
    }
}
