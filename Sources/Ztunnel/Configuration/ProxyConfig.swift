import Foundation
import Identity
import Mesh
import Yams

/// Istio's ProxyConfig, as far as a ztunnel goes by it: the text of `PROXY_CONFIG`, or the mesh file's `defaultConfig`.
struct ProxyConfig: Decodable, Equatable {
    var discoveryAddress: String?
    var proxyAdminPort: UInt16?
    var statsPort: UInt16?
    var concurrency: Int?
    var proxyMetadata: [String: String]?

    init() {}

    /// - Parameter text: YAML, or JSON, which is YAML too; nothing where there is none.
    init(_ text: String?, named name: String) throws(ConfigurationError) {
        self = try YAMLText.decode(Self.self, text, named: name) ?? ProxyConfig()
    }

    /// With what the other says put over it; metadata key by key.
    func overridden(by other: ProxyConfig) -> ProxyConfig {
        var result = self
        result.discoveryAddress = other.discoveryAddress ?? discoveryAddress
        result.proxyAdminPort = other.proxyAdminPort ?? proxyAdminPort
        result.statsPort = other.statsPort ?? statsPort
        result.concurrency = other.concurrency ?? concurrency
        result.proxyMetadata = (proxyMetadata ?? [:]).merging(other.proxyMetadata ?? [:]) { _, new in new }
        return result
    }
}

/// Istio's MeshConfig, as far as a ztunnel goes by it.
struct MeshFile: Equatable {
    struct CertificateData: Decodable, Equatable {
        var pem: String?
        var spiffeBundleUrl: String?
        var trustDomains: [String]?
    }

    private struct Document: Decodable {
        var defaultConfig: ProxyConfig?
        var trustDomain: String?
        var trustDomainAliases: [String]?
        var caCertificates: [CertificateData]?
    }

    var defaultConfig = ProxyConfig()
    var trustDomain: String?
    var trustDomainAliases: [String] = []
    var caCertificates: [CertificateData] = []

    init(_ text: String?) throws(ConfigurationError) {
        let name = "the mesh file \(ConfigurationSources.meshFilePath)"
        guard let document = try YAMLText.decode(Document.self, text, named: name) else { return }
        defaultConfig = document.defaultConfig ?? ProxyConfig()
        trustDomain = document.trustDomain
        trustDomainAliases = document.trustDomainAliases ?? []
        caCertificates = document.caCertificates ?? []
    }
}

private enum YAMLText {
    /// Nothing for a text that says nothing.
    static func decode<Value: Decodable>(
        _ type: Value.Type, _ text: String?, named name: String
    ) throws(ConfigurationError) -> Value? {
        guard let text, text.contains(where: { !$0.isWhitespace }) else { return nil }
        do {
            // Comments alone make no document.
            guard try Yams.compose(yaml: text) != nil else { return nil }
            return try YAMLDecoder().decode(Optional<Value>.self, from: text)
        } catch {
            throw ConfigurationError(
                variable: name == "PROXY_CONFIG" ? name : nil, "\(name) cannot be read: \(explain(error))")
        }
    }

    private static func explain(_ error: any Error) -> String {
        func path(_ context: DecodingError.Context) -> String {
            let path = context.codingPath.map(\.stringValue).joined(separator: ".")
            return (path.isEmpty ? "" : "\(path): ") + context.debugDescription
        }
        return switch error {
        case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context),
            DecodingError.keyNotFound(_, let context):
            path(context)
        case DecodingError.dataCorrupted(let context):
            context.underlyingError.map { "\($0)" } ?? path(context)
        default: "\(error)"
        }
    }
}

extension ZtunnelConfiguration {
    mutating func apply(_ mesh: MeshFile) throws(ConfigurationError) {
        if let domain = mesh.trustDomain { trustDomain = domain }
        trustDomainAliases = mesh.trustDomainAliases
        for (index, entry) in mesh.caCertificates.enumerated() {
            let name = "caCertificates[\(index)] of the mesh file"
            guard let pem = entry.pem else {
                throw ConfigurationError(
                    entry.spiffeBundleUrl == nil
                        ? "\(name) has no pem"
                        : "\(name) has a spiffeBundleUrl, which ztunnel does not fetch; put the certificates into pem")
            }
            do throws(IdentityError) {
                trustBundles.append(try TrustBundle(pem: pem, trustDomains: entry.trustDomains ?? [], named: name))
            } catch {
                throw ConfigurationError("\(error)")
            }
        }
        for domain in [trustDomain] + trustDomainAliases where !TrustDomains.isValid(domain) {
            throw ConfigurationError("the mesh file names a trust domain that is none: \(domain.debugDescription)")
        }
    }

    mutating func apply(_ proxy: ProxyConfig, _ threads: inout WorkerThreads) throws(ConfigurationError) {
        if let address = proxy.discoveryAddress, !address.isEmpty { xdsAddress = Self.withScheme(address) }
        if let port = proxy.proxyAdminPort { adminAddress.port = port }
        if let port = proxy.statsPort { statsAddress.port = port }
        if let number = proxy.concurrency {
            guard (0...WorkerThreads.maximum).contains(number) else {
                throw ConfigurationError("concurrency=\(number): expected a number from 0 to \(WorkerThreads.maximum)")
            }
            threads.concurrency = number == 0 ? .all : .number(number)
        }
        for (key, value) in proxy.proxyMetadata ?? [:] {
            metadata[key.hasPrefix("ISTIO_META_") ? String(key.dropFirst("ISTIO_META_".count)) : key] = value
        }
    }

    /// https is what is meant where nothing is said.
    static func withScheme(_ address: String) -> String {
        address.contains("://") ? address : "https://\(address)"
    }
}
