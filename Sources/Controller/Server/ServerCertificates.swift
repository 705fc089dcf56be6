import Addressing
import Foundation
import Identity
import NIOCertificateReloading
import NIOCore
import NIOSSL
import NIOTLS
import Synchronization

/// The controller's own certificate, renewed at half of its life.
final class ServerCertificates: CertificateReloader {
    static let validity = Duration.seconds(30 * 24 * 3600)

    private let authority: EmbeddedCA
    private let names: [String]
    private let addresses: [IPAddress]
    private let current: Mutex<Current>

    private struct Current {
        var override: NIOSSLContextConfigurationOverride
        var notAfter: Date
    }

    /// - Throws: `IdentityError`, or what BoringSSL thinks of a certificate.
    init(_ authority: EmbeddedCA, names: [String], addresses: [IPAddress], now: Date) throws {
        self.authority = authority
        self.names = names
        self.addresses = addresses
        current = Mutex(try Self.issue(authority, names, addresses, now))
    }

    var sslContextConfigurationOverride: NIOSSLContextConfigurationOverride { current.withLock { $0.override } }

    var notAfter: Date { current.withLock { $0.notAfter } }

    func renew(now: Date) throws {
        let next = try Self.issue(authority, names, addresses, now)
        current.withLock { $0 = next }
    }

    private static func issue(
        _ authority: EmbeddedCA, _ names: [String], _ addresses: [IPAddress], _ now: Date
    ) throws -> Current {
        let certificate = try authority.serverCertificate(
            names: names, addresses: addresses, validity: validity, now: now)
        let chain = try NIOSSLCertificate.fromPEMBytes(Array(certificate.chainPEM.utf8))
        let key = try NIOSSLPrivateKey(bytes: Array(certificate.privateKeyPEM.utf8), format: .pem)
        var override = NIOSSLContextConfigurationOverride()
        override.certificateChain = chain.map { .certificate($0) }
        override.privateKey = .privateKey(key)
        return Current(override: override, notAfter: certificate.notAfter)
    }
}

/// Closes connections that agree on less than TLS 1.3: the transport would take 1.2.
final class RequireTLS13: ChannelInboundHandler {
    typealias InboundIn = NIOAny

    static func add(to channel: any Channel) -> EventLoopFuture<Void> {
        channel.eventLoop.makeCompletedFuture {
            let pipeline = channel.pipeline.syncOperations
            let tls = try pipeline.handler(type: NIOSSLServerHandler.self)
            try pipeline.addHandlers([RequireTLS13(tls), PiecedWrites()], position: .after(tls))
        }
    }

    private let tls: NIOSSLServerHandler

    private init(_ tls: NIOSSLServerHandler) { self.tls = tls }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .handshakeCompleted? = event as? TLSUserEvent, tls.tlsVersion != .tlsv13 {
            context.close(promise: nil)
            return
        }
        context.fireUserInboundEventTriggered(event)
    }
}
