import FoundationEssentials
import SwiftASN1
// The time is passed in, and this is the library's name for doing so.
@_spi(FixedExpiryValidationTime) import X509

/// Path validation (RFC 5280) of a workload's certificate.
enum ChainVerification {
    static func verify(
        leaf: Certificate, intermediates: [Certificate], roots: [Certificate], at time: Date
    ) async throws(IdentityError) {
        var verifier = Verifier(rootCertificates: CertificateStore(roots)) {
            RFC5280Policy(fixedExpiryValidationTime: time)
            WorkloadCertificatePolicy()
        }
        switch await verifier.validate(leaf: leaf, intermediates: CertificateStore(intermediates)) {
        case .validCertificate:
            return
        case .couldNotValidate(let failures):
            let reasons = failures.prefix(3).map { "\($0.policyFailureReason)" }.joined(separator: "; ")
            throw IdentityError(
                .chainInvalid,
                reasons.isEmpty
                    ? "the certificate chain does not lead to a known root"
                    : "the certificate chain is refused: \(reasons)"
            )
        }
    }
}

/// What the RFC's policy leaves open for a workload: names and usages, critical or not.
///
/// The name itself is compared before, where the expected one is known.
private struct WorkloadCertificatePolicy: VerifierPolicy {
    let verifyingCriticalExtensions: [ASN1ObjectIdentifier] = [
        .X509ExtensionID.subjectAlternativeName, .X509ExtensionID.keyUsage, .X509ExtensionID.extendedKeyUsage,
    ]

    func chainMeetsPolicyRequirements(chain: UnverifiedCertificateChain) -> PolicyEvaluationResult {
        do {
            if case .isCertificateAuthority = try chain.leaf.extensions.basicConstraints {
                return .failsToMeetPolicy(reason: "the workload's certificate is an authority's")
            }
            if let usage = try chain.leaf.extensions.keyUsage, !usage.digitalSignature {
                return .failsToMeetPolicy(reason: "the workload's certificate may not sign handshakes")
            }
            if let usage = try chain.leaf.extensions.extendedKeyUsage,
                !usage.contains(.any), !(usage.contains(.serverAuth) && usage.contains(.clientAuth))
            {
                return .failsToMeetPolicy(reason: "the workload's certificate is not for TLS clients and servers")
            }
            for issuer in chain.dropFirst() {
                if let usage = try issuer.extensions.keyUsage, !usage.keyCertSign {
                    return .failsToMeetPolicy(reason: "an issuer in the chain may not sign certificates")
                }
            }
            return .meetsPolicy
        } catch {
            return .failsToMeetPolicy(reason: "an extension in the chain is malformed: \(error)")
        }
    }
}
