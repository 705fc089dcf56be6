public import Mesh

/// How urgently a certificate is wanted. A waiting request can be raised, never lowered.
public enum CertificatePriority: Int, Sendable, Hashable, Comparable, CaseIterable {
    /// Renewal of a certificate that is still valid.
    case background
    /// A workload that has come to this node and has not spoken yet.
    case warmup
    /// A connection waits for it.
    case realTime

    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// Where the data path gets its certificates from.
///
/// All but ``certificate(for:priority:)`` return at once and may be called from any thread.
public protocol WorkloadCertificateSource: Sendable {
    /// The certificate at hand, if there is one that has not expired.
    func cached(_ identity: SPIFFEIdentity) -> WorkloadCertificate?

    /// The certificate at hand, or a new one; waits for it no longer than the source's own limit.
    ///
    /// - Throws: ``IdentityError``; `CancellationError` when the waiting task was cancelled.
    func certificate(for identity: SPIFFEIdentity, priority: CertificatePriority) async throws -> WorkloadCertificate

    /// Fetches a certificate ahead of need and keeps it fresh from then on.
    func prefetch(_ identity: SPIFFEIdentity)

    /// Drops certificate and key; who still waits for it gets an error.
    func forget(_ identity: SPIFFEIdentity)

    /// Calls `handler` with every certificate that replaces or joins those at hand, until the source ends.
    ///
    /// The handler runs on an arbitrary thread and must return fast; after it was called, ``cached(_:)`` answers with
    /// this certificate or a newer one.
    func onRenewal(_ handler: @escaping @Sendable (WorkloadCertificate) -> Void)
}
