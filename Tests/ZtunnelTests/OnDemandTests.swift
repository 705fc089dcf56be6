import Addressing
import Glibc
import LinuxNetwork
import Mesh
import Synchronization
import Testing

@testable import Ztunnel

/// `XDS_ON_DEMAND`: ztunnel asks for a destination when a connection wants to go there.
@Suite("A mesh on demand", .serialized, .timeLimit(.minutes(2)))
struct OnDemandTests {
    /// A control plane that knows some names and says nothing at all about others.
    private final class ControlPlane: MeshDemand {
        let store: MeshStore
        private let known: [MeshName: [MeshUpdate]]
        private let silent: Set<MeshName>
        private let asked = Mutex<[MeshName]>([])
        var questions: [MeshName] { asked.withLock { $0 } }

        init(_ store: MeshStore, known: [MeshName: [MeshUpdate]], silent: Set<MeshName>) {
            self.store = store
            self.known = known
            self.silent = silent
        }

        func ask(for name: MeshName, done: @escaping @Sendable () -> Void) {
            asked.withLock { $0.append(name) }
            guard !silent.contains(name) else { return }
            store.apply(known[name] ?? [])
            done()
        }
    }

    private func name(_ pod: TestPod) -> MeshName { .address(NetworkAddress(address: pod.v4)) }

    @Test("a member is found out before the first byte; a stranger is passed through; no answer is no connection")
    func destinations() async throws {
        let node = try TestNode()
        let client = try await node.pod("client", 1)
        let server = try await node.pod("server", 2)
        let stranger = try await node.pod("stranger", 3)
        let mute = try await node.pod("mute", 4)
        node.store.apply([.workload(node.workload(client))])
        let plane = ControlPlane(
            node.store, known: [name(server): [.workload(node.workload(server))]], silent: [name(mute)])
        do {
            try node.startProxy(demand: plane) { $0.workloadTimeout = .milliseconds(300) }
            for pod in [client, server] { try node.enrol(pod) }
            for pod in [server, stranger] {
                let listener = try pod.listen(port: 8080)
                for _ in 0..<2 {
                    let connection = try client.connect(to: Endpoint(pod.v4, 8080))
                    try Talk.send(connection.raw, "hello")
                    let accepted = try Talk.accept(listener)
                    defer { close(accepted.fd) }
                    #expect(try Talk.receive(accepted.fd, 5) == "hello")
                }
                #expect(try (client.tunnels(to: pod) > 0) == (pod === server))
            }
            // Known from the first time on; what is unknown is asked for by each connection, and answered at once.
            #expect(plane.questions == [name(server), name(stranger), name(stranger)])

            let listener = try mute.listen(port: 8080)
            let refused = try client.connect(to: Endpoint(mute.v4, 8080))
            #expect(throws: (any Error).self) {
                try Talk.send(refused.raw, "hello")
                let rest = try Talk.receive(refused.raw)
                throw Unmet("closed after \(rest.count) bytes")
            }
            var waiting = pollfd(fd: listener.raw, events: Int16(POLLIN), revents: 0)
            #expect(poll(&waiting, 1, 0) == 0, "nothing may reach it in clear")
            try eventually("the log says why") { try node.log().contains("the control plane did not say in time") }
        } catch {
            Issue.record("\(error)\n\(node.evidence)")
        }
        await node.end()
    }
}
