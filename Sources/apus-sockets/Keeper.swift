import Handover
import LinuxNetwork

/// Why something is not done, as a sentence for the other side and the log.
struct Refusal: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}

/// The keeper: which pods there are, and who is at its sockets. A pod's state is nowhere stored; it is what the active
/// ztunnel last said of it.
final class Keeper: TimerHandler {
    static let mostPods = 4096
    private static let mostUnknownPeers = 4

    let loop: EventLoop
    let log: Log
    let home: NamespaceID
    var pods: [String: Pod] = [:]
    private(set) var removals: [String: Removal] = [:]
    var agent: AgentConnection?
    var active: ZtunnelConnection?
    var successor: ZtunnelConnection?
    var retired: ZtunnelConnection?
    /// Connections that have not said hello.
    var unknown: [Connection] = []
    var agents: Acceptor?
    var ztunnels: Acceptor?
    private var listenRetry: TimerID?
    var takeover: Takeover?
    /// Another keeper has the pods now, and this one is to end without touching their sockets.
    var isSucceeded = false

    init(_ loop: EventLoop, _ log: Log, home: NamespaceID) {
        self.loop = loop
        self.log = log
        self.home = home
    }

    /// Begins to serve at the two sockets.
    func serve(agents: consuming SeqpacketSocket, ztunnels: consuming SeqpacketSocket, ztunnelUID: UInt32) throws {
        self.agents = try Acceptor(loop, log, name: "keeper.sock", socket: agents, allowedUID: 0) {
            [unowned self] socket, peer in
            try admit(AgentConnection.self)
            unknown.append(try AgentConnection(self, socket, peer))
        }
        self.ztunnels = try Acceptor(loop, log, name: "ztunnel.sock", socket: ztunnels, allowedUID: ztunnelUID) {
            [unowned self] socket, peer in
            try admit(ZtunnelConnection.self)
            unknown.append(try ZtunnelConnection(self, socket, peer))
        }
    }

    private func admit<Peer: Connection>(_: Peer.Type) throws {
        guard unknown.count(where: { $0 is Peer }) < Self.mostUnknownPeers else {
            throw Refusal("too many connections that have not said hello")
        }
    }

    // MARK: The agent

    func agentSaidHello(_ connection: AgentConnection) {
        unknown.removeAll { $0 === connection }
        guard agent !== connection else { return }
        let old = agent
        agent = connection
        log.info("an agent is here", ["pid": connection.peer.pid, "pods": pods.count])
        old?.close(because: Refusal("a newer agent is here"))
    }

    func ended(_ connection: AgentConnection) {
        unknown.removeAll { $0 === connection }
        guard agent === connection else { return }
        agent = nil
        log.warn("the agent is gone; the pods stay as they are", ["pods": pods.count])
    }

    func list() -> [PodStatus] { pods.keys.sorted().compactMap(status(of:)) }

    func add(_ description: KeeperPod, _ descriptor: consuming FileDescriptor) throws -> PodStatus {
        let namespace = SharedNamespace(try NetworkNamespace(owning: descriptor))
        try check(description, namespace.value.id)
        // What is being removed under this uid goes first: it may hold the ports.
        removals[description.uid]?.finish(because: "the pod is back")
        if let known = pods[description.uid] {
            if known.namespace.value.id == namespace.value.id {
                return try update(known, description)
            }
            log.info("a pod has a new namespace", ["uid": description.uid, "namespace": namespace.value.id])
            pods[description.uid] = nil
            for ztunnel in [active, successor, retired] { _ = ztunnel?.delete(description.uid) }
            known.end()
        }
        let pod = try Pod(loop, log, description, namespace, listening: active?.isPlain != true)
        pods[pod.uid] = pod
        log.info(
            "a pod's sockets are made",
            ["uid": pod.uid, "pod": "\(description.namespace)/\(description.name)", "namespace": namespace.value.id])
        let status = report(pod, asEvent: false)
        for ztunnel in [active, successor] {
            ztunnel?.add(pod.uid)
            if description.settings != .none { ztunnel?.update(pod.uid) }
        }
        return status
    }

