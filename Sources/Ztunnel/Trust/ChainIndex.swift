import HBONE
import TLSEngine

/// A tunnel that ends when a certificate of its peer's chain is revoked.
protocol RevocableTunnel: AnyObject {
    /// Tells its connections, and closes abruptly.
    func revoke()
}

/// The open tunnels of one worker by the certificates of their peers' chains, so that a revocation touches those that
/// it concerns and no others. Empty, and without work, where nothing is ever revoked.
final class ChainIndex {
    private struct Holder {
        weak var tunnel: (any RevocableTunnel)?
    }

    private let store: RevocationStore?
    private let metrics: RevocationMetrics?
    private var holders: [CertificateKey: [ObjectIdentifier: Holder]] = [:]

    init(_ monitor: RevocationMonitor?, _ metrics: RevocationMetrics?) {
        store = monitor?.store
        self.metrics = metrics
    }

    /// A tunnel has been established.
    /// - Returns: The chain it is found by, for ``remove(_:_:)``; `nil` when the chain was revoked between handshake
    ///   and now: the tunnel must not be used.
    func insert(_ tunnel: any RevocableTunnel, _ connection: HBONEConnection) -> [CertificateKey]? {
        guard let store else { return [] }
        let chain = connection.peerChain
        guard !chain.isEmpty else {
            metrics?.untracked(connection.role == .server ? .server : .client)
            return []
        }
        for key in chain { holders[key, default: [:]][ObjectIdentifier(tunnel)] = Holder(tunnel: tunnel) }
        // In the index first: lists that come after this look find it there.
        guard connection.revocationGeneration == store.generation || !store.isRevoked(chain) else {
            remove(tunnel, chain)
            return nil
        }
        return chain
    }

    func remove(_ tunnel: any RevocableTunnel, _ chain: [CertificateKey]) {
        for key in chain {
            holders[key]?[ObjectIdentifier(tunnel)] = nil
            if holders[key]?.isEmpty == true { holders[key] = nil }
        }
    }

    func revoked(_ keys: Set<CertificateKey>) {
        let concerned =
            keys.count < holders.count ? keys.filter { holders[$0] != nil } : keys.intersection(holders.keys)
        for key in concerned {
            for holder in holders.removeValue(forKey: key).map({ Array($0.values) }) ?? [] { holder.tunnel?.revoke() }
        }
    }
}
