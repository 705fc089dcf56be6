import Addressing
import Discovery
import Identity

extension ZtunnelConfiguration {
    /// Whether there is a discovery server; without one `LOCAL_XDS` is all that is known.
    public var hasDiscovery: Bool { !xdsAddress.isEmpty }

    /// Where the mesh is learnt from, if ``hasDiscovery``.
    public var discovery: DiscoverySettings {
        var node = DiscoveryNode(
            nodeName: nodeName, podName: podName, podNamespace: podNamespace, instanceAddress: instanceAddress,
            metadata: metadata)
        node.jsonMetadata = jsonMetadata
        let roots: DiscoverySettings.Roots =
            switch ServerRoots(xdsRoots) {
            case .file(let path): .file(path)
            case .pem(let text): .pem(text)
            case .system: .system
            }
        let token: DiscoverySettings.Token =
            switch ClientToken(token) {
            case .file(let path): .file(path)
            case .text(let text): .text(text)
            case .none: .none
            }
        var settings = DiscoverySettings(
            address: xdsAddress, serverName: xdsServerName, roots: roots, token: token, clusterID: clusterID, node: node
        )
        settings.isOnDemand = xdsOnDemand
        settings.headers = xdsHeaders.sorted { $0.key < $1.key }.map { (name: $0.key, value: $0.value) }
        return settings
    }

    /// Where certificates come from.
    public var certificateService: CertificateServiceSettings {
        var settings = CertificateServiceSettings(
            address: caAddress, roots: ServerRoots(caRoots), token: ClientToken(token), serverName: caServerName,
            clusterID: clusterID)
        settings.impersonates = !isDedicated
        settings.headers = caHeaders.sorted { $0.key < $1.key }.map { (name: $0.key, value: $0.value) }
        return settings
    }
}

extension ServerRoots {
    /// As `XDS_ROOT_CA` and `CA_ROOT_CA` are written.
    init(_ text: String) {
        self = text == "SYSTEM" ? .system : text.contains("-----BEGIN") ? .pem(text) : .file(text)
    }
}

extension ClientToken {
    /// As `AUTH_TOKEN` is written: a path has a slash, a token has none.
    init(_ text: String) {
        self = text.isEmpty ? .none : text.contains("/") ? .file(text) : .text(text)
    }
}
