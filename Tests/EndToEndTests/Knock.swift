import Addressing
import Foundation
import Identity
import Mesh

@testable import LocalCluster

/// A stranger at port 15008, by way of the openssl program: an implementation of TLS that is not ours.
struct Knock {
    /// Where it knocks from: outside of every pod.
    let namespace: String
    let target: Endpoint

    /// A certificate and key, as files of a folder that goes with it.
    final class Credentials {
        let folder: String
        var arguments: [String] { ["-cert", "\(folder)/cert.pem", "-key", "\(folder)/key.pem"] }

        /// Signed by an authority for an identity.
        init(_ authority: EmbeddedCA, _ identity: String) throws {
            folder =
                FileManager.default.temporaryDirectory.appendingPathComponent("apus-knock-\(UUID().uuidString)").path
            try Files.makeFolder(folder, mode: 0o700)
            guard let identity = SPIFFEIdentity(identity) else {
                throw LocalClusterError(.traffic, "no SPIFFE identity: \(identity)")
            }
            let request = try CertificateSigningRequestMaker.make(for: identity)
            let chain = try authority.sign(csrPEM: request.csrPEM, for: identity, validity: nil, now: Date())
            let pem = chain.chainDER.map(Self.pem).joined()
            try Files.replace("\(folder)/cert.pem", with: pem)
            try Files.replace("\(folder)/key.pem", with: request.key.pemRepresentation, mode: 0o600)
        }

        // A temporary folder; the system clears it too.
        deinit { try? Files.remove(folder) }

        private static func pem(_ der: [UInt8]) -> String {
            "-----BEGIN CERTIFICATE-----\n" + Data(der).base64EncodedString(options: .lineLength64Characters)
                + "\n-----END CERTIFICATE-----\n"
        }
    }

    /// What came back.
    struct Answer {
        /// Bytes inside TLS.
        var bytes: [UInt8]
        /// What openssl said of the connection.
        var text: String

        /// The frames' types, in order.
        var frames: [HTTP2.Frame] { HTTP2.frames(bytes) }
        /// The status on a stream, where it is one that HPACK's static table has whole.
        func status(_ stream: UInt8 = 1) -> Int? {
            frames.first { $0.type == 1 && $0.stream == stream }?.payload.first.flatMap {
                [0x88: 200, 0x89: 204, 0x8a: 206, 0x8b: 304, 0x8c: 400, 0x8d: 404, 0x8e: 500][Int($0)]
            }
        }
        /// Whether the peer opened a CONNECT stream for us.
        func isAccepted(_ stream: UInt8 = 1) -> Bool { status(stream) == 200 }
        /// Whether the peer said anything about a stream: an answer or a reset.
        func isAnswered(_ stream: UInt8) -> Bool {
            frames.contains { $0.stream == stream && [1, 3].contains($0.type) }
        }
    }

    /// Connects by TLS, sends bytes and takes what comes within two seconds.
    func tls(_ bytes: [UInt8], as credentials: Credentials? = nil, extra: [String] = []) throws -> Answer {
        var command = Command(
            // -quiet keeps it there after the end of its input; timeout ends it.
            ["timeout", "2", "openssl", "s_client", "-quiet", "-alpn", "h2", "-connect", "\(target)"]
                + (credentials?.arguments ?? []) + extra,
            namespace: namespace)
        command.input = Data(bytes)
        let result = try command.run()
        return Answer(bytes: Array(result.output), text: String(decoding: result.errors, as: UTF8.self))
    }

    /// Connects by TCP alone, sends bytes and takes what comes until the peer closes, or two seconds.
    func plain(_ bytes: [UInt8]) throws -> [UInt8] {
        try NetworkSpace.run(in: namespace) {
            let stream = try StreamConnection.connect(to: target, within: .seconds(2))
            try stream.send(bytes, within: .seconds(2))
            // Closed, reset and silent are all answers here; what came before them is none.
            return (try? stream.rest(limit: 65536, within: .seconds(2))) ?? []
        }
    }
}

/// The few bytes of HTTP/2 that a stranger needs.
enum HTTP2 {
    struct Frame {
        var type: UInt8
        var flags: UInt8
        var stream: UInt8
        var payload: [UInt8]
    }

    static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

    static func frame(_ type: UInt8, flags: UInt8 = 0, stream: UInt8 = 0, _ payload: [UInt8] = []) -> [UInt8] {
        [0, UInt8(payload.count >> 8), UInt8(payload.count & 255), type, flags, 0, 0, 0, stream] + payload
    }

    /// A whole opening: preface, SETTINGS, and a CONNECT to each authority, on the streams 1, 3, 5 and so on.
    static func connect(_ authorities: String...) -> [UInt8] { connect(authorities) }

    static func connect(_ authorities: [String]) -> [UInt8] {
        preface + frame(4)
            + authorities.enumerated().flatMap { index, authority in
                // Literals without indexing, names from the static table: 2 is :method, 1 is :authority.
                let method = [0x02, 7] + Array("CONNECT".utf8)
                let target = [0x01, UInt8(authority.utf8.count)] + Array(authority.utf8)
                return frame(1, flags: 4, stream: UInt8(1 + 2 * index), method + target)
            }
    }

    static func frames(_ bytes: [UInt8]) -> [Frame] {
        var found: [Frame] = []
        var rest = bytes[...]
        while rest.count >= 9 {
            let head = Array(rest.prefix(9))
            let length = Int(head[0]) << 16 | Int(head[1]) << 8 | Int(head[2])
            guard rest.count >= 9 + length else { break }
            found.append(
                Frame(type: head[3], flags: head[4], stream: head[8], payload: Array(rest.dropFirst(9).prefix(length))))
            rest = rest.dropFirst(9 + length)
        }
        return found
    }
}
