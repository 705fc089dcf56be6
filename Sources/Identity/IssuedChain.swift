public import Crypto
public import FoundationEssentials
public import Mesh
import SwiftASN1
import X509

/// An authority's answer: certificates of one leaf and the roots that go with them.
public struct IssuedChain: Sendable, Equatable {
    static let maximumAnswerSize = 1 << 20
    static let maximumChainLength = 16
    static let maximumRoots = 256

    /// Leaf first, then intermediates.
    public let chainDER: [[UInt8]]
    public let rootsDER: [[UInt8]]

    /// - Precondition: `chainDER` is not empty.
    init(chainDER: [[UInt8]], rootsDER: [[UInt8]]) {
        self.chainDER = chainDER
        self.rootsDER = rootsDER
    }

    /// Reads `cert_chain` of Istio's CA service: PEM texts, the leaf first, the root bundle as the last one.
    ///
    /// - Throws: ``IdentityError`` with `responseTooLarge`, `responseMalformed`, or `rootMissing` for an answer of
    ///   fewer than two elements.
    public init(elements: [String]) throws(IdentityError) {
        let size = elements.reduce(0) { $0 + $1.utf8.count }
        guard size <= Self.maximumAnswerSize, elements.count <= Self.maximumChainLength + 1 else {
            throw IdentityError(.responseTooLarge, "the authority's answer is too large: \(size) bytes")
        }
        guard let bundle = elements.last, elements.count >= 2 else {
            throw IdentityError(
                .rootMissing, "the authority's answer has \(elements.count) elements and so no root certificate")
        }
        var chain: [[UInt8]] = []
        for element in elements.dropLast() {
            chain += try PEM.certificates(
                in: element, maximumSize: Self.maximumAnswerSize, maximumCount: Self.maximumChainLength,
                code: .responseMalformed, what: "the authority's answer")
        }
        guard chain.count <= Self.maximumChainLength else {
            throw IdentityError(.responseTooLarge, "the authority's chain has \(chain.count) certificates")
        }
        chainDER = chain
        rootsDER = try PEM.certificates(
            in: bundle, maximumSize: Self.maximumAnswerSize, maximumCount: Self.maximumRoots, code: .responseMalformed,
            what: "the authority's root bundle")
    }

    /// The form that Istio's CA service answers with: every certificate an element, the root bundle the last one.
    public var elements: [String] {
        chainDER.map { PEM.block("CERTIFICATE", $0) } + [rootsDER.map { PEM.block("CERTIFICATE", $0) }.joined()]
    }
}

extension IssuedChain {
    /// Holds the answer against the request and makes the certificate of it.
    ///
    /// Checked are: the leaf's only URI is the identity, its key is `key`, it is no authority, it may be used by TLS
    /// clients and servers, the chain leads to one of the roots, and all of it is valid at `time`.
    ///
    /// - Throws: ``IdentityError`` with `responseMalformed`, `identityMismatch`, `keyMismatch`, `certificateExpired`
    ///   or `chainInvalid`.
    public func certificate(
        for identity: SPIFFEIdentity, key: P256.Signing.PrivateKey, at time: Date
    ) async throws(IdentityError) -> WorkloadCertificate {
        guard let first = chainDER.first else { throw IdentityError(.responseMalformed, "the chain is empty") }
        let leaf: Certificate
        let intermediates: [Certificate]
        let roots: [Certificate]
        let names: SubjectAlternativeNames?
        do {
            leaf = try Certificate(derEncoded: first)
            intermediates = try chainDER.dropFirst().map { try Certificate(derEncoded: $0) }
            roots = try rootsDER.map { try Certificate(derEncoded: $0) }
            names = try leaf.extensions.subjectAlternativeNames
        } catch {
            throw IdentityError(.responseMalformed, "a certificate for \(identity) does not parse", cause: error)
        }
        let uris = (names ?? SubjectAlternativeNames()).compactMap { name -> String? in
            if case .uniformResourceIdentifier(let uri) = name { uri } else { nil }
        }
        guard uris == [identity.description] else {
            let found = uris.isEmpty ? "no URI" : uris.prefix(4).joined(separator: ", ")
            throw IdentityError(.identityMismatch, "the certificate for \(identity) names \(found)")
        }
        guard leaf.publicKey == Certificate.PublicKey(key.publicKey) else {
            throw IdentityError(.keyMismatch, "the certificate for \(identity) is for another key")
        }
        guard time < leaf.notValidAfter else {
            throw IdentityError(
                .certificateExpired, "the certificate for \(identity) expired at \(leaf.notValidAfter)")
        }
        guard leaf.notValidBefore <= time else {
            throw IdentityError(
                .certificateExpired, "the certificate for \(identity) is valid only from \(leaf.notValidBefore)",
                hint: "compare this machine's clock with the authority's")
        }
        try await ChainVerification.verify(leaf: leaf, intermediates: intermediates, roots: roots, at: time)
        return WorkloadCertificate(
            identity: identity, chainDER: chainDER, privateKeyDER: Array(key.derRepresentation), rootsDER: rootsDER,
            notBefore: leaf.notValidBefore, notAfter: leaf.notValidAfter,
            serialNumber: leaf.serialNumber.hexadecimal)
    }
}

extension Certificate.SerialNumber {
    /// Two upper-case digits a byte, nothing between them.
    var hexadecimal: String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16, uppercase: true) }.joined()
    }
}