    /// A pod that is known, perhaps with another mind about DNS.
    private func update(_ pod: Pod, _ description: KeeperPod) throws -> PodStatus {
        let old = pod.description
        pod.description = description
        if old.dns != description.dns {
            do {
                try pod.captureDNS(description.dns)
            } catch {
                pod.description.dns = old.dns
                throw error
            }
            for ztunnel in [active, successor] { ztunnel?.add(pod.uid) }
        } else if old.resolver != description.resolver {
            for ztunnel in [active, successor] { ztunnel?.configure(pod.uid) }
        }
        if old.settings != description.settings {
            for ztunnel in [active, successor, retired] { ztunnel?.update(pod.uid) }
        }
        return report(pod, asEvent: false)
    }

    private func check(_ pod: KeeperPod, _ id: NamespaceID) throws {
        guard id.inode == pod.netnsInode else {
            throw Refusal("the descriptor is \(id), but the request says net:[\(pod.netnsInode)]")
        }
        guard id != home else { throw Refusal("\(id) is the node's own network namespace, not a pod's") }
        for other in pods.values where other.uid != pod.uid && other.namespace.value.id == id {
            throw Refusal("\(id) belongs to the pod \(other.uid)")
        }
        guard pods[pod.uid] != nil || pods.count < Self.mostPods else {
            throw Refusal("there are \(Self.mostPods) pods already")
        }
        let length = Self.request(for: pod, handedOver: Pod.everyKind).encoded().count
        guard length <= ZDSRequest.plainLength else {
            throw Refusal("the pod's names take \(length) bytes in ZDS, \(ZDSRequest.plainLength) is the limit")
        }
    }

    func remove(_ uid: String, drain: Bool, for agent: AgentConnection, _ id: UInt64) {
        if let pod = pods.removeValue(forKey: uid) {
            let awaited = [active, successor, retired].filter { $0?.delete(uid) == true }
            let removal = Removal(pod, awaiting: awaited.compactMap { $0 }, keeper: self)
            removals[uid] = removal
            log.info("a pod is removed", ["uid": uid, "drain": drain])
        }
        guard let removal = removals[uid] else { return agent.reply(id) }
        removal.answer(agent, id)
        if !drain { removal.finish(because: nil) } else { removal.finishIfDone() }
    }

    func removed(_ removal: Removal) { removals[removal.pod.uid] = nil }

    // MARK: ztunnel

    func hello(from connection: ZtunnelConnection, _ hello: ZDSHello) throws {
        guard hello.version == ZDSHello.v1 else { throw Refusal("ztunnel speaks ZDS version \(hello.version), not 1") }
        // The end of the old one may have arrived in the same moment: take notice of it first.
        for old in [active, successor] { old?.receive() }
        let plain = hello.handover == 0
        let role: ZtunnelConnection.Role
        if let active {
            // Istio's ztunnel cannot announce itself: there the last one takes over, as with Istio's agent.
            guard successor == nil, hello.successor || (plain && active.isPlain), plain == active.isPlain else {
                ztunnels?.refuse("there is an active ztunnel, or a successor, already", connection.peer)
                return connection.close(because: nil)
            }
            role = .successor
            successor = connection
        } else {
            role = .active
            active = connection
            // It binds the ports itself.
            if plain { for pod in pods.values { pod.stopListening() } }
        }
        unknown.removeAll { $0 === connection }
        let updated = Set(pods.values.filter { $0.description.settings != .none }.map(\.uid))
        connection.begin(with: pods.keys.sorted(), updated: updated, handover: hello.handover, as: role)
        log.info(
            "a ztunnel is here", ["pid": connection.peer.pid, "role": role, "handover": !plain, "pods": pods.count])
    }

    /// AddWorkload for a pod, and its descriptors.
    func addition(of uid: String, plain: Bool) throws -> (ZDSRequest, [CInt]) {
        guard let pod = pods[uid] else { throw Refusal("the pod is gone") }
        if plain { return (Self.request(for: pod.description, handedOver: []), [pod.namespace.value.raw]) }
        do {
            try pod.mend()
        } catch {
            throw Refusal("the keeper cannot make the pod's sockets: \(error)")
        }
        let sockets = pod.handedOver
        return (Self.request(for: pod.description, handedOver: sockets.map(\.kind)), sockets.map(\.descriptor))
    }

    /// Whom a pod's DNS is forwarded to; `nil` when there is nothing to tell.
    func configuration(of uid: String) -> ZDSRequest? {
        guard let pod = pods[uid], pod.description.dns, let resolver = pod.description.resolver else { return nil }
        return .configure(uid: uid, resolver: resolver)
    }

