import Crypto
import Foundation
import Mesh
import SwiftASN1
import Testing
import X509

@testable import Identity

/// What is not accepted from an authority.
@Suite struct IssuedChainTests {
    let directory: TemporaryDirectory
    let authority: EmbeddedCA
    let now = Date()

    init() throws {
        directory = try TemporaryDirectory()
        authority = try EmbeddedCA(directory: directory.path, trustDomain: "cluster.local", now: now)
    }

    private func refusal(
        _ chain: IssuedChain, key: P256.Signing.PrivateKey, at time: Date? = nil, for name: String = "client"
    ) async -> IdentityError.Code? {
        do {
            _ = try await chain.certificate(for: workload(name), key: key, at: time ?? now)
            return nil
        } catch {
            return error.code
        }
    }

    private func issued() throws -> (IssuedChain, P256.Signing.PrivateKey) {
        let request = try CertificateSigningRequestMaker.make(for: workload("client"))
        let chain = try authority.sign(csrPEM: request.csrPEM, for: workload("client"), validity: nil, now: now)
        return (chain, request.key)
    }

    /// A certificate under the authority's own key, with any extensions.
    private func leaf(
        _ key: P256.Signing.PrivateKey, root: EmbeddedCA? = nil,
        @ExtensionsBuilder _ extensions: () throws -> Result<Certificate.Extensions, any Error>
    ) throws -> IssuedChain {
        let signer = root ?? authority
        let certificate = try Certificate(
            version: .v3, serialNumber: .init(), publicKey: .init(key.publicKey), notValidBefore: now - 60,
            notValidAfter: now + 3600, issuer: signer.material.issuer.subject, subject: DistinguishedName(),
            signatureAlgorithm: .ecdsaWithSHA256, extensions: try Certificate.Extensions(builder: extensions),
            issuerPrivateKey: signer.material.key)
        var serializer = DER.Serializer()
        try serializer.serialize(certificate)
        return IssuedChain(chainDER: [serializer.serializedBytes], rootsDER: [authority.rootDER])
    }

    private var name: SubjectAlternativeNames {
        SubjectAlternativeNames([.uniformResourceIdentifier(workload("client").description)])
    }

    @Test func acceptsWhatItAskedFor() async throws {
        let (chain, key) = try issued()
        let certificate = try await chain.certificate(for: workload("client"), key: key, at: now)
        #expect(certificate.chainDER == chain.chainDER)
        #expect(certificate.rootsDER == [authority.rootDER])
        #expect(certificate.privateKeyDER == Array(key.derRepresentation))
        #expect(abs(certificate.notAfter.timeIntervalSince(now) - 86_400) <= 1)
        let file = try directory.write("leaf.pem", chain.elements[0])
        let serial = try OpenSSL.run("x509", "-in", file, "-noout", "-serial").output
        #expect(serial.trimmingCharacters(in: .whitespacesAndNewlines) == "serial=\(certificate.serialNumber)")
        // The key is PKCS #8, as TLS engines take it.
        try Data(certificate.privateKeyDER).write(to: URL(fileURLWithPath: directory.file("key.der")))
        #expect(try OpenSSL.run("pkey", "-inform", "DER", "-in", directory.file("key.der"), "-check").status == 0)
    }

    @Test func theWireFormComesBackAsItWent() throws {
        let (chain, _) = try issued()
        #expect(try IssuedChain(elements: chain.elements) == chain)
        let more = IssuedChain(
            chainDER: chain.chainDER + [authority.rootDER], rootsDER: [authority.rootDER, authority.rootDER])
        #expect(more.elements.count == 3)
        #expect(try IssuedChain(elements: more.elements) == more)
    }

