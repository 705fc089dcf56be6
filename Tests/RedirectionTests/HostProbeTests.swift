import Addressing
import Glibc
import LinuxNetwork
import Netlink
import Testing

@testable import Redirection

/// Who gets past capture towards a pod's probe ports, and who does not: real packets, real cgroups.
@Suite("Probes", .serialized)
struct HostProbeTests {
    private static let families = IPAddress.Family.allCases
    /// As an agent's pods are captured.
    private static let agents: [Means] = [.nftablesTwice, .ebpfTwice]

    private struct Scene {
        let network: ProbeNode
        let ztunnel: FakeZtunnel
        let app: Listener
        let kubelet: TestCgroup
        let family: IPAddress.Family

        init(
            _ means: Means, _ family: IPAddress.Family, plan: RedirectionPlan = RedirectionPlan(probePorts: [8080]),
            port: UInt16 = 8080
        ) throws {
            self.family = family
            network = try ProbeNode()
            try means.backend().apply(plan, in: network.target)
            ztunnel = try FakeZtunnel(family, in: network.target)
            app = try Listener(Endpoint(any(family), port), in: network.target)
            kubelet = try TestCgroup("kubelet")
        }

        func target(_ port: UInt16 = 8080) -> Endpoint { Endpoint(ProbeNode.targetAddress(family), port) }

        func onNode() throws -> Stream { try Stream(family: family, in: network.node) }

        /// The connection reaches the app itself, from the address of probes.
        func expectExempt(_ client: Stream, _ location: SourceLocation = #_sourceLocation) throws {
            try client.connect(to: target())
            let (served, peer) = try app.accept()
            #expect(peer?.address == RedirectionPlan.probeAddress(family), sourceLocation: location)
            try client.exchange(with: served)
            #expect(!ztunnel.inbound.hasConnection, sourceLocation: location)
        }

        /// The connection reaches ztunnel, from the client's own address.
        func expectCaptured(
            _ client: Stream, to endpoint: Endpoint? = nil, from address: IPAddress? = nil,
            _ location: SourceLocation = #_sourceLocation
        ) throws {
            try client.connect(to: endpoint ?? target())
            let (accepted, peer) = try ztunnel.inbound.accept()
            #expect(peer?.address == address ?? ProbeNode.bridgeAddress(family), sourceLocation: location)
            try client.exchange(with: accepted)
            #expect(!app.hasConnection, sourceLocation: location)
        }
    }

