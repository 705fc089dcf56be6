import Addressing
import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2

/// Makes connections: what can change between two of them is read anew for each.
struct DiscoveryConnector: Sendable {
    let settings: DiscoverySettings
    private let host: Host
    private let port: Int

    private enum Host: Sendable {
        case address(IPAddress)
        case name(String)
    }

    /// - Throws: ``DiscoveryError`` `configuration` for an address that is none.
    init(_ settings: DiscoverySettings) throws(DiscoveryError) {
        self.settings = settings
        func malformed(_ why: String) -> DiscoveryError {
            DiscoveryError(
                .configuration, "\(settings.address) is not the address of a control plane", cause: why,
                hint: "write https://host:port")
        }
        var rest = settings.address[...]
        if let range = rest.firstRange(of: "://") {
            guard rest[..<range.lowerBound].lowercased() == "https" else { throw malformed("not https") }
            rest = rest[range.upperBound...]
        }
        if rest.hasSuffix("/") { rest = rest.dropLast() }
        if let endpoint = Endpoint(String(rest)), endpoint.port != 0 {
            host = .address(endpoint.address)
            port = Int(endpoint.port)
            return
        }
        guard let colon = rest.lastIndex(of: ":"), let number = UInt16(rest[rest.index(after: colon)...]), number != 0
        else { throw malformed("no port") }
        let name = String(rest[..<colon])
        guard (1...253).contains(name.utf8.count), !name.contains(where: { "[]/ @:".contains($0) }) else {
            throw malformed("no host")
        }
        host = .name(name)
        port = Int(number)
    }

    func client() throws(DiscoveryError) -> GRPCClient<HTTP2ClientTransport.Posix> {
        let roots: TLSConfig.TrustRootsSource =
            switch settings.roots {
            case .system: .systemDefault
            case .pem(let text): .certificates(try Self.certificates(in: text, "the roots' text"))
            case .file(let path): .certificates(try Self.certificates(in: Self.read(path, .rootsUnreadable), path))
            }
        let security = HTTP2ClientTransport.Posix.TransportSecurity.tls { $0.trustRoots = roots }
        let config = HTTP2ClientTransport.Posix.Config.defaults { config in
            config.http2.authority = settings.serverName
            config.http2.targetWindowSize = 4 << 20
            config.http2.maxFrameSize = 1 << 20
            config.connection.keepalive = .init(
                time: .seconds(30), timeout: .seconds(10), allowWithoutCalls: false)
            config.connection.maxIdleTime = nil
        }
        do {
            return GRPCClient(
                transport: try HTTP2ClientTransport.Posix(
                    target: target, transportSecurity: security, config: config))
        } catch {
            throw DiscoveryError(
                .rootsUnreadable, "no connection to \(settings.address) can be set up", cause: "\(error)",
                hint: "check the root certificates")
        }
    }

    private var target: any ResolvableTarget {
        switch host {
        case .address(let ip) where ip.isV4: .ipv4(address: ip.description, port: port)
        case .address(let ip): .ipv6(address: ip.description, port: port)
        case .name(let name): .dns(host: name, port: port)
        }
    }

    /// Every certificate of a bundle.
    private static func certificates(
        in text: String, _ name: String
    ) throws(DiscoveryError) -> [TLSConfig.CertificateSource] {
        let end = "-----END CERTIFICATE-----"
        let blocks = text.components(separatedBy: end).dropLast().map { $0 + end + "\n" }
        guard !blocks.isEmpty else {
            throw DiscoveryError(.rootsUnreadable, "\(name) holds no certificate")
        }
        return blocks.map { .bytes(Array($0.utf8), format: .pem) }
    }

    func metadata() throws(DiscoveryError) -> Metadata {
        var metadata: Metadata = ["clusterid": "\(settings.clusterID)"]
        for (name, value) in settings.headers { metadata.addString(value, forKey: name) }
        let token: String
        switch settings.token {
        case .none: return metadata
        case .text(let text): token = text
        case .file(let path): token = try Self.read(path, .tokenUnreadable)
        }
        // The line feed at a file's end must not get into the header.
        let trimmed = token.trimmingCharacters(in: .whitespacesAndNewlines)
        guard !trimmed.isEmpty, trimmed.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
            throw DiscoveryError(.tokenMissing, "the token for \(settings.address) is empty or none")
        }
        metadata.addString("Bearer \(trimmed)", forKey: "authorization")
        return metadata
    }

    private static func read(_ path: String, _ code: DiscoveryError.Code) throws(DiscoveryError) -> String {
        do {
            let file = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
            defer { try? file.close() }  // Read already; a failure to close changes nothing.
            let data = try file.read(upToCount: (1 << 20) + 1) ?? Data()
            guard data.count <= 1 << 20, let text = String(bytes: data, encoding: .utf8) else {
                throw DiscoveryError(code, "\(path) is no text of at most 1 MiB")
            }
            return text
        } catch let error as DiscoveryError {
            throw error
        } catch {
            throw DiscoveryError(code, "cannot read \(path)", cause: error.localizedDescription)
        }
    }
}
