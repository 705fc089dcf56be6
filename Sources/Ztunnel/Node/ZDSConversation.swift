import Handover
import LinuxNetwork
import Logging

/// What the control side of one connection asks, done: pods served and stopped, answers worded. Apart from the socket's
/// coming and going, so that each rule can be tested by a packet.
///
/// With ``PodSocketMaker`` it speaks plain ZDS, where an addition carries one descriptor, the pod's network namespace;
/// without, the sockets themselves are handed over.
struct ZDSConversation {
    /// What becomes of the connection after an answer.
    enum Next: Equatable {
        case goOn
        /// The message was malformed: nothing said later can be relied on, a new connection starts from a snapshot.
        case reconnect(String)
        /// The control side broke the order of messages: no state can be trusted any more, the process is to drain and
        /// end.
        case giveUp(String)
    }

    /// A message that is not as it must be.
    struct Malformed: Error, CustomStringConvertible { let description: String }

    static let retryInterval: UInt64 = 5_000_000_000

    private let pods: any ServedPods
    private let socketMaker: PodSocketMaker?
    private let logger: Logger
    private var session = ZDSSession()
    private var waiting: [String: Waiting] = [:]

    /// A pod that was added and could not be served.
    private struct Waiting {
        let network: PodNetwork
        let info: ZDSWorkloadInfo
        var error: String
        var retryAt: UInt64
    }

    init(pods: any ServedPods, socketMaker: PodSocketMaker?, logger: Logger) {
        self.pods = pods
        self.socketMaker = socketMaker
        self.logger = logger
    }

    /// The snapshot is there and every pod in it is served.
    var isReady: Bool { session.hasSnapshot && waiting.isEmpty }
    var hasSnapshot: Bool { session.hasSnapshot }

    var pending: [String: PendingPod] {
        waiting.mapValues {
            PendingPod(
                name: $0.info.name, namespace: $0.info.namespace, serviceAccount: $0.info.serviceAccount,
                error: $0.error)
        }
    }

    /// Does what a packet says. Descriptors that are not taken are closed with the packet.
    mutating func answer(_ packet: inout Packet, now: UInt64) -> (answer: ZDSResponse, next: Next) {
        do {
            guard !packet.truncated else {
                throw Malformed(description: "the message or its descriptors are more than a message may have")
            }
            let request: ZDSRequest
            do {
                request = try ZDSRequest(decoding: packet.bytes)
            } catch {
                throw Malformed(description: "\(error)")
            }
            try checkDescriptors(request, packet.descriptors.count)
            try handle(request, &packet, now)
            return (ZDSResponse(), .goOn)
        } catch let breach as ZDSSession.Breach {
            return (ZDSResponse(error: "protocol error: \(breach)"), .giveUp("\(breach)"))
        } catch let malformed as Malformed {
            return (ZDSResponse(error: "\(malformed)"), .reconnect("\(malformed)"))
        } catch {
            logger.warning("a pod is not served", metadata: ["error": "\(error)"])
            return (ZDSResponse(error: "\(error)"), .goOn)
        }
    }

    private func checkDescriptors(_ request: ZDSRequest, _ count: Int) throws(Malformed) {
        if socketMaker != nil {
            switch request {
            case .configure, .update: throw Malformed(description: "a message that plain ZDS does not have")
            case .add, .keep, .delete, .snapshotSent: break
            }
        }
        guard case .add(let uid, _, _) = request else {
            guard count == 0 else {
                throw Malformed(description: "\(count) descriptors came with a message that carries none")
            }
            return
        }
        guard socketMaker != nil, count != 1 else { return }
        throw Malformed(description: "\(count) descriptors came with pod \(uid); one network namespace is wanted")
    }

    private mutating func handle(_ request: ZDSRequest, _ packet: inout Packet, _ now: UInt64) throws {
        let step =
            switch request {
            case .add(let uid, _, _): try session.add(uid)
            case .keep(let uid): try session.keep(uid)
            case .delete(let uid): try session.delete(uid)
            case .snapshotSent: try session.snapshotSent()
            case .configure(let uid, _): try session.configure(uid)
            case .update(let uid, _): try session.update(uid)
            }
        switch step {
        case .serve:
            guard case .add(let uid, let info, let kinds) = request else { return }
            guard let info else { throw HandedPodError("pod \(uid): no workload information") }
            guard let socketMaker else {
                return try pods.serve(HandedPod(uid: uid, info: info, kinds: kinds, packet: &packet))
            }
            guard let descriptor = packet.takeDescriptor() else { return }
            try serve(uid, info, try socketMaker.namespace(descriptor), with: socketMaker, now)
        case .stop(let uid):
            waiting[uid] = nil
            pods.stop(uid: uid)
        case .reconcile(let named): pods.stopAll(except: named)
        case .update(let uid):
            if case .update(_, let settings) = request { pods.update(uid: uid, settings) }
        case .configure(let uid):
            if case .configure(_, let resolver) = request { pods.configure(uid: uid, resolver: resolver) }
        case .nothing:
            // A deletion before the snapshot; what is served already is stopped by the reconciliation.
            if case .delete(let uid) = request { waiting[uid] = nil }
        }
    }

    // MARK: Pods whose sockets are made here

    private mutating func serve(
        _ uid: String, _ info: ZDSWorkloadInfo, _ network: PodNetwork, with sockets: PodSocketMaker, _ now: UInt64
    ) throws {
        waiting[uid] = nil
        if let served = pods.network(of: uid) {
            // The same pod once more, as after a reconnection.
            if served == network.id { return }
            // The name is the same and the pod another one: what ran in the old namespace is gone with it.
            pods.stop(uid: uid)
        }
        do {
            try pods.serve(sockets.make(uid: uid, info: info, in: network))
        } catch {
            waiting[uid] = Waiting(
                network: network, info: info, error: "\(error)", retryAt: now + Self.retryInterval)
            throw HandedPodError("failure to start proxy : \(error)")
        }
    }

    /// Tries again what could not be served; to be called about once a second.
    mutating func retry(now: UInt64) {
        guard let socketMaker else { return }
        for (uid, pod) in waiting where now >= pod.retryAt {
            do {
                try serve(uid, pod.info, pod.network, with: socketMaker, now)
                logger.info(
                    "a pod is served after all", metadata: ["pod": "\(pod.info.namespace)/\(pod.info.name)"])
            } catch {
                // Where it stays and is tried again, with the error for the config dump.
                logger.debug("a pod is still not served", metadata: ["uid": "\(uid)", "error": "\(error)"])
            }
        }
    }
}

/// A pod that could not be served yet, for the config dump.
struct PendingPod: Sendable {
    let name: String
    let namespace: String
    let serviceAccount: String
    let error: String
}