    @Test(
        "kubelet's connection to a probe port reaches the app, from the address of probes", arguments: agents, families)
    func kubelet(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let scene = try Scene(means, family)
            // Without rules on the node it is a client like others.
            try scene.expectCaptured(try scene.kubelet.run { try scene.onNode() })
            try scene.network.apply(ProbeNode.plan(.kubelet(scene.kubelet.cgroup)))
            try scene.expectExempt(try scene.kubelet.run { try scene.onNode() })
        }
    }

    @Test("every other process of the node is captured, whatever its mark or cgroup", arguments: agents, families)
    func hostProcess(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let scene = try Scene(means, family)
            try scene.network.apply(ProbeNode.plan(.kubelet(scene.kubelet.cgroup)))
            try scene.expectCaptured(try scene.onNode())
            let marked = try scene.onNode()
            try Sockets.setMark(marked.fd, HostProbeTable.mark)
            try scene.expectCaptured(marked)
            let sibling = try TestCgroup("sibling")
            try scene.expectCaptured(try sibling.run { try scene.onNode() })
            let child = try TestCgroup("child", beneath: scene.kubelet)
            try scene.expectCaptured(try child.run { try scene.onNode() })
        }
    }

    @Test("kubelet's own cgroup may be deep in the tree", arguments: agents, families)
    func deepCgroup(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let scene = try Scene(means, family)
            let deep = try TestCgroup("kubelet.service", beneath: scene.kubelet)
            try scene.network.apply(ProbeNode.plan(.kubelet(deep.cgroup)))
            try scene.expectExempt(try deep.run { try scene.onNode() })
            try scene.expectCaptured(try scene.kubelet.run { try scene.onNode() })
        }
    }

    @Test("kubelet's connection to a port that is no probe's is captured", arguments: agents, families)
    func otherPort(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let scene = try Scene(means, family)
            try scene.network.apply(ProbeNode.plan(.kubelet(scene.kubelet.cgroup), ports: [8081]))
            try scene.expectCaptured(try scene.kubelet.run { try scene.onNode() })
        }
    }

    @Test("a socket stays with the cgroup it was made in, wherever its process goes", arguments: agents, families)
    func movedProcess(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let scene = try Scene(means, family)
            try scene.network.apply(ProbeNode.plan(.kubelet(scene.kubelet.cgroup)))
            let madeInside = try scene.kubelet.run { try scene.onNode() }
            try scene.expectExempt(madeInside)
            let madeOutside = try scene.onNode()
            try scene.kubelet.run { try scene.expectCaptured(madeOutside) }
        }
    }

    @Test("without kubelet's cgroup nobody is exempt", arguments: agents, families)
    func noKubelet(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let scene = try Scene(means, family)
            try scene.network.apply(ProbeNode.plan(.kubelet(nil)))
            try scene.expectCaptured(try scene.kubelet.run { try scene.onNode() })
        }
        #expect(SocketCgroup(id: 1, level: 0) == nil)
        #expect(SocketCgroup(id: 1, level: 255) == nil)
    }

    @Test("what a NodePort leads to a probe port is captured, masqueraded as it is", arguments: agents, families)
    func nodePort(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let scene = try Scene(means, family)
            try scene.network.apply(ProbeNode.plan(.kubelet(scene.kubelet.cgroup)))
            let name = family == .v4 ? "ip" : "ip6"
            let address = ProbeNode.targetAddress(family).description
            let target = family == .v4 ? "\(address):8080" : "[\(address)]:8080"
            _ = try Judge.nft(
                """
                table \(name) service {
                chain pre { type nat hook prerouting priority dstnat; tcp dport 30080 dnat to \(target); }
                chain post { type nat hook postrouting priority srcnat; ct status dnat masquerade; }
                }
                """, in: scene.network.node)
            let client = try Stream(family: family, in: scene.network.elsewhere)
            try scene.expectCaptured(client, to: Endpoint(ProbeNode.nodeAddress(family), 30080))
        }
    }

    @Test("others' masquerading does not undo the address of probes", arguments: agents, families)
    func masquerading(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let scene = try Scene(means, family)
            _ = try Judge.nft(
                "table inet other { chain post { type nat hook postrouting priority srcnat; masquerade; }\n}",
                in: scene.network.node)
            try scene.network.apply(ProbeNode.plan(.kubelet(scene.kubelet.cgroup)))
            try scene.expectExempt(try scene.kubelet.run { try scene.onNode() })
            try scene.expectCaptured(try scene.onNode())
        }
    }

    enum Spoofer: CaseIterable, Sendable { case podOnTheBridge, machineElsewhere, processOfTheNode }

    @Test(
        "nobody reaches a pod under the address of probes by just taking it", arguments: Spoofer.allCases, families)
    func spoofing(spoofer: Spoofer, family: IPAddress.Family) async throws {
        try await onThread {
            let scene = try Scene(.nftables, family)
            func spoof() throws -> Stream {
                let stream =
                    switch spoofer {
                    case .podOnTheBridge: try Stream(family: family, in: scene.network.other)
                    case .machineElsewhere: try Stream(family: family, in: scene.network.elsewhere)
                    case .processOfTheNode: try scene.onNode()
                    }
                try Sockets.setTransparent(stream.fd)
                try Sockets.bind(
                    stream.fd, to: Endpoint(RedirectionPlan.probeAddress(family), 0), dualStack: family == .v6)
                // The answer has no way back; what counts is that the first packet arrives.
                _ = try Sockets.connect(stream.fd, to: scene.target(), dualStack: family == .v6)
                return stream
            }
            /// What comes the same way afterwards is there: so is what was sent before.
            func follow() throws {
                let (client, address) =
                    switch spoofer {
                    case .podOnTheBridge:
                        (
                            try Stream(family: family, in: scene.network.other), ProbeNode.otherAddress(family)
                        )
                    case .machineElsewhere:
                        (
                            try Stream(family: family, in: scene.network.elsewhere),
                            ProbeNode.elsewhereAddress(family)
                        )
                    case .processOfTheNode: (try scene.onNode(), ProbeNode.bridgeAddress(family))
                    }
                try scene.expectCaptured(client, from: address)
            }
            try follow()
            let open = try spoof()
            try follow()
            let before = try scene.network.exempted(family)
            // The danger is real: without the node's rules it arrives.
            #expect(before >= 1)
            withExtendedLifetime(open) {}

            try scene.network.apply(ProbeNode.plan(.kubelet(scene.kubelet.cgroup)))
            let again: Stream?
            do {
                again = try spoof()
            } catch let error as SystemError where spoofer == .processOfTheNode && error.code == EPERM {
                // The kernel tells a process of the node at once.
                again = nil
            }
            try follow()
            #expect(try scene.network.exempted(family) == before)
            withExtendedLifetime(again) {}
        }
    }

    @Test("as Istio has it: any process of the node, any port, but nobody else", arguments: agents, families)
    func istio(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let scene = try Scene(means, family, plan: RedirectionPlan(exemptsEveryProbePort: true))
            try scene.network.apply(ProbeNode.plan(.anySocket, ports: []))
            try scene.expectExempt(try scene.onNode())
            let pod = try Stream(family: family, in: scene.network.other)
            try scene.expectCaptured(pod, from: ProbeNode.otherAddress(family))
        }
    }

    @Test("an open probe goes on when other pods come and go", arguments: agents, families)
    func openProbe(means: Means, family: IPAddress.Family) async throws {
        try await onThread {
            let scene = try Scene(means, family)
            var plan = ProbeNode.plan(.kubelet(scene.kubelet.cgroup))
            try scene.network.apply(plan)
            let probe = try scene.kubelet.run { try scene.onNode() }
            try probe.connect(to: scene.target())
            let (served, _) = try scene.app.accept()
            plan.destinations[ProbeNode.otherAddress(family)] = [80, 81]
            try scene.network.apply(plan)
            try probe.exchange(with: served)
            plan.destinations = plan.destinations.filter { $0.key == ProbeNode.otherAddress(family) }
            try scene.network.apply(plan)
            try probe.exchange(with: served)
            try scene.expectCaptured(try scene.kubelet.run { try scene.onNode() })
        }
    }
}
