import Addressing
import Foundation
import Glibc
import LinuxNetwork

/// A client and a server in a cluster, and the ways to see what passes between them: what scenes and tests are made of.
public final class Stage {
    public let cluster: LocalCluster
    public let client: LocalPod
    public let server: LocalPod
    /// The client's program; its requests run inside the client pod.
    public let driver: PodClientConnection
    private var markers = 0

    public static let namespace = "shop"
    public static let httpPort: UInt16 = 8080
    public static let echoPort: UInt16 = 9000
    public static let hbonePort: UInt16 = 15008

    /// - Parameter cluster: one that is up and runs the pods of `examples/shop`.
    public init(_ cluster: LocalCluster) throws {
        self.cluster = cluster
        client = try cluster.pod("\(Self.namespace)/client")
        server = try cluster.pod("\(Self.namespace)/server")
        driver = try client.client()
    }

    /// The server's HTTP port at its own address.
    public func http(_ family: IPAddress.Family = .v4) throws -> Endpoint {
        Endpoint(try server.address(family), Self.httpPort)
    }

    public func echo(_ family: IPAddress.Family = .v4) throws -> Endpoint {
        Endpoint(try server.address(family), Self.echoPort)
    }

    /// A text that occurs nowhere else, to be looked for on the wire.
    public func marker(_ word: String) -> String {
        markers += 1
        return "\(word)-\(cluster.layout.run)-\(markers)-\(UInt64.random(in: .min ... .max))"
    }

    // MARK: Requests

    /// A request that was watched on the client node's uplink.
    public struct Observed: Sendable {
        public let answer: HTTPAnswer
        public let marker: String
        public let traffic: WireTraffic

        /// How often the request's text was seen on the wire.
        public var inClear: Int { traffic.occurrences(of: marker) }
    }

    /// Begins to watch a node's uplink, the client's where none is named.
    public func capture(on node: LocalNode? = nil) throws -> WireCapture {
        try WireCapture(namespace: (node ?? client.node).namespace, interface: LocalNode.uplink)
    }

    /// Asks for a path with a new marker in it, which the server sends back, and watches the wire meanwhile.
    /// - Parameter also: what else is done while the wire is watched.
    public func observedGet(
        _ family: IPAddress.Family = .v4, _ word: String = "marker", also: () throws -> Void = {}
    ) throws -> Observed {
        let marker = marker(word)
        let capture = try capture()
        let answer = try driver.get(http(family), path: "/\(marker)")
        try also()
        guard answer.status == 200, answer.body.contains(marker) else {
            throw LocalClusterError(.traffic, "the server answered \(answer.status): \(answer.body.prefix(80))")
        }
        return Observed(answer: answer, marker: marker, traffic: try capture.stop())
    }

    /// The address that the server saw, from its answer.
    public static func clientSeen(in answer: HTTPAnswer) -> String? {
        answer.body.split(separator: "\n").first { $0.hasPrefix("client ") }.map { String($0.dropFirst(7)) }
    }

    // MARK: What is on the wire

    /// Facts about HBONE in a capture.
    public struct Tunnelled: Sendable {
        public var records = 0
        public var bytes = 0
        /// Every stream to or from 15008 was TLS from its first byte to its last.
        public var isPure = true
    }

    public static func tunnelled(_ traffic: WireTraffic) -> Tunnelled {
        var result = Tunnelled()
        for stream in traffic.streams
        where [stream.direction.source.port, stream.direction.destination.port].contains(hbonePort) {
            let records = TLSRecords(stream.bytes)
            result.records += records.count
            result.bytes += records.bytes
            result.isPure = result.isPure && records.isPure
        }
        return result
    }

    // MARK: Enrolment

