import Foundation
import Kubernetes
import TestAPIServer
import Testing

@testable import LocalCluster

extension EndToEnd {
    /// What an API server can do to those who follow it: the real agents and controller end up where its objects are,
    /// and no connection breaks on the way.
    @Suite("Faults of the API server", .serialized)
    struct APIServerFaultTests {
        /// What goes wrong, and how long: it lasts until `isFelt`.
        struct Fault: Sendable {
            let name: String
            let begin: @Sendable (KubernetesMesh) async throws -> Void
            var isFelt: @Sendable (KubernetesMesh, _ asked: Int) -> Bool = { mesh, asked in asked >= 4 }
            var end: @Sendable (KubernetesMesh) async throws -> Void = { mesh in mesh.server.heal(cuttingWatches: true)
            }
        }

        /// Asked with how often the server was asked to list or watch since the fault began.
        private static let faults: [Fault] = [
            Fault(
                name: "it restarts", begin: { await $0.server.stop() }, isFelt: { _, _ in true },
                end: { try await $0.server.resume() }),
            Fault(
                name: "it restarts and has forgotten its history",
                begin: { await $0.server.stop() }, isFelt: { _, _ in true },
                end: { mesh in
                    mesh.server.compact()
                    try await mesh.server.resume()
                }),
            Fault(
                name: "events are lost", begin: { $0.server.setFaults { $0.isSilent = true } }, isFelt: { _, _ in true }
            ),
            Fault(
                name: "410, in a loop",
                begin: { mesh in
                    mesh.server.setFaults { $0.expiresWatches = true }
                    mesh.server.cutWatches()
                }),
            Fault(
                name: "410 as an event, in a loop",
                begin: { mesh in
                    mesh.server.setFaults { ($0.expiresWatches, $0.expiresByEvent) = (true, true) }
                    mesh.server.cutWatches()
                }),
            Fault(
                name: "watches end as soon as they begin",
                begin: { mesh in
                    mesh.server.setFaults { $0.endsWatchesAtOnce = true }
                    mesh.server.cutWatches()
                }),
            Fault(
                name: "events come late, three times, and the latest first",
                begin: { $0.server.setFaults { ($0.eventDelay, $0.copies, $0.reverses) = (.seconds(1), 3, 2) } },
                isFelt: { _, _ in true }, end: { $0.server.heal() }),
            Fault(
                name: "everything is answered with 503",
                begin: { mesh in
                    mesh.server.setFaults { $0.refusals["/*"] = 503 }
                    mesh.server.cutWatches()
                },
                end: { $0.server.heal() }),
            Fault(
                name: "it has another authority",
                begin: { mesh in
                    await mesh.server.stop()
                    try mesh.server.rotateAuthority()
                    try await mesh.server.resume()
                }, isFelt: { mesh, _ in mesh.server.watches == 0 }, end: { try $0.renewCredentials() }),
            Fault(
                name: "its clock is two hours ahead, so that tokens have expired",
                begin: { mesh in
                    mesh.clock.set(7200)
                    mesh.server.cutWatches()
                }, end: { try $0.renewCredentials() }),
            Fault(
                name: "the controller is killed, and its streams with it",
                begin: { $0.cluster.process("controller")?.signal(SIGKILL) }, isFelt: { _, _ in true },
                end: { try $0.cluster.startController() }),
        ]

        @Test func agentsAndControllerEndUpWhereTheObjectsAre() async throws {
            try await KubernetesMesh.run(everything: true) { mesh, stage in
                let refused = try mesh.startGuest("refused", on: stage.client.node)
                let leaving = try mesh.startGuest("leaving", on: stage.server.node)
                try mesh.label()
                try stage.waitOnWire(tunnelled: true)
                try stage.driver.open("old", to: stage.echo())
                try stage.driver.startLoad(stage.echo(), perSecond: 20, for: .seconds(40))
                for (index, fault) in Self.faults.enumerated() {
                    // What one fault changes the next one changes back.
                    let isSet = index.isMultiple(of: 2)
                    let (before, start) = (mesh.asked, ContinuousClock.now)
                    try await fault.begin(mesh)
                    mesh.refuse(isSet, "refused")
                    mesh.keepOut(isSet, "leaving")
                    try Waiting.untilTrue("\(fault.name): to be felt", within: .seconds(20)) {
                        fault.isFelt(mesh, mesh.asked - before)
                    }
                    #expect(try stage.driver.exchange("old", fault.name) == fault.name)
                    try await fault.end(mesh)
                    try Waiting.untilTrue("\(fault.name): the agent to have followed", within: .seconds(60)) {
                        mesh.redirection("leaving") == (isSet ? nil : "enabled")
                    }
                    try Waiting.untilTrue("\(fault.name): ztunnel to have heard of it", within: .seconds(60)) {
                        let answer = try? refused.client().get(stage.http(), path: "/", within: .seconds(2))
                        return (answer == nil) == isSet
                    }
                    #expect(try stage.driver.exchange("old", "after: \(fault.name)") == "after: \(fault.name)")
                    #expect(try leaving.client().get(stage.http(), path: "/", within: .seconds(5)).status == 200)
                    print("\(fault.name): in step after \(ContinuousClock.now - start)")
                }
                let report = try stage.driver.awaitLoad(within: .seconds(60))
                #expect(report.count(.served) == report.samples.count && report.samples.count >= 800)
            }
        }

