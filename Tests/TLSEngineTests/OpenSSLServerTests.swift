import Crypto
import Foundation
import Glibc
import Mesh
import Testing

@testable import TLSEngine

/// A peer of another make that has no post-quantum key exchange: the openssl program as a server.
@Suite("TLS with OpenSSL", .serialized)
struct OpenSSLServerTests {
    @Test(
        "OpenSSL without ML-KEM gets X25519, and either suite",
        arguments: ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"])
    func fallsBack(suite: String) throws {
        let server = try OpenSSLServer(arguments: ["-ciphersuites", suite, "-groups", "X25519:P-256"])
        let client = try server.connect()
        #expect(client.failure == nil)
        #expect(client.session.state == .established)
        #expect(client.session.groupName == "X25519")
        #expect(client.session.cipherName == suite)
        #expect(client.session.peerIdentity?.description == SessionPair.serverName)
        // Its tickets come with the first bytes and are skipped; what it says arrives.
        try server.say("from the server\n")
        try client.run("its words") { String(decoding: $0.plaintext, as: UTF8.self) == "from the server\n" }
    }

    @Test(
        "a peer with no suite or group of ours is told so",
        arguments: [["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"], ["-groups", "P-256"], ["-tls1_2"]])
    func nothingInCommon(arguments: [String]) throws {
        let server = try OpenSSLServer(arguments: arguments)
        let client = try server.connect()
        #expect(client.session.state != .established)
        #expect(
            [.peerAlert, .noSharedParameters, .protocolVersion].contains(client.failure?.code),
            "\(String(describing: client.failure))")
    }
}

/// `openssl s_server` on a port of the loopback, with a certificate of a test authority.
private final class OpenSSLServer {
    private let authority: TestAuthority
    private let folder: URL
    private let process = Process()
    private let input = Pipe()
    private let port: UInt16

    init(arguments: [String]) throws {
        authority = try TestAuthority()
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
            "apus-openssl-\(UUID().uuidString)")
        self.folder = folder
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let key = P256.Signing.PrivateKey()
        let leaf = try authority.sign(key.publicKey, .init(uris: [SessionPair.serverName]))
        func file(_ name: String) -> String { folder.appendingPathComponent(name).path }
        try Data(key.pemRepresentation.utf8).write(to: URL(fileURLWithPath: file("key.pem")))
        for (name, der) in [("cert.pem", leaf), ("ca.pem", authority.rootDER)] {
            let pem =
                "-----BEGIN CERTIFICATE-----\n" + Data(der).base64EncodedString(options: .lineLength64Characters)
                + "\n-----END CERTIFICATE-----\n"
            try Data(pem.utf8).write(to: URL(fileURLWithPath: file(name)))
        }
        port = try Self.freePort()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments =
            [
                "openssl", "s_server", "-quiet", "-alpn", "h2", "-accept", "127.0.0.1:\(port)", "-cert",
                file("cert.pem"), "-key", file("key.pem"), "-CAfile", file("ca.pem"), "-Verify", "1", "-naccept", "1",
            ] + arguments
        process.standardInput = input
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
    }

    deinit {
        // It inherits a mask that blocks milder signals.
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        // A temporary folder; the system clears it too.
        try? FileManager.default.removeItem(at: folder)
    }

    func say(_ text: String) throws { try input.fileHandleForWriting.write(contentsOf: Data(text.utf8)) }

    /// Connects once the server listens, and goes through the handshake.
    func connect() throws -> SocketEnd {
        let context = try TLSContext.client(authority.material(SessionPair.clientName))
        let end = try SocketEnd(End(context, expecting: [SessionPair.serverName]), port: port)
        end.start()
        try end.run("the handshake") { $0.session.state != .handshaking || $0.failure != nil }
        return end
    }

    private static func address(_ port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        return address
    }

    static func with<Value>(_ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Value) -> Value {
        var address = address(port)
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
    }

    /// A port nobody listens on, which the server takes the next moment.
    private static func freePort() throws -> UInt16 {
        let probe = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        defer { Glibc.close(probe) }
        try #require(with(0) { bind(probe, $0, $1) } == 0)
        var name = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let got = withUnsafeMutablePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(probe, $0, &length) }
        }
        try #require(got == 0)
        return UInt16(bigEndian: name.sin_port)
    }
}

/// An ``End`` whose bytes go over a socket.
private final class SocketEnd {
    private let end: End
    private let descriptor: CInt
    var session: TLSSession { end.session }
    var failure: TLSError? { end.failure }
    var plaintext: [UInt8] { end.plaintext }

    init(_ end: End, port: UInt16) throws {
        self.end = end
        var connected: CInt = -1
        let limit = ContinuousClock.now + .seconds(20)
        while connected < 0 {
            try #require(ContinuousClock.now < limit, "openssl does not listen")
            let attempt = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
            if OpenSSLServer.with(port, { Glibc.connect(attempt, $0, $1) }) == 0 {
                connected = attempt
            } else {
                Glibc.close(attempt)
                poll(nil, 0, 10)
            }
        }
        descriptor = connected
    }

    deinit { Glibc.close(descriptor) }

    func start() { send(end.receive([])) }

    private func send(_ bytes: [UInt8]) {
        if !bytes.isEmpty { _ = Glibc.send(descriptor, bytes, bytes.count, CInt(MSG_NOSIGNAL)) }
    }

    /// Reads until the condition holds or the peer is gone.
    func run(_ what: Comment, until condition: (End) -> Bool) throws {
        var buffer = [UInt8](repeating: 0, count: 65536)
        while !condition(end) {
            var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            try #require(poll(&waiting, 1, 20_000) == 1, what)
            let got = recv(descriptor, &buffer, buffer.count, 0)
            guard got > 0 else { return end.failure = end.failure ?? end.session.transportEnded() }
            send(end.receive(Array(buffer[..<got])))
        }
    }
}
