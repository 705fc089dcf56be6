import Crypto
import Foundation
import Identity
import Mesh
import SwiftASN1
import Testing
import X509

/// Requests from somebody who means harm. Each is refused for its own reason, and the next good one is signed.
@Suite struct HostileSigningRequestTests {
    let directory: TemporaryDirectory
    let authority: EmbeddedCA
    let now = Date()

    init() throws {
        directory = try TemporaryDirectory()
        authority = try EmbeddedCA(directory: directory.path, trustDomain: "cluster.local", now: now)
    }

    private func refusal(_ csr: String) throws -> IdentityError.Code? {
        defer { expectTheNextGoodRequestToBeSigned() }
        do {
            _ = try authority.sign(csrPEM: csr, for: workload("client"), validity: nil, now: now)
            return nil
        } catch {
            return error.code
        }
    }

    private func expectTheNextGoodRequestToBeSigned() {
        #expect(throws: Never.self) {
            let request = try CertificateSigningRequestMaker.make(for: workload("client"))
            _ = try authority.sign(csrPEM: request.csrPEM, for: workload("client"), validity: nil, now: now)
        }
    }

    private func good() throws -> (pem: String, der: [UInt8]) {
        let pem = try CertificateSigningRequestMaker.make(for: workload("client")).csrPEM
        return (pem, try PEMDocument(pemString: pem).derBytes)
    }

    private func pem(_ der: [UInt8], _ type: String = "CERTIFICATE REQUEST") -> String {
        PEMDocument(type: type, derBytes: der).pemString + "\n"
    }

    @Test(arguments: [
        "", "\n", "garbage", "-----BEGIN CERTIFICATE REQUEST-----", "-----BEGIN CERTIFICATE REQUEST-----\n\n",
        "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n",
        "-----BEGIN CERTIFICATE REQUEST-----\n!!!!\n-----END CERTIFICATE REQUEST-----\n",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE-----\n",
        "\u{0}\u{1}\u{2}", String(repeating: "-----BEGIN ", count: 1400),
    ])
    func garbage(text: String) throws {
        #expect(try refusal(text) == .requestMalformed)
    }

    @Test func truncatedAtEveryByte() throws {
        let der = try good().der
        for length in 1..<der.count {
            let csr = pem(Array(der[..<length]))
            #expect(throws: IdentityError.self) {
                try authority.sign(csrPEM: csr, for: workload("client"), validity: nil, now: now)
            }
        }
        expectTheNextGoodRequestToBeSigned()
    }

    @Test func trailingBytesTwoBlocksAndTheWrongKind() throws {
        let (text, der) = try good()
        #expect(try refusal(pem(der + [0])) == .requestMalformed)
        #expect(try refusal(text + text) == .requestMalformed)
        #expect(try refusal(pem(der, "CERTIFICATE")) == .requestMalformed)
        #expect(try refusal(pem(authority.rootDER)) == .requestMalformed)
        #expect(try refusal(pem(der, "NEW CERTIFICATE REQUEST")) == nil)
    }

    @Test func huge() throws {
        let (text, _) = try good()
        #expect(try refusal(text + String(repeating: "\n", count: 16 << 10)) == .requestTooLarge)
        #expect(try refusal(String(repeating: "A", count: 8 << 20)) == .requestTooLarge)
        #expect(try refusal(pem([UInt8](repeating: 0x30, count: 15 << 10))) == .requestTooLarge)
    }

    @Test func deeplyNested() throws {
        // 2,000 SEQUENCEs, each around the next, with long-form lengths.
        var der: [UInt8] = []
        for _ in 0..<2000 {
            let count = der.count
            der = [0x30, 0x82, UInt8(count >> 8 & 0xff), UInt8(count & 0xff)] + der
        }
        #expect(try refusal(pem(der)) == .requestMalformed)
    }

    @Test func badSignature() throws {
        let request = try CertificateSigningRequestMaker.make(for: workload("client"))
        let stranger = P256.Signing.PrivateKey()
        // Another's public key under one's own signature: the holder of the key has not agreed to this.
        let csr = try CertificateSigningRequest(
            version: .v1, subject: DistinguishedName(), privateKey: .init(stranger),
            attributes: .init(), signatureAlgorithm: .ecdsaWithSHA256)
        var der = try PEMDocument(pemString: try csr.serializeAsPEM().pemString + "\n").derBytes
        let own = Array(stranger.publicKey.x963Representation)
        let other = Array(request.key.publicKey.x963Representation)
        let at = try #require((0...(der.count - own.count)).first { Array(der[$0..<($0 + own.count)]) == own })
        der.replaceSubrange(at..<(at + own.count), with: other)
        #expect(try refusal(pem(der)) == .requestSignature)
    }

    @Test func aFlippedBitNeverCertifiesAnotherKey() throws {
        let der = try good().der
        let original = try CertificateSigningRequest(derEncoded: der).publicKey
        var signed = 0
        for position in der.indices {
            var changed = der
            changed[position] ^= 1 << UInt8(position % 8)
            do {
                let chain = try authority.sign(
                    csrPEM: pem(changed), for: workload("client"), validity: nil, now: now)
                #expect(try Certificate(derEncoded: chain.chainDER[0]).publicKey == original)
                signed += 1
            } catch let error as IdentityError {
                #expect(
                    [.requestMalformed, .requestSignature, .unsupportedKey, .requestsAuthority].contains(error.code))
            }
        }
        // The count of unused bits in front of the signature is the only byte that can differ without harm.
        #expect(signed <= 1)
    }

    @Test(arguments: [
        "basicConstraints=critical,CA:TRUE", "basicConstraints=CA:TRUE,pathlen:3", "keyUsage=keyCertSign",
        "keyUsage=critical,digitalSignature,cRLSign",
    ])
    func asksToBecomeAnAuthority(wish: String) throws {
        let made = try OpenSSL.run(
            "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
            directory.file("k"), "-out", directory.file("r.csr"), "-subj", "/CN=x", "-addext", wish)
        #expect(made.status == 0, "\(made.output)")
        #expect(try refusal(try directory.read("r.csr")) == .requestsAuthority)
    }

    @Test func hidesTheWishInASecondAttribute() throws {
        let key = P256.Signing.PrivateKey()
        let harmless = ExtensionRequest(
            extensions: try .init { SubjectAlternativeNames([.dnsName("a")]) })
        let wish = ExtensionRequest(
            extensions: try .init { Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil)) })
        let csr = try CertificateSigningRequest(
            version: .v1, subject: DistinguishedName(), privateKey: .init(key),
            attributes: .init([.init(harmless), .init(wish)]), signatureAlgorithm: .ecdsaWithSHA256)
        let code = try refusal(try csr.serializeAsPEM().pemString + "\n")
        #expect(code == .requestsAuthority || code == .requestMalformed)
    }

    @Test func harmlessWishesAreIgnored() throws {
        let made = try OpenSSL.run(
            "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
            directory.file("k"), "-out", directory.file("r.csr"), "-subj", "/CN=x", "-addext",
            "basicConstraints=CA:FALSE", "-addext", "extendedKeyUsage=codeSigning")
        #expect(made.status == 0, "\(made.output)")
        let chain = try authority.sign(
            csrPEM: try directory.read("r.csr"), for: workload("client"), validity: nil, now: now)
        let leaf = try Certificate(derEncoded: chain.chainDER[0])
        #expect(try leaf.extensions.extendedKeyUsage == ExtendedKeyUsage([.serverAuth, .clientAuth]))
    }
}
