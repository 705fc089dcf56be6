import Crypto
import Foundation
import Testing
import X509

@testable import Identity

/// The authority's files: made once, loaded ever after, refused when something is wrong with them.
@Suite struct EmbeddedCAFileTests {
    let now = Date()

    private func open(_ directory: TemporaryDirectory, now: Date? = nil) throws -> EmbeddedCA {
        try EmbeddedCA(directory: directory.path, trustDomain: "cluster.local", now: now ?? self.now)
    }

    private func code(_ body: () throws -> Void) -> IdentityError.Code? {
        do {
            try body()
            return nil
        } catch {
            return (error as? IdentityError)?.code
        }
    }

    @Test func makesAPairOnceAndLoadsItAfterwards() throws {
        let directory = try TemporaryDirectory()
        let first = try open(directory)
        #expect(try directory.mode("ca.key") == 0o600)
        #expect(try directory.mode("root-cert.pem") == 0o644)
        let second = try open(directory)
        #expect(first.rootDER == second.rootDER)
        #expect(first.rootPEM == second.rootPEM)
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted() == ["ca.key", "root-cert.pem"])
    }

    @Test func opensslReadsTheRoot() throws {
        let directory = try TemporaryDirectory()
        _ = try open(directory)
        let root = directory.file("root-cert.pem")
        let text = try OpenSSL.run("x509", "-in", root, "-noout", "-text").output
        #expect(text.contains("CA:TRUE, pathlen:0"))
        #expect(text.contains("Certificate Sign, CRL Sign"))
        #expect(text.contains("X509v3 Basic Constraints: critical"))
        #expect(text.contains("prime256v1"))
        #expect(text.contains("O = cluster.local, CN = Apus root"))
        #expect(try OpenSSL.run("verify", "-check_ss_sig", "-CAfile", root, root).status == 0)
        // Nine years are covered, eleven are not.
        let year = 365 * 24 * 3600
        #expect(try OpenSSL.run("x509", "-in", root, "-noout", "-checkend", "\(9 * year)").status == 0)
        #expect(try OpenSSL.run("x509", "-in", root, "-noout", "-checkend", "\(11 * year)").status == 1)
        #expect(try OpenSSL.run("pkey", "-in", directory.file("ca.key"), "-check", "-noout").status == 0)
    }

    @Test func makesTheDirectoryForItsOwnerAlone() throws {
        let parent = try TemporaryDirectory()
        _ = try EmbeddedCA(directory: parent.file("state"), trustDomain: "cluster.local", now: now)
        #expect(try parent.mode("state") == 0o700)
    }

    @Test(arguments: [0o644, 0o640, 0o604, 0o620, 0o602])
    func refusesAKeyThatIsOpenToOthers(mode: Int) throws {
        let directory = try TemporaryDirectory()
        _ = try open(directory)
        try directory.setMode("ca.key", mode)
        let error = #expect(throws: IdentityError.self) { try open(directory) }
        #expect(error?.code == .filePermissions)
        #expect(error?.description.contains("ca.key has mode 0\(String(mode, radix: 8))") == true)
        #expect(error?.hint?.contains("chmod 600") == true)
    }

    @Test(arguments: [0o755, 0o750, 0o701])
    func refusesADirectoryThatIsOpenToOthers(mode: Int) throws {
        let parent = try TemporaryDirectory()
        _ = try EmbeddedCA(directory: parent.file("state"), trustDomain: "cluster.local", now: now)
        try parent.setMode("state", mode)
        let error = #expect(throws: IdentityError.self) {
            try EmbeddedCA(directory: parent.file("state"), trustDomain: "cluster.local", now: now)
        }
        #expect(error?.code == .filePermissions)
        #expect(error?.hint?.contains("chmod 700") == true)
    }

    @Test func refusesARootThatOthersMayWrite() throws {
        let directory = try TemporaryDirectory()
        _ = try open(directory)
        try directory.setMode("root-cert.pem", 0o666)
        #expect(code { _ = try open(directory) } == .filePermissions)
    }

    @Test func refusesAKeyOfAnotherUser() throws {
        guard geteuid() == 0 else { return }  // Only root can give a file away.
        let directory = try TemporaryDirectory()
        _ = try open(directory)
        try FileManager.default.setAttributes([.ownerAccountID: 12345], ofItemAtPath: directory.file("ca.key"))
        #expect(code { _ = try open(directory) } == .filePermissions)
    }

    @Test func refusesAMismatchedPair() throws {
        let directory = try TemporaryDirectory()
        let other = try TemporaryDirectory()
        _ = try open(directory)
        _ = try open(other)
        try directory.write("ca.key", try other.read("ca.key"))
        let error = #expect(throws: IdentityError.self) { try open(directory) }
        #expect(error?.code == .keyMismatch)
        #expect(error?.description.contains("do not belong together") == true)
    }

    @Test func refusesARootWithoutItsKey() throws {
        let directory = try TemporaryDirectory()
        _ = try open(directory)
        try FileManager.default.removeItem(atPath: directory.file("ca.key"))
        #expect(code { _ = try open(directory) } == .incompleteAuthority)
    }

    @Test func finishesAStartThatWasCutShort() throws {
        let directory = try TemporaryDirectory()
        _ = try open(directory)
        let key = try directory.read("ca.key")
        try FileManager.default.removeItem(atPath: directory.file("root-cert.pem"))
        _ = try open(directory)
        #expect(try directory.read("ca.key") == key)
        _ = try open(directory)
    }

    @Test func refusesAnExpiredRoot() throws {
        let directory = try TemporaryDirectory()
        _ = try open(directory)
        let later = now + 11 * 365 * 24 * 3600
        #expect(code { _ = try open(directory, now: later) } == .authorityExpired)
    }

    @Test(arguments: ["", "garbage", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
    func refusesAMalformedKeyWithoutQuotingIt(content: String) throws {
        let directory = try TemporaryDirectory()
        _ = try open(directory)
        try directory.write("ca.key", content)
        let error = #expect(throws: IdentityError.self) { try open(directory) }
        #expect(error?.code == .fileMalformed)
        #expect(content.isEmpty || error?.description.contains(content) == false)
    }

    @Test func refusesAMalformedRoot() throws {
        let directory = try TemporaryDirectory()
        let authority = try open(directory)
        for content in ["", "garbage", authority.rootPEM + authority.rootPEM, String(authority.rootPEM.dropLast(40))] {
            try directory.write("root-cert.pem", content, mode: 0o644)
            #expect(code { _ = try open(directory) } == .fileMalformed, "\(content.count) bytes")
        }
    }

    @Test func refusesALeafInTheRootsPlace() throws {
        let directory = try TemporaryDirectory()
        let authority = try open(directory)
        let key = try P256.Signing.PrivateKey(pemRepresentation: try directory.read("ca.key"))
        #expect(Certificate.PublicKey(key.publicKey) == authority.material.key.publicKey)
        let made = try OpenSSL.run(
            "req", "-x509", "-key", directory.file("ca.key"), "-subj", "/CN=leaf", "-days", "5", "-addext",
            "basicConstraints=critical,CA:FALSE", "-out", directory.file("root-cert.pem"))
        #expect(made.status == 0)
        #expect(code { _ = try open(directory) } == .fileMalformed)
    }

    @Test func refusesWhatIsNoRegularFile() throws {
        let directory = try TemporaryDirectory()
        try FileManager.default.createDirectory(atPath: directory.file("ca.key"), withIntermediateDirectories: false)
        #expect(code { _ = try open(directory) } == .fileUnreadable)

        let second = try TemporaryDirectory()
        let elsewhere = try TemporaryDirectory()
        _ = try open(elsewhere)
        try FileManager.default.createSymbolicLink(
            atPath: second.file("ca.key"), withDestinationPath: elsewhere.file("ca.key"))
        #expect(code { _ = try open(second) } == .fileUnreadable)
    }

    @Test func starterThatComesSecondTakesTheFirstOnesKey() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("ca.key")
        let first = try SigningKeyFile.loadOrCreate(path)
        #expect(try SecretFile.create(path, "another key", .secret) == false)
        #expect(try SigningKeyFile.loadOrCreate(path).rawRepresentation == first.rawRepresentation)
    }
}
