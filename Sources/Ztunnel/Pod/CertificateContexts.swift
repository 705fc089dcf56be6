import Identity
import Logging
import Mesh
import Synchronization
import TLSEngine

/// TLS contexts by identity, made once per certificate and used by every tunnel of that identity until it is renewed.
final class CertificateContexts: Sendable {
    struct Pair: Sendable {
        let client: TLSContext
        let server: TLSContext
        let serialNumber: String
    }

    private let source: any WorkloadCertificateSource
    private let pairs = Mutex<[SPIFFEIdentity: Pair]>([:])

    init(_ source: any WorkloadCertificateSource, logger: Logger) {
        self.source = source
        source.onRenewal { [weak self] certificate in
            do {
                _ = try self?.install(certificate)
            } catch {
                // The one before stays in use while it is valid; asking for a pair tells the error again.
                logger.error(
                    "a new certificate cannot be used",
                    metadata: ["identity": "\(certificate.identity)", "error": "\(error)"])
            }
        }
    }

    /// At once, if the certificate is at hand and has not expired.
    func ready(_ identity: SPIFFEIdentity) -> Pair? {
        guard let certificate = source.cached(identity) else { return nil }
        if let pair = pairs.withLock({ $0[identity] }), pair.serialNumber == certificate.serialNumber { return pair }
        // What is wrong with it comes out of `pair(for:)`, which callers turn to next.
        return try? install(certificate)
    }

    /// Waits for the certificate authority if need be, no longer than the source's own limit.
    func pair(for identity: SPIFFEIdentity) async throws -> Pair {
        if let pair = ready(identity) { return pair }
        return try install(await source.certificate(for: identity, priority: .realTime))
    }

    func prefetch(_ identity: SPIFFEIdentity) { source.prefetch(identity) }

    /// Drops key and contexts of an identity that has no pod here any more.
    func forget(_ identity: SPIFFEIdentity) {
        pairs.withLock { $0[identity] = nil }
        source.forget(identity)
    }

    private func install(_ certificate: WorkloadCertificate) throws(TLSError) -> Pair {
        let material = TLSMaterial(
            certificateChain: certificate.chainDER, privateKey: certificate.privateKeyDER, roots: certificate.rootsDER,
            trustDomain: certificate.identity.trustDomain)
        let pair = Pair(
            client: try .client(material), server: try .server(material), serialNumber: certificate.serialNumber)
        pairs.withLock { $0[certificate.identity] = pair }
        return pair
    }
}