    @Test func anotherIdentityKeyOrTime() async throws {
        let (chain, key) = try issued()
        #expect(await refusal(chain, key: key, for: "server") == .identityMismatch)
        #expect(await refusal(chain, key: P256.Signing.PrivateKey()) == .keyMismatch)
        #expect(await refusal(chain, key: key, at: now + 86_401) == .certificateExpired)
        #expect(await refusal(chain, key: key, at: now - 180) == .certificateExpired)
        #expect(
            await refusal(IssuedChain(chainDER: [[0x30]], rootsDER: [authority.rootDER]), key: key)
                == .responseMalformed)
        #expect(await refusal(IssuedChain(chainDER: [], rootsDER: [authority.rootDER]), key: key) == .responseMalformed)
    }

    @Test func aRootThatDidNotSign() async throws {
        let (chain, key) = try issued()
        let elsewhere = try TemporaryDirectory()
        let other = try EmbeddedCA(directory: elsewhere.path, trustDomain: "cluster.local", now: now)
        #expect(
            await refusal(IssuedChain(chainDER: chain.chainDER, rootsDER: [other.rootDER]), key: key) == .chainInvalid)
        let both = IssuedChain(chainDER: chain.chainDER, rootsDER: [other.rootDER, authority.rootDER])
        #expect(await refusal(both, key: key) == nil)
        // The same name on the root, another key under the leaf.
        let forged = try leaf(key, root: other) { Critical(name) }
        #expect(await refusal(forged, key: key) == .chainInvalid)
    }

    @Test func namesBesideTheOneAskedFor() async throws {
        let key = P256.Signing.PrivateKey()
        let both = SubjectAlternativeNames([
            .uniformResourceIdentifier(workload("client").description),
            .uniformResourceIdentifier(workload("admin").description),
        ])
        #expect(await refusal(try leaf(key) { Critical(both) }, key: key) == .identityMismatch)
        #expect(await refusal(try leaf(key) { KeyUsage(digitalSignature: true) }, key: key) == .identityMismatch)
        let dns = SubjectAlternativeNames([.dnsName(workload("client").description)])
        #expect(await refusal(try leaf(key) { dns }, key: key) == .identityMismatch)
    }

    @Test func usagesThatTLSCannotUse() async throws {
        let key = P256.Signing.PrivateKey()
        #expect(await refusal(try leaf(key) { Critical(name) }, key: key) == nil)
        let authority = try leaf(key) {
            Critical(name)
            Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil))
        }
        #expect(await refusal(authority, key: key) == .chainInvalid)
        let signsNothing = try leaf(key) {
            Critical(name)
            Critical(KeyUsage(keyEncipherment: true))
        }
        #expect(await refusal(signsNothing, key: key) == .chainInvalid)
        for usages in [[.serverAuth], [.clientAuth], [.codeSigning]] as [[ExtendedKeyUsage.Usage]] {
            let half = try leaf(key) {
                Critical(name)
                try ExtendedKeyUsage(usages)
            }
            #expect(await refusal(half, key: key) == .chainInvalid)
        }
        let unknown = try leaf(key) {
            Critical(name)
            Certificate.Extension(oid: [1, 2, 3, 4], critical: true, value: [5, 0])
        }
        #expect(await refusal(unknown, key: key) == .chainInvalid)
    }

    @Test func aLeafThatSignsALeaf() async throws {
        let (chain, middle) = try issued()
        let key = P256.Signing.PrivateKey()
        let parent = try Certificate(derEncoded: chain.chainDER[0])
        let certificate = try Certificate(
            version: .v3, serialNumber: .init(), publicKey: .init(key.publicKey), notValidBefore: now - 60,
            notValidAfter: now + 60, issuer: parent.subject, subject: DistinguishedName(),
            signatureAlgorithm: .ecdsaWithSHA256, extensions: try .init { Critical(name) },
            issuerPrivateKey: .init(middle))
        var serializer = DER.Serializer()
        try serializer.serialize(certificate)
        let forged = IssuedChain(
            chainDER: [serializer.serializedBytes] + chain.chainDER, rootsDER: [authority.rootDER])
        #expect(await refusal(forged, key: key) == .chainInvalid)
    }
}
