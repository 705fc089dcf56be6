import CLinux
import Glibc
import Handover
import LinuxNetwork
import Testing

/// The built program, run in a directory of its own.
final class KeeperProcess {
    private let scratch: Scratch
    private(set) var child: Child
    private let words: [String]

    static let program: String = {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let length = readlink("/proc/self/exe", &buffer, buffer.count)
        let path = String(decoding: buffer.prefix(max(0, length)), as: UTF8.self)
        return path.split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 } + "/apus-sockets"
    }()

    init(ztunnelUID: Int = 0, format: String = "text", _ flags: String...) throws {
        scratch = try Scratch()
        words =
            [Self.program, "--run-dir", scratch.path, "--ztunnel-uid", "\(ztunnelUID)", "--log-format", format] + flags
        child = try Child(words, output: scratch.path + "/log")
        try waitUntilReady()
    }

    /// Starts it again, with the directory as the last one left it.
    func restart() throws {
        child = try Child(words, output: directory + "/log")
        try waitUntilReady()
    }

    /// A second one that takes over; `directory` is where it looks for the first.
    func successor(in directory: String? = nil) throws -> Child {
        var words = words + ["--takeover"]
        if let directory { words[2] = directory }
        return try Child(words, output: self.directory + "/log2")
    }

    /// From here on the successor is the keeper that this stands for.
    func continues(as successor: Child) { child = successor }

    private func waitUntilReady() throws {
        try eventually("the keeper is ready") { try log.contains("ready") || child.hasEnded() }
        if child.hasEnded() { throw Complaint("the keeper ended: \(try log)") }
    }

    /// Stops it without its notice, until `goOn`.
    func standStill() throws {
        kill(child.pid, SIGSTOP)
        // The state is the first letter behind the name, which is in parentheses.
        try eventually("the keeper stands still") {
            try text(of: "/proc/\(child.pid)/stat").split(separator: ")").last?.hasPrefix(" T") == true
        }
    }

    func goOn() { kill(child.pid, SIGCONT) }

    deinit { kill(child.pid, SIGKILL) }

    var directory: String { scratch.path }
    var keeperSocket: String { directory + "/keeper.sock" }
    var ztunnelDirectory: String { directory + "/ztunnel" }
    var ztunnelSocket: String { directory + "/ztunnel/ztunnel.sock" }
    var log: String { get throws { try text(of: child.output) } }

    /// Waits until the log says so.
    func says(_ words: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
        try eventually("the log says \(words)", sourceLocation: sourceLocation) { try log.contains(words) }
    }

    func openDescriptors() throws -> Int { try descriptors().count }

    /// What each open descriptor of the keeper is.
    func descriptors() throws -> [Int: String] { try Self.descriptors(of: child.pid) }

    static func descriptors(of pid: pid_t) throws -> [Int: String] {
        let folder = "/proc/\(pid)/fd"
        guard let listing = opendir(folder) else { throw SystemError("opendir") }
        defer { closedir(listing) }
        var targets: [Int: String] = [:]
        while let entry = readdir(listing) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            guard let number = Int(name) else { continue }
            var buffer = [UInt8](repeating: 0, count: 256)
            let length = readlink("\(folder)/\(name)", &buffer, buffer.count)
            targets[number] = String(decoding: buffer.prefix(max(0, length)), as: UTF8.self)
        }
        return targets
    }

    func agent(keeps: Bool = false) throws -> TestAgent {
        let agent = try TestAgent(keeperSocket)
        #expect(try agent.ask(.hello(version: KeeperRequest.version, keeps: keeps)).error == nil)
        return agent
    }

    func ztunnel(handover: UInt32 = 1, successor: Bool = false, serves: UInt32 = 0) throws -> TestZtunnel {
        let ztunnel = try TestZtunnel(ztunnelSocket)
        try ztunnel.socket.send(ZDSHello(handover: handover, successor: successor, serves: serves).encoded())
        return ztunnel
    }
}

/// The agent's side of keeper.sock.
final class TestAgent {
    let socket: SeqpacketSocket
    private var lastID: UInt64 = 0
    private(set) var events: [PodStatus] = []

