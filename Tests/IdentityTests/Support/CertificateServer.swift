import Addressing
import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2
import Identity
import IstioAPI
import Mesh
import Synchronization

/// A certificate service in this process, over real TLS on a port of the loopback.
final class CertificateServer: Sendable {
    enum Behaviour: Sendable {
        case signs
        case refuses(RPCError.Code)
        /// Never answers, until its call is cancelled.
        case hangs
        case answers([String])
    }

    struct Seen: Sendable {
        var authorization: [String] = []
        var cluster: [String] = []
        var impersonated: String?
        var validity: Int64 = 0
    }

    let authority: EmbeddedCA
    let port: Int
    private let service: Service
    private let server: GRPCServer<HTTP2ServerTransport.Posix>
    private let running: Task<Void, any Error>

    var seen: [Seen] { service.state.withLock { $0.seen } }

    func behave(_ behaviour: Behaviour) { service.state.withLock { $0.behaviour = behaviour } }

    /// - Parameters:
    ///   - directory: Where the authority keeps its files; the root is `root-cert.pem` in it.
    ///   - port: 0 means any.
    init(
        directory: String, names: [String] = ["istiod.istio-system.svc"],
        addresses: [IPAddress] = [IPAddress(127, 0, 0, 1)], port: Int = 0
    ) async throws {
        authority = try EmbeddedCA(directory: directory, trustDomain: "cluster.local", now: Date())
        let certificate = try authority.serverCertificate(names: names, addresses: addresses, now: Date())
        service = Service(authority: authority)
        let transport = HTTP2ServerTransport.Posix(
            address: .ipv4(host: "127.0.0.1", port: port),
            transportSecurity: .tls(
                certificateChain: [.bytes(Array(certificate.chainPEM.utf8), format: .pem)],
                privateKey: .bytes(Array(certificate.privateKeyPEM.utf8), format: .pem)))
        let server = GRPCServer(transport: transport, services: [service])
        running = Task { try await server.serve() }
        self.server = server
        self.port = try await transport.listeningAddress.ipv4?.port ?? 0
    }

    /// Ends the server; calls that hang are cancelled.
    func stop() async {
        running.cancel()
        _ = await running.result
    }

    private struct Service: Istio_V1_Auth_IstioCertificateService.ServiceProtocol {
        struct State {
            var behaviour = Behaviour.signs
            var seen: [Seen] = []
        }

        final class Box: Sendable {
            private let mutex = Mutex(State())
            func withLock<Result: Sendable>(_ body: (inout State) -> Result) -> Result {
                mutex.withLock { body(&$0) }
            }
        }

        let authority: EmbeddedCA
        let state = Box()

        func createCertificate(
            request: ServerRequest<Istio_V1_Auth_IstioCertificateRequest>, context: ServerContext
        ) async throws -> ServerResponse<Istio_V1_Auth_IstioCertificateResponse> {
            let message = request.message
            let impersonated = message.metadata.fields["ImpersonatedIdentity"]?.stringValue
            let seen = Seen(
                authorization: Array(request.metadata[stringValues: "authorization"]),
                cluster: Array(request.metadata[stringValues: "clusterid"]), impersonated: impersonated,
                validity: message.validityDuration)
            let behaviour = state.withLock { state in
                state.seen.append(seen)
                return state.behaviour
            }
            var response = Istio_V1_Auth_IstioCertificateResponse()
            switch behaviour {
            case .signs:
                guard let impersonated, let identity = SPIFFEIdentity(impersonated) else {
                    throw RPCError(code: .invalidArgument, message: "no identity")
                }
                response.certChain = try authority.sign(
                    csrPEM: message.csr, for: identity, validity: .seconds(message.validityDuration), now: Date()
                ).elements
            case .refuses(let code):
                throw RPCError(code: code, message: "refused for a test")
            case .hangs:
                let (stream, end) = AsyncStream.makeStream(of: Void.self)
                for await _ in stream {}
                end.finish()
            case .answers(let chain):
                response.certChain = chain
            }
            return ServerResponse(message: response)
        }
    }
}