        @Test func theLeaderIsKilledAndTheOtherReplicaWrites() async throws {
            try await KubernetesMesh.run(everything: true) { mesh, stage in
                try mesh.label()
                try stage.waitOnWire(tunnelled: true)
                try stage.driver.open("old", to: stage.echo())
                try mesh.cluster.launchController("controller-b", listen: "\(RunLayout.underlayV4(1)):15112")
                let second = mesh.cluster.controllerLog("controller-b")
                try Waiting.untilTrue("the second replica", within: .seconds(30), detail: { Files.text(second) }) {
                    Files.text(second)?.contains("controller is listening") == true
                }
                let leader = try mesh.leader()
                mesh.cluster.process("controller")?.signal(SIGKILL)
                // A deny rule that layer 4 cannot see: whoever leads writes a condition.
                mesh.server.perform(
                    "POST", "/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies",
                    [
                        "metadata": ["name": "by-path"],
                        "spec": ["action": "DENY", "rules": [["to": [["operation": ["paths": ["/admin"]]]]]]],
                    ])
                try stage.expectServed()
                let path = #"jsonpath={.status.conditions[?(@.type=="ZtunnelAccepted")].status}"#
                try Waiting.untilTrue(
                    "the condition", within: .seconds(45), every: .milliseconds(300), detail: { Files.text(second) }
                ) { try mesh.kubectl("get", "authorizationpolicy", "by-path", "-n", "shop", "-o", path) == "False" }
                #expect(try mesh.leader() != leader)
                #expect(try stage.driver.exchange("old", "still here") == "still here")
                // The one that was killed comes back and serves; it does not lead.
                try mesh.cluster.startController()
                mesh.refuse(true, "client")
                try Waiting.untilTrue("ztunnel to have heard of it", within: .seconds(30)) {
                    (try? stage.driver.get(stage.http(), path: "/", within: .seconds(2))) == nil
                }
            }
        }
    }
}

extension KubernetesMesh {
    private static let label = "istio.io/dataplane-mode"
    private static let policies = "/apis/security.istio.io/v1/namespaces/\(Stage.namespace)/authorizationpolicies"

    /// Labels the namespace and waits until every pod says that it is captured.
    func label() throws {
        try kubectl("label", "namespace", Stage.namespace, "\(Self.label)=ambient")
        let names = cluster.pods.map(\.manifest.name)
        try Waiting.untilTrue("the pods to be captured", within: .seconds(30)) {
            names.allSatisfy { redirection($0) == "enabled" }
        }
    }

    /// How often anything was listed or watched, or refused.
    var asked: Int { server.count("watch") + server.count("get") + server.count("refused") }

    /// Adds or takes away a policy of the server that refuses an account.
    func refuse(_ isSet: Bool, _ account: String) {
        let name = "refuse-\(account)"
        guard isSet else {
            server.perform("DELETE", "\(Self.policies)/\(name)")
            return
        }
        server.perform(
            "POST", Self.policies,
            [
                "metadata": ["name": .string(name)],
                "spec": [
                    "selector": ["matchLabels": ["app": "server"]], "action": "DENY",
                    "rules": [
                        [
                            "from": [
                                [
                                    "source": [
                                        "principals": [.string("cluster.local/ns/\(Stage.namespace)/sa/\(account)")]
                                    ]
                                ]
                            ]
                        ]
                    ],
                ],
            ])
    }

    /// Labels a pod so that it stays out of the mesh, or takes the label off.
    func keepOut(_ isSet: Bool, _ pod: String) {
        server.perform(
            "PATCH", "/api/v1/namespaces/\(Stage.namespace)/pods/\(pod)",
            ["metadata": ["labels": [Self.label: isSet ? "none" : nil]]], type: "application/merge-patch+json")
    }

    /// What a pod says of its capture, without asking over the network.
    func redirection(_ pod: String) -> String? {
        let value = server.perform("GET", "/api/v1/namespaces/\(Stage.namespace)/pods/\(pod)").value
        return Self.text(value, "metadata", "annotations", "ambient.istio.io/redirection")
    }

    func leader() throws -> String {
        let path = "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases/apus-controller"
        return try #require(Self.text(server.perform("GET", path).value, "spec", "holderIdentity"))
    }

    private static func text(_ value: JSON, _ path: String...) -> String? {
        var value = value
        for name in path {
            guard case .object(let members) = value, let next = members[name] else { return nil }
            value = next
        }
        guard case .string(let text) = value else { return nil }
        return text
    }
}