    /// Waits until a new connection is seen in a tunnel, or, with `false`, in clear.
    public func waitOnWire(tunnelled: Bool, _ family: IPAddress.Family = .v4) throws {
        var last = "no request got through"
        try Waiting.untilTrue(
            tunnelled ? "requests to travel through a tunnel" : "requests to travel in clear",
            within: cluster.configuration.patience, every: .milliseconds(100), detail: { last }
        ) {
            do {
                let observed = try observedGet(family, "probe")
                let bytes = observed.traffic.bytes(port: Self.hbonePort)
                last = "seen in clear \(observed.inClear) times, \(bytes) bytes to or from \(Self.hbonePort)"
                return tunnelled ? observed.inClear == 0 && bytes > 0 : observed.inClear > 0
            } catch let error as LocalClusterError where error.code == .traffic {
                last = "\(error)"
                return false
            }
        }
    }

    /// Labels the namespace and waits until both pods are reported and the wire shows it.
    public func enrol() throws {
        try cluster.source.enrol(namespace: Self.namespace)
        try cluster.waitReported(enrolled: true, [client, server])
        try waitOnWire(tunnelled: true)
    }

    /// Takes the label off and waits until both pods are reported and the wire shows it.
    public func unenrol() throws {
        try cluster.source.unenrol(namespace: Self.namespace)
        try cluster.waitReported(enrolled: false, [client, server])
        try waitOnWire(tunnelled: false)
    }

    // MARK: Guests

    /// Adds a client pod to the namespace: its object first, as the API server has it before a kubelet acts.
    public func startGuest(_ name: String, on node: LocalNode) throws -> LocalPod {
        let manifest = PodManifest(
            namespace: Self.namespace, name: name, node: node.name, command: ["apus", "local", "pod-client"])
        try cluster.source.put(
            "guest-\(name).yaml",
            """
            apiVersion: v1
            kind: Pod
            metadata:
              name: \(name)
              namespace: \(Self.namespace)
              labels:
                app: guest
            spec:
              serviceAccountName: client
              nodeName: \(node.name)
              containers:
                - name: client
                  image: apus
                  command: [apus, local, pod-client]
            """)
        return try cluster.start(manifest)
    }

    public func endGuest(_ pod: LocalPod) throws {
        try cluster.stop(pod)
        try cluster.source.remove("guest-\(pod.manifest.name).yaml")
    }

    // MARK: Deaths

    /// Kills the node's process of a role, and waits for its death.
    @discardableResult
    public func kill(
        _ role: LocalNode.Role, on node: LocalNode
    ) throws -> (kill: LoadReport.Kill, process: ProcessIdentity) {
        guard let process = node.processes(role).last else {
            throw LocalClusterError(.process, "node \(node.name) has no \(role.rawValue)", hint: node.lastWords())
        }
        let signalled = MonotonicClock.now
        guard process.signal(SIGKILL) else {
            throw LocalClusterError(.process, "the \(role.rawValue) of \(node.name) was gone before it was killed")
        }
        try Waiting.untilTrue("a killed \(role.rawValue) to die", within: .seconds(5), every: .milliseconds(1)) {
            !process.isAlive
        }
        return (.init(signalled: signalled, dead: MonotonicClock.now), process)
    }

    /// Starts a keeper on the node that takes over from the one there. The agent sees its own end, and has another take over in turn.
    @discardableResult
    public func takeOver(on node: LocalNode) throws -> ChildProcess {
        let programs = cluster.configuration.programs
        return try ChildProcess.start(
            [
                programs.sockets, "--run-dir", node.folder, "--ztunnel-uid", "\(LocalNode.ztunnelUser)", "--takeover",
            ], name: "apus-sockets", environment: Launcher.environment(), namespace: node.namespace,
            log: "\(node.logs)/apus-sockets.log")
    }

    /// Waits until the node has another process of the role than the one that was killed.
    public func waitReplaced(_ killed: ProcessIdentity, _ role: LocalNode.Role, on node: LocalNode) throws {
        try Waiting.untilTrue(
            "a new \(role.rawValue) on \(node.name)", within: cluster.configuration.patience,
            detail: { node.lastWords() }
        ) { node.processes(role).contains { $0 != killed } }
    }
}
