import Foundation
import Identity
import Logging
import Mesh
import Testing
import X509

@testable import Ztunnel

@Suite("Certificates in the config dump")
struct CertificateDumpTests {
    /// An authority that signs for one service account, refuses another, and never answers for the rest.
    private struct Authority: CertificateAuthorityClient {
        let embedded: EmbeddedCA

        func sign(csrPEM: String, for identity: SPIFFEIdentity, validity: Duration) async throws -> IssuedChain {
            switch identity.serviceAccount {
            case "good": return try embedded.sign(csrPEM: csrPEM, for: identity, validity: validity, now: Date())
            case "refused": throw IdentityError(.authorityRefused, "not for you")
            default:
                // Ends with the task, and not before.
                let (silence, speaker) = AsyncStream.makeStream(of: IssuedChain.self)
                defer { withExtendedLifetime(speaker) {} }
                for await chain in silence { return chain }
                throw CancellationError()
            }
        }
    }

    private func identity(_ account: String) -> SPIFFEIdentity {
        SPIFFEIdentity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: account)
    }

    @Test("identity, state, chain and roots, each certificate with PEM, serial number and validity")
    func dump() async throws {
        let folder = FileManager.default.temporaryDirectory.path + "/dump-\(UInt32.random(in: 0 ... .max))"
        defer { try? FileManager.default.removeItem(atPath: folder) }  // Left over in /tmp at worst.
        let embedded = try EmbeddedCA(directory: folder, trustDomain: "cluster.local", now: Date())
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        let manager = CertificateManager(client: Authority(embedded: embedded), logger: logger)
        defer { manager.shutDown() }
        let good = try await manager.certificate(for: identity("good"), priority: .realTime)
        await #expect(throws: IdentityError.self) {
            _ = try await manager.certificate(for: identity("refused"), priority: .realTime)
        }
        manager.prefetch(identity("waiting"))

        let json = try ConfigDump(
            MeshState(), certificates: manager.statuses, pods: [:], pending: [:], configuration: ZtunnelConfiguration(),
            version: "1"
        ).json()
        let document = try #require(JSONSerialization.jsonObject(with: Data(json)) as? [String: Any])
        let entries = try #require(document["certificates"] as? [[String: Any]])
        #expect(
            entries.map { $0["identity"] as? String } == [
                "spiffe://cluster.local/ns/shop/sa/good", "spiffe://cluster.local/ns/shop/sa/refused",
                "spiffe://cluster.local/ns/shop/sa/waiting",
            ])
        #expect(entries[0]["state"] as? String == "Available")
        #expect((entries[1]["state"] as? String)?.hasPrefix("Unavailable: ") == true)
        #expect(entries[2]["state"] as? String == "Initializing")
        #expect((entries[1]["certChain"] as? [Any])?.isEmpty == true)

        let chain = try #require(entries[0]["certChain"] as? [[String: String]])
        let roots = try #require(entries[0]["rootCerts"] as? [[String: String]])
        #expect(chain.count == good.chainDER.count && roots.count == 1)
        for (shown, der) in [(chain[0], good.chainDER[0]), (roots[0], embedded.rootDER)] {
            let pem = try #require(shown["pem"].flatMap { Data(base64Encoded: $0) })
            let certificate = try Certificate(pemEncoded: String(decoding: pem, as: UTF8.self))
            #expect(certificate == (try Certificate(derEncoded: der)))
            #expect(shown["validFrom"] == certificate.notValidBefore.ISO8601Format())
            #expect(shown["expirationTime"] == certificate.notValidAfter.ISO8601Format())
            #expect(shown["serialNumber"]?.allSatisfy(\.isNumber) == true)
        }
    }
}