    init(_ path: String) throws { socket = try SeqpacketSocket.connect(path: path) }

    func hangUp() { shutdown(socket.raw, CInt(SHUT_RDWR)) }

    /// Whether the keeper has closed, or does so.
    func isClosed() throws -> Bool { try ends(socket) }

    func ask(_ command: KeeperRequest.Command, _ descriptors: [CInt] = []) throws -> KeeperReply {
        try answer(to: send(command, descriptors))
    }

    func send(_ command: KeeperRequest.Command, _ descriptors: [CInt] = []) throws -> UInt64 {
        lastID += 1
        try socket.send(KeeperRequest(id: lastID, command: command).encoded(), descriptors: descriptors)
        return lastID
    }

    /// The answer to an addition, with the listeners that it brings.
    func keep(_ uid: String, answering id: UInt64) throws -> HandedOver {
        while true {
            guard try socket.waitReadable(milliseconds: 10_000) else { throw Complaint("nothing from the keeper") }
            var buffer = [UInt8](repeating: 0, count: KeeperMessage.maximumLength)
            let packet = try receivePacket(socket.raw, &buffer)
            guard case .reply(let reply) = try KeeperMessage(decoding: packet.bytes).content, reply.id == id else {
                continue
            }
            #expect(reply.error == nil)
            return HandedOver(uid, reply.listeners, packet.descriptors)
        }
    }

    func answer(to id: UInt64) throws -> KeeperReply {
        var pods: [PodStatus] = []
        while true {
            guard case .reply(let reply) = try next() else { continue }
            #expect(reply.id == id)
            pods += reply.pods
            if !reply.more { return KeeperReply(id: id, error: reply.error, pods: pods) }
        }
    }

    private func next() throws -> KeeperMessage.Content {
        guard try socket.waitReadable(milliseconds: 10_000), let packet = try socket.receive(limit: 1 << 17) else {
            throw Complaint("nothing from the keeper for 10 s")
        }
        guard !packet.bytes.isEmpty else { throw Complaint("the keeper has closed") }
        let content = try KeeperMessage(decoding: packet.bytes).content
        if case .podStatus(let status) = content { events.append(status) }
        return content
    }

    /// Waits for an event that says so; earlier events of the pod are passed over.
    func expect(_ uid: String, _ state: PodStatus.State) throws -> PodStatus {
        while true {
            if let index = events.firstIndex(where: { $0.uid == uid && $0.state == state }) {
                let event = events[index]
                events.removeSubrange(...index)
                return event
            }
            _ = try next()
        }
    }

    func add(_ pod: TestPod, uid: String? = nil, dualStack: Bool = true) throws -> KeeperReply {
        try ask(.addPod(description(pod, uid: uid, dualStack: dualStack)), [pod.namespace.raw])
    }

    func description(_ pod: TestPod, uid: String? = nil, dualStack: Bool = true, inode: UInt64? = nil) -> KeeperPod {
        KeeperPod(
            uid: uid ?? pod.uid, name: "name-\(pod.uid)", namespace: "shop", serviceAccount: "buyer",
            dualStack: dualStack, netnsInode: inode ?? pod.namespace.id.inode)
    }

    func states() throws -> [String: PodStatus.State] {
        Dictionary(uniqueKeysWithValues: try ask(.list).pods.map { ($0.uid, $0.state) })
    }
}

/// What came with AddWorkload.
final class HandedOver {
    let uid: String
    let kinds: [HandoverDescriptor]
    let descriptors: [CInt]

    init(_ uid: String, _ kinds: [HandoverDescriptor], _ descriptors: [CInt]) {
        self.uid = uid
        self.kinds = kinds
        self.descriptors = descriptors
    }

    deinit { for descriptor in descriptors { close(descriptor) } }

