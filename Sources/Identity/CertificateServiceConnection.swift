import GRPCCore
import GRPCNIOTransportHTTP2

/// The connection that requests to the certificate service share.
actor CertificateServiceConnection {
    typealias Client = GRPCClient<HTTP2ClientTransport.Posix>

    private struct Current {
        let client: Client
        /// What the root file said when this connection was set up.
        let roots: [[UInt8]]?
    }

    private let settings: CertificateServiceSettings
    private let address: ServerAddress
    private var current: Current?

    init(_ settings: CertificateServiceSettings, address: ServerAddress) {
        self.settings = settings
        self.address = address
    }

    deinit { current?.client.beginGracefulShutdown() }

    /// The connection in use, or a new one where there is none or the root file has changed.
    func client() throws(IdentityError) -> Client {
        let roots: [[UInt8]]? =
            switch settings.roots {
            case .system: nil
            case .pem(let text): try certificates(text, "the roots' text")
            case .file(let path): try certificates(SecretFile.readMounted(path), path)
            }
        if let current, current.roots == roots { return current.client }
        close()
        let client = Client(transport: try transport(roots))
        current = Current(client: client, roots: roots)
        Task { [weak self] in
            do {
                try await client.runConnections()
            } catch {
                // Requests on this connection report the failure; without one there is nobody to tell.
                await self?.discard(client)
            }
        }
        return client
    }

    /// Forgets a connection that has failed, unless that has happened already.
    func discard(_ client: Client) {
        guard let current, current.client === client else { return }
        close()
    }

    func close() {
        current?.client.beginGracefulShutdown()
        current = nil
    }

    private func certificates(_ text: String, _ name: String) throws(IdentityError) -> [[UInt8]] {
        try PEM.certificates(
            in: text, maximumSize: IssuedChain.maximumAnswerSize, maximumCount: IssuedChain.maximumRoots,
            code: .fileMalformed, what: name)
    }

    /// - Parameter roots: DER; the operating system's when `nil`.
    private func transport(_ roots: [[UInt8]]?) throws(IdentityError) -> HTTP2ClientTransport.Posix {
        let security = HTTP2ClientTransport.Posix.TransportSecurity.tls { tls in
            tls.trustRoots =
                roots.map { .certificates($0.map { .bytes($0, format: .der) }) } ?? .systemDefault
        }
        let config = HTTP2ClientTransport.Posix.Config.defaults { config in
            config.http2.authority = settings.serverName
            // Certificates are fetched in bursts, hours apart.
            config.connection.maxIdleTime = .seconds(60)
            config.backoff.max = .seconds(5)
        }
        do {
            switch address.host {
            case .address(let ip) where ip.isV4:
                return try .init(
                    target: .ipv4(address: ip.description, port: address.port), transportSecurity: security,
                    config: config)
            case .address(let ip):
                return try .init(
                    target: .ipv6(address: ip.description, port: address.port), transportSecurity: security,
                    config: config)
            case .name(let name):
                return try .init(
                    target: .dns(host: name, port: address.port), transportSecurity: security, config: config)
            }
        } catch {
            throw .wrapping(
                error, .configuration,
                "a connection to \(settings.address) cannot be set up; check its root certificates")
        }
    }
}
