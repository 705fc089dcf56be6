import NIOSSL

/// What a request needs to be let in, as of now: files are looked at for every request, plugins asked when what they
/// gave has run out.
actor Access {
    struct Pass: Sendable {
        var tls: TLSConfiguration?
        var token: String?
    }

    private let configuration: ClusterConfiguration
    private var authority: WatchedFile?
    private var token: WatchedFile?
    private var chain: WatchedFile?
    private var key: WatchedFile?
    private var plugin: PluginCredential?
    private var tls: TLSConfiguration?

    init(_ configuration: ClusterConfiguration) {
        self.configuration = configuration
        if case .authority(.file(let path)) = configuration.trust { authority = WatchedFile(path) }
        if case .tokenFile(let path) = configuration.credentials { token = WatchedFile(path) }
        if case .certificate(let chain, let key) = configuration.credentials {
            if case .file(let path) = chain { self.chain = WatchedFile(path) }
            if case .file(let path) = key { self.key = WatchedFile(path) }
        }
    }

    func pass() async throws(KubernetesError) -> Pass {
        var pass = Pass()
        switch configuration.credentials {
        case .none, .certificate: break
        case .token(let text): pass.token = text
        case .tokenFile(let path):
            let text = String(decoding: try token?.current().bytes ?? [], as: UTF8.self).trimmed
            guard !text.isEmpty else { throw KubernetesError(.credentials, "\(path) is empty") }
            pass.token = text
        case .plugin(let executable):
            let credential = try await credential(of: executable)
            pass.token = credential.token
        }
        if configuration.server.hasPrefix("https") { pass.tls = try await currentTLS() }
        return pass
    }

    /// The server did not accept what it was given: it is fetched again, should it have changed.
    func wasRefused() {
        plugin = nil
        token?.forgetStamp()
    }

    private func credential(of executable: ExecPlugin) async throws(KubernetesError) -> PluginCredential {
        if let plugin, plugin.isGood { return plugin }
        let fresh = try await executable.run()
        if fresh.certificate != plugin?.certificate { tls = nil }
        plugin = fresh
        return fresh
    }

    // MARK: TLS

    private func currentTLS() async throws(KubernetesError) -> TLSConfiguration {
        var isNew = false
        func bytes(_ material: ClusterConfiguration.Material, _ file: inout WatchedFile?) throws(KubernetesError)
            -> [UInt8]
        {
            if case .bytes(let bytes) = material { return bytes }
            let current = try file?.current() ?? (bytes: [], isNew: false)
            isNew = isNew || current.isNew
            return current.bytes
        }
        var roots: [UInt8]?
        if case .authority(let material) = configuration.trust { roots = try bytes(material, &authority) }
        var identity: (chain: [UInt8], key: [UInt8])?
        if case .certificate(let chain, let key) = configuration.credentials {
            identity = (try bytes(chain, &self.chain), try bytes(key, &self.key))
        } else if let certificate = plugin?.certificate {
            identity = (Array(certificate.chain.utf8), Array(certificate.key.utf8))
        }
        if let tls, !isNew { return tls }
        do {
            let made = try makeTLS(roots, identity)
            tls = made
            return made
        } catch {
            // One of two files was replaced and the other not yet: what there was goes on.
            if let tls { return tls }
            throw error
        }
    }

    private func makeTLS(
        _ roots: [UInt8]?, _ identity: (chain: [UInt8], key: [UInt8])?
    ) throws(KubernetesError) -> TLSConfiguration {
        var result = TLSConfiguration.makeClientConfiguration()
        result.minimumTLSVersion = .tlsv12
        do {
            if let roots { result.trustRoots = .certificates(try NIOSSLCertificate.fromPEMBytes(roots)) }
            if configuration.trust == .nobodyIsChecked { result.certificateVerification = .none }
            if let identity {
                result.certificateChain = try NIOSSLCertificate.fromPEMBytes(identity.chain).map { .certificate($0) }
                result.privateKey = .privateKey(try NIOSSLPrivateKey(bytes: identity.key, format: .pem))
            }
        } catch {
            throw KubernetesError(
                .credentials, "certificates or key for the API server cannot be read", cause: "\(error)",
                hint: "PEM is expected, of the authority, the client's certificates and its key")
        }
        return result
    }
}
