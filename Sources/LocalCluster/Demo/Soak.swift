import Foundation
import LinuxNetwork

/// A cluster under steady traffic of checked bytes while pods come and go, the label flips, and programs are killed and
/// taken over from, at random and for as long as is wanted.
public final class Soak {
    public struct Options: Sendable {
        public var seconds = 1200
        /// Two soaks of the same seed do the same things in the same order.
        public var seed: UInt64
        /// New connections a second.
        public var rate = 50

        public init(seed: UInt64) { self.seed = seed }
    }

    enum Act: String, CaseIterable {
        case killZtunnel, killKeeper, killAgent, takeOver, guest, flip, nothing
    }

    /// What it comes to.
    public struct Report: Codable, Sendable {
        public var seed: UInt64 = 0
        public var seconds = 0
        /// How often each thing was done.
        public var acts: [String: Int] = [:]
        public var connections = 0
        /// Connections in service at the kill of a ztunnel, which may die, and how many did.
        public var excused = 0
        /// Exchanges on connections that stay open over many acts.
        public var exchanges = 0
        /// The longest from connect() to the answer, by what was done meanwhile, in milliseconds.
        public var slowest: [String: Double] = [:]
        /// Payload bytes seen on the wire while the pods were reported enrolled: what the looks looked at.
        public var watched = 0
        /// How often the wire was looked at while the pods were reported enrolled.
        public var looks = 0
        /// What should not have happened, each with the act.
        public var failures: [String] = []

