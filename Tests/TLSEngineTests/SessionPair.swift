import Mesh
import TLSEngine

/// One end of a connection in memory: a session and the bytes on their way to it.
final class End {
    let session: TLSSession
    private var inbox: [UInt8] = []
    private(set) var plaintext: [UInt8] = []
    private(set) var sent: [UInt8] = []
    var failure: TLSError?

    init(_ context: TLSContext, expecting identities: [String] = []) throws {
        session = try TLSSession(context, expectedIdentities: identities.compactMap { SPIFFEIdentity($0) })
    }

    /// Gives the session bytes (with what it left over before) and returns what it wants sent.
    @discardableResult
    func receive(_ bytes: [UInt8]) -> [UInt8] {
        inbox += bytes
        var answer: [UInt8] = []
        guard failure == nil else { return [] }
        var again = true
        while again {
            again = false
            let plaintextRoom = UnsafeMutableRawBufferPointer.allocate(byteCount: 300_000, alignment: 16)
            let outputRoom = UnsafeMutableRawBufferPointer.allocate(byteCount: 70_000, alignment: 16)
            defer {
                plaintextRoom.deallocate()
                outputRoom.deallocate()
            }
            var opened = OutputRawSpan(buffer: plaintextRoom, initializedCount: 0)
            var output = OutputRawSpan(buffer: outputRoom, initializedCount: 0)
            var consumed = 0
            do throws(TLSError) {
                let progress = try session.receive(
                    inbox.span.bytes, consumed: &consumed, plaintext: &opened, output: &output)
                again = progress == .needsRoom && consumed > 0
            } catch {
                failure = error
            }
            plaintext += plaintextRoom[..<opened.finalize(for: plaintextRoom)]
            answer += outputRoom[..<output.finalize(for: outputRoom)]
            inbox.removeFirst(consumed)
        }
        sent += answer
        return answer
    }

    func seal(_ bytes: [UInt8], room: Int = 1 << 20) throws -> (sealed: Int, output: [UInt8]) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: room, alignment: 16)
        defer { buffer.deallocate() }
        var output = OutputRawSpan(buffer: buffer, initializedCount: 0)
        let sealed = try session.seal(bytes.span.bytes, output: &output)
        return (sealed, Array(buffer[..<output.finalize(for: buffer)]))
    }

    func close() -> [UInt8] {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 100, alignment: 16)
        defer { buffer.deallocate() }
        var output = OutputRawSpan(buffer: buffer, initializedCount: 0)
        session.close(output: &output)
        return Array(buffer[..<output.finalize(for: buffer)])
    }
}

/// A client and a server that talk in memory.
struct SessionPair {
    let client: End
    let server: End

    static let serverName = "spiffe://cluster.local/ns/default/sa/server"
    static let clientName = "spiffe://cluster.local/ns/default/sa/client"

    init(client: End, server: End) {
        self.client = client
        self.server = server
    }

    /// Two good ends of one authority.
    init(_ authority: TestAuthority) throws {
        client = try End(TLSContext.client(authority.material(Self.clientName)), expecting: [Self.serverName])
        server = try End(TLSContext.server(authority.material(Self.serverName)))
    }

    /// Carries bytes to and fro until both fall silent. `piece` limits what is delivered at once.
    func handshake(piece: Int = .max) {
        var toServer = client.receive([])
        var toClient: [UInt8] = []
        while !toServer.isEmpty || !toClient.isEmpty {
            let forServer = toServer
            toServer = []
            for part in Self.cut(forServer, piece) { toClient += server.receive(part) }
            let forClient = toClient
            toClient = []
            for part in Self.cut(forClient, piece) { toServer += client.receive(part) }
        }
    }

    static func cut(_ bytes: [UInt8], _ piece: Int) -> [[UInt8]] {
        guard piece < bytes.count else { return [bytes] }
        return stride(from: 0, to: bytes.count, by: piece).map { Array(bytes[$0..<min($0 + piece, bytes.count)]) }
    }
}
