import Foundation
import Mesh
import Testing
import X509

@testable import Identity

/// Authorities as users bring them, made by OpenSSL.
@Suite struct AuthorityMaterialTests {
    /// A minute after the authorities are made, whose times are in whole seconds.
    let now = Date() + 60
    let folder: TemporaryDirectory

    init() throws { folder = try TemporaryDirectory() }

    /// The parts of an authority of a root, one authority between, and the one that signs.
    struct Parts {
        var certificate: String
        var key: String
        var chain: String
        var root: String
    }

    private func openssl(_ arguments: String...) throws {
        let result = try OpenSSL.run(arguments)
        try #require(result.status == 0, "\(result.output)")
    }

    private func key(_ name: String, _ kind: String) throws {
        let option =
            kind.hasPrefix("RSA")
            ? ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]
            : ["-algorithm", kind == "ED25519" ? "ED25519" : "EC"]
        let curve = kind.hasPrefix("P-") ? ["-pkeyopt", "ec_paramgen_curve:\(kind)"] : []
        let result = try OpenSSL.run(["genpkey"] + option + curve + ["-out", folder.file("\(name).key")])
        try #require(result.status == 0, "\(result.output)")
    }

    private func root(_ name: String, _ kind: String = "P-256", extra: [String] = []) throws {
        try key(name, kind)
        let result = try OpenSSL.run(
            [
                "req", "-x509", "-new", "-key", folder.file("\(name).key"), "-days", "30", "-subj",
                "/O=test/CN=\(name)",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out", folder.file("\(name).pem"),
            ] + extra)
        try #require(result.status == 0, "\(result.output)")
    }

    private func authority(
        _ name: String, by issuer: String, _ kind: String = "P-256", isAuthority: Bool = true, days: Int = 20
    ) throws {
        try key(name, kind)
        try openssl(
            "req", "-new", "-key", folder.file("\(name).key"), "-subj", "/O=test/CN=\(name)", "-out",
            folder.file("\(name).csr"))
        let constraints = isAuthority ? "critical,CA:TRUE" : "critical,CA:FALSE"
        let usage = isAuthority ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature"
        _ = try folder.write(
            "\(name).ext", "basicConstraints=\(constraints)\nkeyUsage=\(usage)\nsubjectKeyIdentifier=hash\n")
        try openssl(
            "x509", "-req", "-in", folder.file("\(name).csr"), "-CA", folder.file("\(issuer).pem"), "-CAkey",
            folder.file("\(issuer).key"), "-days", String(days), "-extfile", folder.file("\(name).ext"), "-set_serial",
            String(Int.random(in: 1...1_000_000)), "-out", folder.file("\(name).pem"))
    }

    private func text(_ name: String) throws -> String { try folder.read(name) }

    private func parts(_ kind: String = "P-256") throws -> Parts {
        try root("root")
        try authority("middle", by: "root")
        try authority("ca", by: "middle", kind)
        return Parts(
            certificate: try text("ca.pem"), key: try text("ca.key"),
            chain: try text("ca.pem") + text("middle.pem") + text("root.pem"), root: try text("root.pem"))
    }

    private func material(_ parts: Parts, at time: Date? = nil) throws -> AuthorityMaterial {
        try AuthorityMaterial(
            certificatePEM: parts.certificate, keyPEM: parts.key, chainPEM: parts.chain, rootsPEM: parts.root,
            name: "cacerts", now: time ?? now)
    }

    private func refusal(_ parts: Parts, at time: Date? = nil) throws -> IdentityError? {
        do {
            _ = try material(parts, at: time)
            return nil
        } catch let error as IdentityError {
            return error
        }
    }

    @Test(
        "R51: the leaf first, each authority between as its own element, the root last; OpenSSL verifies it",
        arguments: ["P-256", "P-384", "RSA"])
    func chain(kind: String) async throws {
        let authority = EmbeddedCA(try material(parts(kind)), trustDomain: "cluster.local")
        let request = try CertificateSigningRequestMaker.make(for: workload("client"))
        let chain = try authority.sign(csrPEM: request.csrPEM, for: workload("client"), validity: nil, now: now)
        #expect(chain.elements.count == 4)
        let subjects = try chain.elements.dropFirst().map { try Certificate(pemEncoded: $0).subject.description }
        #expect(subjects.map { $0.contains("CN=ca") } == [true, false, false])
        #expect(subjects.map { $0.contains("CN=root") } == [false, false, true])
        let leaf = try folder.write("leaf.pem", chain.elements[0])
        let between = try folder.write("between.pem", chain.elements[1] + chain.elements[2])
        let bundle = try folder.write("bundle.pem", chain.elements[3])
        let verified = try OpenSSL.run("verify", "-CAfile", bundle, "-untrusted", between, leaf)
        #expect(verified.status == 0, "\(verified.output)")
        // Our own client takes it, too, and nothing outlives the authority.
        let certificate = try await chain.certificate(for: workload("client"), key: request.key, at: now)
        #expect(certificate.chainDER.count == 3)
        #expect(authority.rootNotAfter < now + 20.5 * 86400)
        let long = try authority.sign(
            csrPEM: request.csrPEM, for: workload("client"), validity: .seconds(80 * 86400), now: now)
        #expect(try Certificate(derEncoded: long.chainDER[0]).notValidAfter == authority.rootNotAfter)
        // A server's chain is whole as well.
        let server = try authority.serverCertificate(names: ["istiod"], addresses: [], now: now)
        #expect(server.chainPEM.components(separatedBy: "BEGIN CERTIFICATE").count == 5)
    }

    @Test("R50: a root that signs by itself, and several roots to trust")
    func rootAlone() throws {
        try root("old")
        try root("new")
        let parts = Parts(
            certificate: try text("new.pem"), key: try text("new.key"), chain: "",
            root: try text("new.pem") + text("old.pem"))
        let material = try material(parts)
        #expect(material.intermediatesDER.isEmpty && material.rootsDER.count == 2)
        var same = parts
        same.chain = parts.certificate
        #expect(try self.material(same).isSame(as: material))
        #expect("\(material)" == "an authority's key and 2 roots")
    }

    @Test("R50: what is wrong with an authority is said by its part, and never quoted")
    func bad() throws {
        let good = try parts()
        try root("stranger")
        try authority("leaf", by: "root", isAuthority: false)
        try authority("other", by: "root")
        func changed(_ change: (inout Parts) throws -> Void) throws -> Parts {
            var parts = good
            try change(&parts)
            return parts
        }
        let cases: [(String, Parts, IdentityError.Code, String)] = [
            ("no certificate", try changed { $0.certificate = "x" }, .fileMalformed, "ca-cert.pem"),
            ("no key", try changed { $0.key = "secret words" }, .fileMalformed, "ca-key.pem"),
            ("another's key", try changed { $0.key = try text("other.key") }, .keyMismatch, "ca-key.pem"),
            ("no root", try changed { $0.root = "" }, .fileMalformed, "root-cert.pem"),
            ("a key among the roots", try changed { $0.root += $0.key }, .fileMalformed, "root-cert.pem"),
            ("another's root", try changed { $0.root = try text("stranger.pem") }, .chainInvalid, "root-cert.pem"),
            ("a gap", try changed { $0.chain = $0.certificate }, .chainInvalid, "root-cert.pem"),
            (
                "a stranger between", try changed { $0.chain = try text("stranger.pem") }, .chainInvalid,
                "cert-chain.pem"
            ),
            (
                "no authority",
                try changed {
                    $0.certificate = try text("leaf.pem")
                    $0.key = try text("leaf.key")
                    $0.chain = ""
                }, .chainInvalid, "no authority"
            ),
        ]
        for (name, parts, code, word) in cases {
            let error = try refusal(parts)
            #expect(error?.code == code, "\(name): \(String(describing: error))")
            #expect("\(String(describing: error))".contains(word), "\(name)")
            #expect(!"\(String(describing: error))".contains("secret words"))
        }
        #expect(try refusal(good, at: now + 21 * 86400)?.code == .authorityExpired)
        #expect(try refusal(good, at: now - 86400)?.code == .authorityExpired)
        #expect(try refusal(good) == nil)
        try root("edwards", "ED25519")
        let edwards = Parts(
            certificate: try text("edwards.pem"), key: try text("edwards.key"), chain: "", root: try text("edwards.pem")
        )
        #expect(try refusal(edwards)?.code == .unsupportedKey)
    }
}
