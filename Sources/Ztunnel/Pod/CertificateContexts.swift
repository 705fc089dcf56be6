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

    /// What the operator says of trust, beside the certificates.
    struct Trust: Sendable {
        var domains = TrustDomains(TrustDomains.pointer)
        var bundles: [TrustBundle] = []
        var revocation: RevocationStore?
        var requiresPostQuantum = false
    }

    private let source: any WorkloadCertificateSource
    private let trust: Trust
    private let pairs = Mutex<[SPIFFEIdentity: Pair]>([:])

    init(_ source: any WorkloadCertificateSource, trust: Trust = Trust(), logger: Logger) {
        self.source = source
        self.trust = trust
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
        let material = trust.material(of: certificate)
        let pair = Pair(
            client: try .client(material), server: try .server(material), serialNumber: certificate.serialNumber)
        pairs.withLock { $0[certificate.identity] = pair }
        return pair
    }
}

extension CertificateContexts.Trust {
    /// The roots that came with the certificate vouch for every trust domain but those that have a bundle; a bundle of
    /// our own adds to them.
    func material(of certificate: WorkloadCertificate) -> TLSMaterial {
        let own = domains.companions(of: certificate.identity.trustDomain)
        let common = certificate.rootsDER + bundles.filter(\.trustDomains.isEmpty).flatMap(\.rootsDER)
        var special: [String: [[UInt8]]] = [:]
        for bundle in bundles {
            for domain in bundle.trustDomains {
                special[domain, default: own.local == domain ? common : []] += bundle.rootsDER
            }
        }
        return TLSMaterial(
            certificateChain: certificate.chainDER, privateKey: certificate.privateKeyDER, roots: common,
            trustDomain: own.local, trustDomainAliases: Array(own.names.dropFirst()), rootsByTrustDomain: special,
            revocation: revocation, requiresPostQuantum: requiresPostQuantum)
    }
}
