import Foundation
import GRPCCore
import Identity
import IstioAPI
import Logging
import Mesh

/// Istio's certificate service, for node proxies that ask on behalf of the pods on their node, and for pods that ask for
/// themselves.
///
/// The name in a certificate comes from the token or from the identity the proxy asks for, never from the request's
/// own wishes; a proxy gets identities only of pods that run on its node. What is wrong stays in the log.
struct CertificateService: Istio_V1_Auth_IstioCertificateService.StreamingServiceProtocol {
    static let name = "certificates"

    let authority: EmbeddedCA
    let check: CallerCheck
    let pods: PodDirectory
    let metrics: ControllerMetrics

    /// Authenticates by the metadata first: nothing is read from whoever is refused.
    func createCertificate(
        request: StreamingServerRequest<Istio_V1_Auth_IstioCertificateRequest>, context: ServerContext
    ) async throws -> StreamingServerResponse<Istio_V1_Auth_IstioCertificateResponse> {
        let caller = try await check.caller(request.metadata, of: Self.name)
        var messages = request.messages.makeAsyncIterator()
        guard let message = try await messages.next() else {
            throw check.refuse(Self.name, "requestMissing", "the call carries no request", node: caller.node)
        }
        let response = try await sign(message, for: caller)
        return StreamingServerResponse(single: ServerResponse(message: response))
    }

    private func sign(
        _ request: Istio_V1_Auth_IstioCertificateRequest, for caller: Caller
    ) async throws(RPCError) -> Istio_V1_Auth_IstioCertificateResponse {
        let identity = try await identity(request, caller)
        do {
            // Beyond what a Duration can hold it is too long in any case.
            let seconds = min(max(request.validityDuration, 0), 1 << 40)
            let chain = try authority.sign(
                csrPEM: request.csr, for: identity, validity: .seconds(seconds), now: check.now())
            metrics.certificates.single.increment()
            check.logger.info(
                "certificate issued", metadata: ["identity": "\(identity)", "node": "\(caller.node)"])
            var response = Istio_V1_Auth_IstioCertificateResponse()
            response.certChain = chain.elements
            return response
        } catch {
            throw check.refuse(Self.name, error.code.rawValue, "\(identity): \(error)", node: caller.node)
        }
    }

    /// Whom the certificate is for.
    private func identity(
        _ request: Istio_V1_Auth_IstioCertificateRequest, _ caller: Caller
    ) async throws(RPCError) -> SPIFFEIdentity {
        guard let field = request.metadata.fields["ImpersonatedIdentity"] else {
            guard await pods.isThere(caller) else {
                throw check.refuse(
                    Self.name, "podUnknown", "\(caller): there is no such pod of that account", node: caller.node)
            }
            return SPIFFEIdentity(
                trustDomain: authority.trustDomain, namespace: caller.namespace,
                serviceAccount: caller.serviceAccount)
        }
        guard case .stringValue(let text)? = field.kind, let identity = SPIFFEIdentity(text) else {
            throw check.refuse(
                Self.name, "identityMalformed", "the impersonated identity is none", node: caller.node)
        }
        guard let node = await pods.node(of: caller) else {
            throw check.refuse(
                Self.name, "notANode", "\(caller) asked for \(identity) and speaks for no node", node: caller.node)
        }
        guard await pods.hasPod(of: identity, onNode: node) else {
            throw check.refuse(Self.name, "identityNotOnNode", "no pod of \(identity) runs on the node", node: node)
        }
        return identity
    }
}