        public var text: String {
            let done = acts.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
            let worst = slowest.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value) ms" }.joined(separator: ", ")
            return """
                soak: seed \(seed), \(seconds) s
                  done: \(done)
                  connections: \(connections), of which \(excused) died with the ztunnel that carried them
                  exchanges on long connections: \(exchanges)
                  slowest new connection: \(worst)
                  looks at the wire while enrolled: \(looks), \(watched) bytes of payload
                  failures: \(failures.count)
                """ + failures.map { "\n    \($0)" }.joined()
        }
    }

    private let cluster: LocalCluster
    private let stage: Stage
    private let options: Options
    private var random: Dice
    private var report = Report()
    private var guests: [LocalPod] = []
    private var guestsMade = 0
    /// The one connection that was opened long ago, by its name.
    private var long: String?
    private var opened = 0

    /// - Parameter cluster: one that is up, with the pods of `examples/shop`.
    public init(_ cluster: LocalCluster, _ options: Options) throws {
        self.cluster = cluster
        self.options = options
        stage = try Stage(cluster)
        random = Dice(state: options.seed)
    }

    /// Enrols the namespace and goes on until the time is over.
    public func run(_ told: (String) -> Void) throws -> Report {
        let begun = ContinuousClock.now
        report.seed = options.seed
        try stage.enrol()
        while ContinuousClock.now - begun < .seconds(options.seconds) {
            let act = Act.allCases[random.below(Act.allCases.count)]
            report.acts[act.rawValue, default: 0] += 1
            do {
                try round(act)
            } catch {
                fail(act, "\(error)")
                // One failure must not make the next: what is not there is waited for.
                for node in cluster.nodes { try cluster.waitForNode(node) }
            }
            told(
                "\(Int((ContinuousClock.now - begun) / .seconds(1))) s \(act.rawValue): \(report.failures.count) failures"
            )
        }
        for guest in guests { try stage.endGuest(guest) }
        report.seconds = Int((ContinuousClock.now - begun) / .seconds(1))
        return report
    }

    private func fail(_ act: Act, _ what: String) {
        report.failures.append("\(act.rawValue): \(what.split(whereSeparator: \.isNewline).joined(separator: " | "))")
    }

    /// Traffic, an act in the middle of it, and what became of both.
    private func round(_ act: Act) throws {
        try openLong()
        // Whatever dies meanwhile, nothing that was opened while the pods are enrolled may be read.
        let wire = act == .flip ? nil : try stage.capture()
        try stage.driver.startLoad(stage.echo(), perSecond: options.rate, for: .seconds(4))
        Waiting.pause(.milliseconds(500 + random.below(1000)))
        let node = cluster.nodes[random.below(cluster.nodes.count)]
        var kill: LoadReport.Kill?
        do { kill = try perform(act, on: node) } catch { fail(act, "\(error)") }
        let load = try stage.driver.awaitLoad(within: .seconds(40))
        judge(load, act, kill)
        if let traffic = try wire?.stop() { read(traffic, act) }
        try exchange(act)
        try lookAtTheWire(act)
    }

    /// - Returns: When a ztunnel was killed.
    private func perform(_ act: Act, on node: LocalNode) throws -> LoadReport.Kill? {
        switch act {
        case .nothing: return nil
        case .killZtunnel:
            let (kill, process) = try stage.kill(.ztunnel, on: node)
            // What it carried ends with it.
            long = nil
            try stage.waitReplaced(process, .ztunnel, on: node)
            return kill
        case .killKeeper:
            try stage.waitReplaced(stage.kill(.sockets, on: node).process, .sockets, on: node)
        case .takeOver:
            guard let old = node.processes(.sockets).last else { return nil }
            try stage.takeOver(on: node)
            try Waiting.untilTrue("the old keeper to end", within: .seconds(10)) { !old.isAlive }
        case .killAgent:
            try stage.kill(.agent, on: node)
            try cluster.startAgent(node)
            try cluster.waitForNode(node)
        case .guest:
            if guests.count > random.below(3) {
                try stage.endGuest(guests.removeFirst())
            } else {
                guestsMade += 1
                let guest = try stage.startGuest("guest-\(guestsMade)", on: node)
                guests.append(guest)
                let answer = try guest.client().get(stage.http(), path: "/guest", within: .seconds(10))
                if answer.status != 200 { fail(act, "a new pod got \(answer.status)") }
            }
        case .flip:
            try cluster.source.unenrol(namespace: Stage.namespace)
            try cluster.waitReported(enrolled: false, [stage.client, stage.server])
            try cluster.source.enrol(namespace: Stage.namespace)
            try cluster.waitReported(enrolled: true, [stage.client, stage.server])
        }
        return nil
    }

    private func judge(_ load: LoadReport, _ act: Act, _ kill: LoadReport.Kill?) {
        report.connections += load.samples.count
        let served = load.samples.filter { $0.outcome == .served }
        let slowest = served.map { $0.ended - $0.started }.max() ?? 0
        let known = report.slowest[act.rawValue] ?? 0
        report.slowest[act.rawValue] = max(known, Double(slowest / 10_000) / 100)
        var lost = load.samples.filter { $0.outcome != .served }
        if let kill {
            let inService = lost.filter {
                $0.outcome != .connectFailed && $0.started < kill.dead && $0.ended >= kill.signalled
            }
            report.excused += inService.count
            lost.removeAll { inService.contains($0) }
        }
        guard let first = lost.first else { return }
        fail(
            act,
            "\(lost.count) of \(load.samples.count) connections were lost, the first as \(first.outcome), errno \(first.error)"
        )
    }

    private func read(_ traffic: WireTraffic, _ act: Act) {
        report.watched += traffic.streams.reduce(0) { $0 + $1.bytes.count }
        let inClear = traffic.occurrences(of: LoadGenerator.text)
        if inClear > 0 { fail(act, "the load was readable on the wire \(inClear) times") }
        if traffic.bytes(port: Stage.hbonePort) == 0 { fail(act, "nothing of the load went through the tunnel") }
    }

    /// The long connection is one of before the label as often as one of after it.
    private func openLong() throws {
        guard long == nil else { return }
        opened += 1
        let name = "long-\(opened)"
        try stage.driver.open(name, to: stage.echo())
        long = name
    }

    private func exchange(_ act: Act) throws {
        guard let name = long else { return }
        for _ in 0..<8 {
            let line = stage.marker("soak") + String(repeating: "x", count: random.below(2000))
            do {
                let echoed = try stage.driver.exchange(name, line)
                report.exchanges += 1
                if echoed != line { fail(act, "wrong bytes: \(echoed.count) instead of \(line.count)") }
            } catch {
                long = nil
                return fail(act, "a connection that should live does not: \(error)")
            }
        }
    }

    private func lookAtTheWire(_ act: Act) throws {
        try cluster.waitReported(enrolled: true, [stage.client, stage.server])
        let observed = try stage.observedGet()
        report.looks += 1
        if observed.inClear > 0 { fail(act, "\(observed.marker) was readable \(observed.inClear) times") }
        if observed.traffic.bytes(port: Stage.hbonePort) == 0 { fail(act, "nothing went through the tunnel") }
    }
}

/// Numbers that a seed decides (SplitMix64).
struct Dice {
    var state: UInt64

    mutating func below(_ bound: Int) -> Int {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return Int((mixed ^ (mixed >> 31)) % UInt64(bound))
    }
}