    private static func request(for pod: KeeperPod, handedOver: [HandoverDescriptor]) -> ZDSRequest {
        let info = ZDSWorkloadInfo(name: pod.name, namespace: pod.namespace, serviceAccount: pod.serviceAccount)
        return .add(uid: pod.uid, info: info, descriptors: handedOver)
    }

    func answered(_ connection: ZtunnelConnection, _ item: ZDSServerSession.Item, error: String) {
        switch item {
        case .add(let uid):
            if !error.isEmpty { log.warn("ztunnel refuses a pod", ["uid": uid, "error": error]) }
            if connection === active, let pod = pods[uid] { report(pod) }
        case .configure(let uid):
            if !error.isEmpty { log.warn("ztunnel refuses a pod's name servers", ["uid": uid, "error": error]) }
        case .update(let uid):
            if !error.isEmpty { log.warn("ztunnel refuses a pod's settings", ["uid": uid, "error": error]) }
        case .delete(let uid):
            if !error.isEmpty { log.warn("ztunnel could not let go of a pod", ["uid": uid, "error": error]) }
            removals[uid]?.done(connection)
        case .snapshotSent:
            guard error.isEmpty else {
                return connection.close(because: Refusal("ztunnel refuses the snapshot: \(error)"))
            }
            log.info("ztunnel has all pods", ["pid": connection.peer.pid, "role": connection.role])
            if connection === successor { takeOver() }
        }
    }

    private func takeOver() {
        guard let next = successor else { return }
        if let old = active {
            retired?.close(because: Refusal("two more ztunnels have come since"))
            retired = old
            old.role = .retired
        }
        active = next
        successor = nil
        next.role = .active
        log.info("a ztunnel has taken over", ["pid": next.peer.pid])
        for pod in pods.values { report(pod) }
    }

    func ended(_ connection: ZtunnelConnection) {
        unknown.removeAll { $0 === connection }
        if retired === connection { retired = nil }
        if successor === connection { successor = nil }
        if active === connection {
            active = nil
            log.warn("the active ztunnel is gone; connections wait", ["pid": connection.peer.pid, "pods": pods.count])
            if successor == nil {
                // The one before may run still: told to, it connects again and gets the pods anew.
                retired?.close(because: Refusal("the ztunnel that had taken over is gone"))
                retired = nil
                for pod in pods.values { report(pod) }
                if connection.isPlain { listenAgain() }
            } else {
                takeOver()
            }
        }
        for removal in removals.values { removal.done(connection) }
    }

    /// Makes the listeners again that a ztunnel of Istio's had in its own hands, so that connections wait for the next
    /// one; the dying one may hold the ports for a moment.
    func listenAgain() {
        if let listenRetry { loop.cancel(listenRetry) }
        listenRetry = nil
        guard active?.isPlain != true else { return }
        var failure: (any Error)?
        for pod in pods.values where !pod.isListening {
            do { try pod.listen() } catch { failure = error }
        }
        guard let failure else { return }
        log.warn("cannot listen in every pod yet; trying again", ["error": failure])
        listenRetry = loop.schedule(after: .milliseconds(Int.random(in: 200...400)), self)
    }

    func timerFired(tag: Int) {
        if takeover == nil { listenAgain() }
    }

    // MARK: States

    func status(of uid: String) -> PodStatus? { pods[uid].map(status) }

    private func status(_ pod: Pod) -> PodStatus {
        var status = PodStatus(
            uid: pod.uid, netnsInode: pod.namespace.value.id.inode, name: pod.description.name,
            namespace: pod.description.namespace, serviceAccount: pod.description.serviceAccount, state: .waiting)
        switch active?.standing(of: pod.uid) {
        case nil: break
        case .served: status.state = .served
        case .refused(let error):
            status.state = .failed
            status.error = HandoverLimits.shortened(error)
        }
        return status
    }

    /// Tells the agent if the pod's state is another than it knows.
    @discardableResult
    private func report(_ pod: Pod, asEvent: Bool = true) -> PodStatus {
        let status = status(pod)
        let news = status != pod.reported
        pod.reported = status
        if news, asEvent { agent?.podChanged(pod.uid) }
        return status
    }

    /// Closes everything.
    func end() {
        for removal in removals.values { removal.finish(because: "the keeper ends") }
        for pod in pods.values { pod.end() }
        pods = [:]
        for connection in connections { connection.close(because: nil) }
    }
}
