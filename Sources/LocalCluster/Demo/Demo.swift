import Addressing
import Foundation
import Glibc
import LinuxNetwork

/// The demo: six scenes on one cluster, in order, each with a verdict and the line that proves it.
public final class Demo {
    public struct Options: Sendable {
        /// The YAML of the client and the server.
        public var shop: String
        /// The policy that is put in and taken out.
        public var denyPolicy: String
        /// New connections a second while ztunnel is killed.
        public var loadPerSecond = 1000

        /// - Parameter examples: the folder `examples` of the repository.
        public init(examples: String) {
            shop = "\(examples)/shop"
            denyPolicy = "\(examples)/policies/deny-client.yaml"
        }
    }

    public static let titles = [
        "plain HTTP works, and the wire shows it in clear",
        "the namespace is labelled: the same two processes talk mutual TLS",
        "a deny policy cuts the client off, and the log names it",
        "the policy is removed: it works again",
        "ztunnel is killed under load: no connect fails",
        "the label is removed: plain again, and nothing is left behind",
    ]

    private static let policyName = "deny-client"
    private static let policyFile = "deny-client.yaml"
    private static let oldConnection = "before-the-label"

    private let cluster: LocalCluster
    private let options: Options
    private var stage: Stage?
    /// The pods' namespaces as they were before anything was labelled.
    private var initial: [String: KernelState] = [:]

    public init(_ cluster: LocalCluster, _ options: Options) {
        self.cluster = cluster
        self.options = options
    }

    /// Builds the cluster and starts the pods of the example.
    public func up() throws {
        try cluster.source.copy(from: options.shop)
        try cluster.up()
        try cluster.startPods()
        let stage = try Stage(cluster)
        try Waiting.untilTrue("the server to answer", within: .seconds(10)) {
            // It is refused until the server listens.
            (try? stage.driver.get(stage.http(), path: "/ready").status) == 200
        }
        self.stage = stage
    }

    /// Enrols the namespace, for a demo that is left standing.
    public func enrol() throws { try stage?.enrol() }

    /// Plays every scene, also after one that failed: each verdict is its own.
    public func run(_ told: (DemoReport.Scene) -> Void) -> DemoReport {
        var report = DemoReport()
        let scenes = [plain, labelled, denied, allowedAgain, killed, unlabelled]
        for (index, scene) in scenes.enumerated() {
            let start = ContinuousClock.now
            var passed = true
            var proof: String
            do {
                guard let stage else { throw LocalClusterError(.process, "the cluster is not up") }
                proof = try scene(stage)
            } catch {
                passed = false
                proof = "\(error)"
            }
            proof = proof.split(whereSeparator: \.isNewline).joined(separator: " | ")
            let seconds = Double(Int((ContinuousClock.now - start) / .milliseconds(1))) / 1000
            let result = DemoReport.Scene(
                id: index + 1, title: Self.titles[index], passed: passed, proof: proof, seconds: seconds)
            report.scenes.append(result)
            told(result)
        }
        return report
    }

    private func expect(_ condition: Bool, _ otherwise: @autoclosure () -> String) throws {
        guard condition else { throw LocalClusterError(.traffic, otherwise()) }
    }

    /// Sends a line on the connection that was opened before anything was labelled, and waits for it to come back.
    private func exchangeOnOldConnection(_ stage: Stage) throws {
        let line = stage.marker("old")
        do {
            try expect(try stage.driver.exchange(Self.oldConnection, line) == line, "it echoed something else")
        } catch {
            throw LocalClusterError(.traffic, "the connection opened before the label does not live on", cause: error)
        }
    }

    // MARK: 1

    private func plain(_ stage: Stage) throws -> String {
        try stage.driver.open(Self.oldConnection, to: stage.echo())
        try exchangeOnOldConnection(stage)
        for pod in [stage.client, stage.server] { initial[pod.key] = try pod.kernelState() }
        let observed = try stage.observedGet()
        try expect(observed.inClear >= 2, "the text was seen \(observed.inClear) times, not in request and answer")
        return "wire of \(stage.client.node.name): \(observed.marker) readable in \(observed.inClear) packets to and "
            + "from \(try stage.http()); \(observed.traffic.bytes(port: Stage.hbonePort)) bytes on port \(Stage.hbonePort)"
    }

    // MARK: 2

