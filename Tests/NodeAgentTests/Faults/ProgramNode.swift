import CNI
import Glibc
import Handover
import LinuxNetwork
import TestSupport
import Testing

@testable import NodeAgent

/// A node with agent and keeper as they are shipped, in a network namespace of its own; ended with the value.
final class ProgramNode: Sendable {
    let folder: TemporaryFolder
    let agent: pid_t
    let keeper: pid_t
    private let namespace: SharedNamespace

    /// - Parameter pods: How many objects there are, p0 and on, in a namespace that is in the mesh.
    init(pods: Int) async throws {
        let folder = try TemporaryFolder()
        let namespace = SharedNamespace(try NetworkNamespace.make())
        let programs = AtomicFile.split(try #require(CommandLine.arguments.first)).folder
        for name in ["run", "source", "status"] { try AtomicFile.makeFolder("\(folder.path)/\(name)", mode: 0o755) }
        var objects = """
            apiVersion: v1
            kind: Namespace
            metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}

            """
        for index in 0..<pods {
            objects += """
                ---
                apiVersion: v1
                kind: Pod
                metadata: {name: p\(index), namespace: shop, uid: u-\(index)}
                spec: {nodeName: n1, containers: [{name: c, image: i}]}

                """
        }
        try AtomicFile.write(Array(objects.utf8), to: folder.path + "/source/objects.yaml", mode: 0o644)
        func start(_ name: String, _ arguments: [String]) throws -> pid_t {
            let output = try FileDescriptor.open("\(folder.path)/\(name).log", flags: O_WRONLY | O_CREAT | O_APPEND)
            let input = try FileDescriptor.open("/dev/null", flags: O_RDONLY)
            let streams = ProcessSpawn.Streams(input: input.raw, output: output.raw, errors: output.raw)
            return try namespace.value.run { () throws(SystemError) in
                try ProcessSpawn.start(
                    ["\(programs)/\(name)"] + arguments,
                    environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "SWIFT_BACKTRACE=enable=no"], streams: streams)
            }
        }
        let run = folder.path + "/run"
        keeper = try start("apus-sockets", ["--run-dir", run, "--ztunnel-uid", "15000"])
        agent = try start(
            "apus",
            [
                "agent", "--node", "n1", "--run-dir", run, "--source", folder.path + "/source", "--status",
                folder.path + "/status", "--probe-exemption", "off", "--dns-capture", "false", "--metrics-address",
                "127.0.0.1:0",
            ])
        self.folder = folder
        self.namespace = namespace
        try await eventually("the agent and the keeper are there") {
            // Not there yet is what is waited for.
            (try? Call(self, .init(verb: .status)).reply(milliseconds: 1000).code) == 0
        }
    }

    deinit {
        for pid in [agent, keeper] {
            kill(pid, SIGKILL)
            waitpid(pid, nil, 0)
        }
    }

    var socket: String { folder.path + "/run/cni.sock" }

    func log(of name: String) throws -> String {
        String(decoding: try AtomicFile.read("\(folder.path)/\(name).log", limit: 64 << 20) ?? [], as: UTF8.self)
    }

    func census() throws -> [DescriptorCensus] { try [agent, keeper].map(DescriptorCensus.init) }

    /// What they hold once nothing is under way: a look at a pod takes sockets for a moment.
    func settledCensus() async throws -> [DescriptorCensus] {
        var (last, equal) = (try census(), 0)
        try await eventually("agent and keeper are quiet", within: .seconds(30)) {
            let now = try census()
            equal = now == last ? equal + 1 : 0
            last = now
            return equal == 40
        }
        return last
    }

    /// Waits until they hold what they held, and says what they hold if they do not.
    func holds(_ before: [DescriptorCensus], _ what: String) async throws {
        do {
            try await eventually(what, within: .seconds(20)) { try census() == before }
        } catch {
            Issue.record("\(what): \(try census()) instead of \(before)")
            throw error
        }
    }

    /// The records of pods.
    func records() throws -> Int {
        let store = PodRecordStore(folder: folder.path + "/run/pods")
        return try store.load().records.count
    }

    static func request(_ verb: CNIRequest.Verb, _ index: Int, _ pod: FakePod?) -> CNIRequest {
        CNIRequest(
            verb: verb, networkName: "mesh", containerID: "c\(index)", interfaceName: "eth0",
            netnsPath: pod?.path ?? "", podName: "p\(index)", podNamespace: "shop", podUID: "u-\(index)",
            addresses: pod.map { ["\($0.address)/24"] } ?? [])
    }

    /// One call, to its reply.
    func call(_ verb: CNIRequest.Verb, _ index: Int, _ pod: FakePod?, milliseconds: Int = 12_000) throws -> CNIReply {
        try Call(self, Self.request(verb, index, pod), pod?.namespace).reply(milliseconds: milliseconds)
    }

    /// Has all calls under way at once, and those that are told to try again once more, as a runtime does.
    /// - Returns: The replies in order.
    func all(_ calls: [(verb: CNIRequest.Verb, index: Int, pod: FakePod?)]) async throws -> [CNIReply] {
        var replies = [CNIReply?](repeating: nil, count: calls.count)
        let deadline = ContinuousClock.now + .seconds(60)
        while true {
            let open = replies.indices.filter { replies[$0]?.code ?? 11 == 11 }
            guard !open.isEmpty, ContinuousClock.now < deadline else { break }
            let underWay = try open.map {
                try Call(self, Self.request(calls[$0].verb, calls[$0].index, calls[$0].pod), calls[$0].pod?.namespace)
            }
            for (place, call) in zip(open, underWay) { replies[place] = try call.reply(milliseconds: 30_000) }
        }
        return replies.compactMap { $0 }
    }

    /// A request that has been sent.
    final class Call {
        private let socket: SeqpacketSocket

        init(_ node: ProgramNode, _ request: CNIRequest, _ namespace: SharedNamespace? = nil) throws {
            socket = try SeqpacketSocket.connect(path: node.socket, milliseconds: 5_000)
            try socket.send(request.encoded(), descriptors: namespace.map { [$0.value.raw] } ?? [])
        }

        func reply(milliseconds: Int) throws -> CNIReply {
            guard try socket.waitReadable(milliseconds: milliseconds),
                let packet = try socket.receive(limit: CNIReply.maximumLength)
            else { throw SystemError("wait for the agent's reply", code: ETIMEDOUT) }
            return try CNIReply(decoding: packet.bytes)
        }
    }

    /// How many descriptors a process may have, from now on.
    static func limitDescriptors(of pid: pid_t, to count: Int) throws {
        let null = try FileDescriptor.open("/dev/null", flags: O_RDWR)
        let child = try ProcessSpawn.start(
            ["/usr/bin/prlimit", "--pid", "\(pid)", "--nofile=\(count):"], environment: [],
            streams: .init(input: null.raw, output: null.raw, errors: null.raw))
        var status: CInt = 0
        guard waitpid(child, &status, 0) == child, status == 0 else {
            throw SystemError("prlimit ended with status \(status)", code: ECHILD)
        }
    }
}
