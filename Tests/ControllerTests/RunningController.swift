import Addressing
import Crypto
import Discovery
import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2
import IstioAPI
import Logging
import Mesh
import ObjectSource
import SwiftASN1
import SwiftProtobuf
import X509

@testable import Controller
@testable import Identity

/// A controller on loopback with folders of its own.
final class RunningController: Sendable {
    let folder: String
    let server: ControllerServer
    let tokens: NodeTokenIssuer
    let endpoint: Addressing.Endpoint
    private let task: Task<Void, any Error>

    var source: String { folder + "/source" }
    var status: String { folder + "/status" }
    var state: String { folder + "/state" }
    var address: String { "https://\(endpoint)" }

    static let objects = """
        apiVersion: v1
        kind: Namespace
        metadata: {name: shop}
        ---
        apiVersion: v1
        kind: Pod
        metadata: {name: web, namespace: shop}
        spec: {serviceAccountName: web, nodeName: n1}
        ---
        apiVersion: v1
        kind: Pod
        metadata: {name: done, namespace: shop}
        spec: {serviceAccountName: failed, nodeName: n1}
        status: {phase: Failed}
        ---
        apiVersion: v1
        kind: Pod
        metadata: {name: db, namespace: shop}
        spec: {serviceAccountName: db, nodeName: n2}
        """

    static func folders() throws -> String {
        let folder = NSTemporaryDirectory() + "apus-controller-\(UUID().uuidString)"
        for name in ["source", "status"] {
            try FileManager.default.createDirectory(atPath: "\(folder)/\(name)", withIntermediateDirectories: true)
        }
        return folder
    }

    static func settings(_ folder: String) -> ControllerSettings {
        ControllerSettings(
            source: folder + "/source", status: folder + "/status", state: folder + "/state",
            listen: Endpoint(.loopbackV4, 0))
    }

    static var quiet: Logger {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        return logger
    }

    init() async throws {
        folder = try Self.folders()
        try Self.objects.write(toFile: folder + "/source/objects.yaml", atomically: true, encoding: .utf8)
        let server = try await ControllerServer(Self.settings(folder), logger: Self.quiet)
        self.server = server
        task = Task { try await server.run() }
        endpoint = try await server.endpoint
        tokens = try await NodeTokenIssuer(directory: folder + "/state")
    }

    /// Ends it and tells how it ended.
    func stop() async throws {
        task.cancel()
        try await task.value
        try FileManager.default.removeItem(atPath: folder)
    }

    func token(_ node: String = "n1", now: Date = Date()) async throws -> String {
        try await tokens.issue(node: node, now: now).token
    }

    /// Says what is running on a node, as a kubelet would.
    func report(
        _ pod: String, node: String = "n1", phase: PodStatus.Phase = .running, address: String = "10.0.0.1"
    ) throws {
        try FolderStatusWriter(folder: status, reporter: "kubelet").report(
            PodRuntimeReport(nodeName: node, phase: phase, podIPs: [address], isReady: true),
            for: PodReference(name: ObjectName(namespace: "shop", name: pod), uid: ""))
    }

    func setCaptured(_ pod: String, _ isCaptured: Bool) throws {
        try FolderStatusWriter(folder: status, reporter: "agent").annotate(
            PodReference(name: ObjectName(namespace: "shop", name: pod), uid: ""),
            with: isCaptured ? [MeshLabel.redirection: MeshLabel.redirectionEnabled] : [:])
    }

    // MARK: The certificate service, without the manners of a client

    struct Call: Sendable {
        var authorization: [String]
        var csr: String
        var identity: Google_Protobuf_Value? = Google_Protobuf_Value(
            stringValue: "spiffe://cluster.local/ns/shop/sa/web")
        var validity: Int64 = 3600
    }

    func sign(_ call: Call) async throws -> [String] {
        try await Self.sign(call, at: endpoint, roots: server.rootPEM)
    }

    static func sign(_ call: Call, at endpoint: Addressing.Endpoint, roots: String) async throws -> [String] {
        let security = HTTP2ClientTransport.Posix.TransportSecurity.tls { tls in
            tls.trustRoots = .certificates(
                roots.components(separatedBy: "-----END CERTIFICATE-----\n").dropLast().map { block in
                    .bytes(Array((block + "-----END CERTIFICATE-----\n").utf8), format: .pem)
                })
        }
        let transport = try HTTP2ClientTransport.Posix(
            target: .dns(host: "localhost", port: Int(endpoint.port)), transportSecurity: security)
        return try await withGRPCClient(transport: transport) { client in
            var request = Istio_V1_Auth_IstioCertificateRequest()
            request.csr = call.csr
            request.validityDuration = call.validity
            if let identity = call.identity { request.metadata.fields["ImpersonatedIdentity"] = identity }
            var metadata = Metadata()
            for header in call.authorization { metadata.addString(header, forKey: "authorization") }
            var options = CallOptions.defaults
            options.timeout = .seconds(30)
            return try await Istio_V1_Auth_IstioCertificateService.Client(wrapping: client)
                .createCertificate(request, metadata: metadata, options: options).certChain
        }
    }
}

/// Signing requests, good and bad.
enum Requests {
    static func request(
        key: P256.Signing.PrivateKey = P256.Signing.PrivateKey(), name: String? = nil, asAuthority: Bool = false
    ) throws -> CertificateSigningRequest {
        let extensions = try Certificate.Extensions {
            if let name { SubjectAlternativeNames([.uniformResourceIdentifier(name)]) }
            if asAuthority { Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil)) }
        }
        return try CertificateSigningRequest(
            version: .v1, subject: DistinguishedName(), privateKey: Certificate.PrivateKey(key),
            attributes: CertificateSigningRequest.Attributes([.init(ExtensionRequest(extensions: extensions))]))
    }

    static func pem(_ request: CertificateSigningRequest) throws -> String {
        try request.serializeAsPEM().pemString
    }

    static func good() throws -> String { try pem(request(name: "spiffe://cluster.local/ns/shop/sa/web")) }

    /// Genuine but for one bit of the signature.
    static func forged() throws -> String {
        var der = DER.Serializer()
        try der.serialize(request())
        var bytes = der.serializedBytes
        bytes[bytes.count - 1] ^= 1
        return PEMDocument(type: "CERTIFICATE REQUEST", derBytes: bytes).pemString
    }
}
