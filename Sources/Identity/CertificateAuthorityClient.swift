public import Mesh

/// Whoever turns signing requests into certificates.
public protocol CertificateAuthorityClient: Sendable {
    /// Has a certificate issued for `identity` and the key of the request.
    ///
    /// - Parameters:
    ///   - csrPEM: The signing request (RFC 2986), PEM.
    ///   - identity: Whom the certificate is for; the authority decides whether the caller may ask for it.
    ///   - validity: The lifetime wished for; the authority may give less.
    /// - Returns: The answer, parsed and within bounds, but not yet held against the request: that is
    ///   ``IssuedChain/certificate(for:key:at:)``.
    /// - Throws: ``IdentityError``, after no more than the client's own deadline.
    func sign(csrPEM: String, for identity: SPIFFEIdentity, validity: Duration) async throws -> IssuedChain
}
