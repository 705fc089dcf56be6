import GRPCCore
import GRPCNIOTransportHTTP2
import IstioAPI
public import Mesh
import SwiftProtobuf

/// Has certificates issued by Istio's certificate service, as istiod and our controller offer it.
///
/// Requests share a connection, which closes when it has been idle. It is made anew after it has failed, and when the
/// root file has changed: no request goes to a server that the present bundle would not accept.
public final class IstioCertificateClient: CertificateAuthorityClient {
    private let settings: CertificateServiceSettings
    private let connection: CertificateServiceConnection

    /// - Throws: ``IdentityError`` with `configuration` for an address that is none.
    public init(_ settings: CertificateServiceSettings) throws(IdentityError) {
        self.settings = settings
        connection = CertificateServiceConnection(settings, address: try ServerAddress(settings.address))
    }

    /// - Throws: ``IdentityError``: `fileUnreadable` and `fileMalformed` for root and token files, `tokenMissing` for
    ///   an empty one, `authorityUnreachable`, `authorityRefused`, `timedOut`, and what
    ///   ``IssuedChain/init(elements:)`` throws.
    public func sign(
        csrPEM: String, for identity: SPIFFEIdentity, validity: Duration
    ) async throws -> IssuedChain {
        var metadata: Metadata = ["clusterid": "\(settings.clusterID)"]
        for header in settings.headers { metadata.addString(header.value, forKey: header.name) }
        if let token = try token() { metadata.addString("Bearer \(token)", forKey: "authorization") }
        var request = Istio_V1_Auth_IstioCertificateRequest()
        request.csr = csrPEM
        request.validityDuration = validity.components.seconds
        if settings.impersonates {
            request.metadata.fields = [
                "ImpersonatedIdentity": Google_Protobuf_Value(stringValue: identity.description)
            ]
        }
        var options = CallOptions.defaults
        options.timeout = settings.deadline
        options.maxResponseMessageBytes = IssuedChain.maximumAnswerSize + 4096
        // The transport holds what comes in against the limit of requests.
        options.maxRequestMessageBytes = options.maxResponseMessageBytes

        let client = try await connection.client()
        let response: Istio_V1_Auth_IstioCertificateResponse
        do {
            response = try await Istio_V1_Auth_IstioCertificateService.Client(wrapping: client)
                .createCertificate(request, metadata: metadata, options: options)
        } catch is CancellationError {
            throw CancellationError()
        } catch let error as RPCError {
            if Self.failureCode(error) != .authorityRefused { await connection.discard(client) }
            throw failure(error, identity)
        } catch {
            await connection.discard(client)
            throw IdentityError.wrapping(
                error, .authorityUnreachable, "the certificate service at \(settings.address) cannot be reached")
        }
        return try IssuedChain(elements: response.certChain)
    }

    /// Connects ahead of the first request, which then finds the connection made. That it fails is for the first request
    /// to tell.
    public func prepare() async { _ = try? await connection.client() }

    /// Closes the connection. Requests under way may end, later ones connect again.
    public func close() async { await connection.close() }

    private func token() throws(IdentityError) -> String? {
        let text: String
        let name: String
        switch settings.token {
        case .none: return nil
        case .text(let token): (text, name) = (token, "the token that was set")
        case .file(let path): (text, name) = (try SecretFile.readMounted(path), "the token file \(path)")
        }
        // A header must not contain the line feed that such files end with.
        let token = text.utf8.split(whereSeparator: { $0 <= 0x20 }).map { String(Substring($0)) }
        guard let first = token.first else {
            throw IdentityError(.tokenMissing, "\(name) is empty")
        }
        guard token.count == 1, first.utf8.allSatisfy({ $0 < 0x7f }) else {
            throw IdentityError(.fileMalformed, "\(name) is no token")
        }
        return first
    }

    private static func failureCode(_ error: RPCError) -> IdentityError.Code {
        switch error.code {
        case .unauthenticated, .permissionDenied, .invalidArgument, .failedPrecondition, .notFound, .outOfRange:
            .authorityRefused
        case .deadlineExceeded: .timedOut
        default: .authorityUnreachable
        }
    }

    private func failure(_ error: RPCError, _ identity: SPIFFEIdentity) -> IdentityError {
        let code = Self.failureCode(error)
        return switch code {
        case .authorityRefused:
            IdentityError(
                code, "the certificate service at \(settings.address) refused a certificate for \(identity)",
                cause: error, hint: "its log says why")
        case .timedOut:
            IdentityError(
                code,
                "the certificate service at \(settings.address) did not answer within \(settings.deadline)",
                cause: error)
        default:
            IdentityError(
                code, "the certificate service at \(settings.address) cannot be reached", cause: error,
                hint: "check the address, and the root certificates against the server's certificate")
        }
    }
}