    func descriptor(_ kind: HandoverDescriptor) throws -> CInt {
        descriptors[try #require(kinds.firstIndex(of: kind))]
    }

    /// Waits for a connection at a listener and takes it.
    func accept(_ kind: HandoverDescriptor) throws -> FileDescriptor {
        let listener = try descriptor(kind)
        try #require(ready(listener, POLLIN))
        guard let accepted = try Sockets.accept(listener) else { throw Complaint("nothing to accept") }
        return accepted.takeDescriptor()
    }

    /// The next packet of the stock.
    func takeFromStock() throws -> [(family: StockMessage.Family, socket: CInt)] {
        let stock = try descriptor(.stock)
        try #require(ready(stock, POLLIN))
        var bytes = [UInt8](repeating: 0, count: 64)
        let packet = try receivePacket(stock, &bytes)
        let families = try StockMessage(decoding: packet.bytes, descriptors: packet.descriptors.count).families
        return Array(zip(families, packet.descriptors)).map { ($0, $1) }
    }

    /// Takes all there is while the keeper stands still, so that it finds the stock empty when it goes on.
    func drainStock(of keeper: KeeperProcess) throws -> [(family: StockMessage.Family, socket: CInt)] {
        let stock = try descriptor(.stock)
        try #require(ready(stock, POLLIN))
        try keeper.standStill()
        defer { keeper.goOn() }
        var taken: [(family: StockMessage.Family, socket: CInt)] = []
        while ready(stock, POLLIN, milliseconds: 0) { taken += try takeFromStock() }
        return taken
    }
}

/// Receives from a descriptor that stays the caller's.
func receivePacket(_ fd: CInt, _ buffer: inout [UInt8]) throws -> (bytes: [UInt8], descriptors: [CInt]) {
    let socket = SeqpacketSocket(owning: try copy(of: fd))
    guard var packet = try socket.receive(limit: buffer.count) else { throw Complaint("nothing to receive") }
    let truncated = packet.truncated
    #expect(!truncated)
    var descriptors: [CInt] = []
    while let descriptor = packet.takeDescriptor() { descriptors.append(descriptor.release()) }
    return (packet.bytes, descriptors)
}

/// ztunnel's side of ztunnel.sock.
final class TestZtunnel {
    let socket: SeqpacketSocket

    init(_ path: String) throws { socket = try SeqpacketSocket.connect(path: path) }

    /// The next request with its descriptors.
    func next() throws -> (request: ZDSRequest, descriptors: [CInt]) {
        guard try socket.waitReadable(milliseconds: 10_000) else { throw Complaint("nothing from the keeper for 10 s") }
        var buffer = [UInt8](repeating: 0, count: ZDSRequest.maximumLength)
        let packet = try receivePacket(socket.raw, &buffer)
        guard !packet.bytes.isEmpty else { throw Complaint("the keeper has closed") }
        return (try ZDSRequest(decoding: packet.bytes), packet.descriptors)
    }

    func answer(_ error: String = "") throws { try socket.send(ZDSResponse(error: error).encoded()) }

    /// Takes an addition without answering it.
    func takeAddition() throws -> HandedOver {
        let (request, descriptors) = try next()
        guard case .add(let uid, let info, let kinds) = request else { throw Complaint("\(request) is no addition") }
        #expect(info == ZDSWorkloadInfo(name: "name-\(uid)", namespace: "shop", serviceAccount: "buyer"))
        return HandedOver(uid, kinds, descriptors)
    }

    /// Says yes to everything up to the end of the snapshot.
    func takeSnapshot() throws -> [String: HandedOver] {
        var pods: [String: HandedOver] = [:]
        while true {
            let (request, descriptors) = try next()
            switch request {
            case .add(let uid, _, let kinds): pods[uid] = HandedOver(uid, kinds, descriptors)
            case .snapshotSent:
                try answer()
                return pods
            default: throw Complaint("\(request) in a snapshot")
            }
            try answer()
        }
    }

    func expect(_ expected: ZDSRequest) throws {
        #expect(try next().request == expected)
    }

    /// Whether the keeper has closed, or does so.
    func isTurnedAway() throws -> Bool { try ends(socket) }
}

/// Whether the next thing to come over the socket is its end.
func ends(_ socket: borrowing SeqpacketSocket) throws -> Bool {
    guard try socket.waitReadable(milliseconds: 10_000) else { return false }
    do {
        guard let packet = try socket.receive(limit: 1024) else { return false }
        return packet.bytes.isEmpty
    } catch {
        // The keeper closed before it had read everything.
        if error.code == ECONNRESET { return true }
        throw error
    }
}
