import Addressing
import Glibc
import LinuxNetwork
import Mesh
import Observability
import Testing

@testable import Ztunnel

/// A node for the time of one test; what goes wrong is told with the node's logs.
func onNode(_ settings: MeshSettings = MeshSettings(), _ body: (TestNode) async throws -> Void) async throws {
    let node = try TestNode(settings: settings)
    do {
        try await body(node)
    } catch {
        Issue.record("\(error)\n\(node.evidence)")
    }
    await node.end()
}

extension TestNode {
    /// In the pods' subnet, so that the application's kernel has a route; nobody has the address.
    static let vip = IPAddress(10, 99, 0, 200)
    static let web = NamespacedHostname(namespace: "shop", hostname: "web.shop.svc.cluster.local")
    static let vipEndpoint = Endpoint(vip, 80)

    /// The service `web`: port 80, at ``vip``.
    func web(
        target: UInt16 = 8080, network: String = "", waypoint: GatewayAddress? = nil, names: [String] = [],
        loadBalancing: LoadBalancing? = nil
    ) -> Mesh.Service {
        Mesh.Service(
            name: "web", namespace: "shop", hostname: Self.web.hostname,
            addresses: [NetworkAddress(network: network, address: Self.vip)], ports: [.init(80, target: target)],
            subjectAltNames: names, waypoint: waypoint, loadBalancing: loadBalancing)
    }

    /// The value of the one sample of a metric whose line has all of these words; 0 when there is none.
    func sample(_ name: String, _ words: String...) -> Int {
        let lines = metrics.exposition().split(separator: "\n").filter { line in
            line.hasPrefix(name) && words.allSatisfy { line.contains($0) }
        }
        return lines.compactMap { $0.split(separator: " ").last.flatMap { Int($0) } }.reduce(0, +)
    }
}

/// One side of a conversation that a test holds open.
final class Held {
    let client: FileDescriptor
    let server: CInt
    /// The address the server sees.
    let peer: Endpoint?

    /// Connects and exchanges a line each way.
    init(_ pod: TestPod, to endpoint: Endpoint, accepting listener: borrowing FileDescriptor) throws {
        let client = try pod.connect(to: endpoint)
        try Talk.send(client.raw, "ping")
        let accepted = try Talk.accept(listener)
        server = accepted.fd
        peer = accepted.peer
        self.client = client
        guard try Talk.receive(server, 4) == "ping" else { throw Unmet("another line than was sent") }
        try exchange()
    }

    func exchange() throws {
        try Talk.send(server, "pong")
        guard try Talk.receive(client.raw, 4) == "pong" else { throw Unmet("closed while a line was expected") }
    }

    deinit { close(server) }
}

/// Waits until the other side has closed or reset the connection.
func expectClosed(_ fd: CInt, _ comment: Comment? = nil, location: SourceLocation = #_sourceLocation) throws {
    do {
        let rest = try Talk.receive(fd)
        #expect(rest.isEmpty, comment, sourceLocation: location)
    } catch let error as SystemError {
        #expect([ECONNRESET, ECONNREFUSED, EPIPE].contains(error.code), comment, sourceLocation: location)
    }
}