    private func labelled(_ stage: Stage) throws -> String {
        let before = [stage.client, stage.server].map { $0.process?.identity }
        try stage.enrol()
        let observed = try stage.observedGet(.v4, "secret") { try exchangeOnOldConnection(stage) }
        let tunnel = Stage.tunnelled(observed.traffic)
        try expect(observed.inClear == 0, "the payload was readable on the wire \(observed.inClear) times")
        try expect(tunnel.records > 0, "no TLS records to port \(Stage.hbonePort)")
        try expect(tunnel.isPure, "something on port \(Stage.hbonePort) was not TLS")
        let after = [stage.client, stage.server].map { $0.process?.identity }
        try expect(before == after && after.allSatisfy { $0?.isAlive == true }, "a process of a pod was restarted")
        let seen = Stage.clientSeen(in: observed.answer) ?? "nobody"
        try expect(seen == "\(try stage.client.address(.v4))", "the server saw \(seen) as the client")
        let pids = after.compactMap { $0?.pid }.map(String.init).joined(separator: " and ")
        return "wire: \(tunnel.records) TLS records (\(tunnel.bytes) bytes) to and from port \(Stage.hbonePort), the "
            + "payload in none of \(observed.traffic.segments) packets; the server saw \(seen); a connection from "
            + "before the label carried data both ways; processes \(pids) as before"
    }

    // MARK: 3 and 4

    private func denied(_ stage: Stage) throws -> String {
        guard let policy = Files.text(options.denyPolicy) else {
            throw LocalClusterError(.manifest, "no file \(options.denyPolicy)")
        }
        try cluster.source.put(Self.policyFile, policy)
        let node = stage.server.node
        var refusal = "it was served"
        // Until both are seen: the client refused, and the reason in the log of the node that refused it.
        let line = try Waiting.until(
            "the client to be cut off and the log of \(node.name) to name the policy",
            within: cluster.configuration.patience, every: .milliseconds(50),
            detail: { "last answer to the client: \(refusal); \(node.lastWords())" }
        ) { () -> String? in
            do {
                _ = try stage.driver.get(stage.http(), path: "/denied", within: .seconds(2))
                refusal = "it was served"
                return nil
            } catch {
                refusal = "\(error)"
                return node.logLines(with: "\(Stage.namespace)/\(Self.policyName)").last
            }
        }
        return "client: \(refusal); log of \(node.name): \(line)"
    }

    private func allowedAgain(_ stage: Stage) throws -> String {
        try cluster.source.remove(Self.policyFile)
        let answer = try Waiting.until("the client to be let in again", within: cluster.configuration.patience) {
            // Refused until the nodes have heard of it.
            try? stage.driver.get(stage.http(), path: "/again", within: .seconds(2))
        }
        try stage.waitOnWire(tunnelled: true)
        try exchangeOnOldConnection(stage)
        return "GET /again: \(answer.status) in \(answer.microseconds) µs, through the tunnel"
    }

    // MARK: 5

    private func killed(_ stage: Stage) throws -> String {
        try stage.driver.startLoad(stage.echo(), perSecond: options.loadPerSecond, for: .seconds(8))
        // The client's node first, then the server's: each end of the tunnel once, with a load before, between and after.
        Waiting.pause(.seconds(2))
        let first = try stage.kill(.ztunnel, on: stage.client.node)
        Waiting.pause(.seconds(3))
        let second = try stage.kill(.ztunnel, on: stage.server.node)
        let report = try stage.driver.awaitLoad(within: .seconds(30))
        try stage.waitReplaced(first.process, .ztunnel, on: stage.client.node)
        try stage.waitReplaced(second.process, .ztunnel, on: stage.server.node)
        let parts = [
            ("client's", report.around(first.kill, before: second.kill)),
            ("server's", report.around(second.kill, after: first.kill)),
        ]
        let text = parts.map { side, around in
            "\(side) ztunnel: \(around.after) begun after the kill, \(around.afterFailed) failed, slowest "
                + "\(around.afterSlowest / 1_000_000) ms, \(around.inServiceLost) of \(around.inService) in service lost"
        }
        let summary =
            "\(report.samples.count) connections at \(options.loadPerSecond)/s, connect() failed "
            + "\(report.count(.connectFailed)) times; " + text.joined(separator: "; ")
        try expect(parts.allSatisfy { $0.1.held(within: .seconds(2)) }, summary)
        try exchangeOnOldConnection(stage)
        return summary
    }

    // MARK: 6

    private func unlabelled(_ stage: Stage) throws -> String {
        try stage.unenrol()
        let observed = try stage.observedGet()
        try expect(observed.inClear >= 2, "the text was seen \(observed.inClear) times, not in request and answer")
        try exchangeOnOldConnection(stage)
        var left: [String] = []
        try Waiting.untilTrue(
            "the pods' namespaces to be as at the start", within: .seconds(5), every: .milliseconds(100),
            detail: { left.joined(separator: "; ") }
        ) {
            left = try [stage.client, stage.server].flatMap { pod in
                guard let before = initial[pod.key] else { return ["\(pod.key) was not looked at before"] }
                return before.differences(to: try pod.kernelState()).map { "\(pod.key) \($0)" }
            }
            return left.isEmpty
        }
        let parts = initial.values.first.map { $0.parts.keys.sorted().joined(separator: ", ") } ?? ""
        return "readable again in \(observed.inClear) packets; in both pods as at the start: \(parts); the oldest "
            + "connection still echoes"
    }
}
