import Handover

/// One value of each message with every field set, for tests that go over all of them.
enum Samples {
    static let resolver = PodResolver(
        servers: ["10.96.0.10", "fd00::a"], searchDomains: ["shop.svc.cluster.local", "cluster.local"], timeout: 1,
        attempts: 3)
    static let pod = KeeperPod(
        uid: "pod-1", name: "client", namespace: "shop", serviceAccount: "buyer", dualStack: true, dns: true,
        resolver: resolver, netnsInode: 4_026_532_000,
        settings: PodSettings(connectionLimit: 100, connectionRate: 7, isTerminating: true))
    static let status = PodStatus(
        uid: "pod-1", netnsInode: 4_026_532_000, name: "client", namespace: "shop", serviceAccount: "buyer",
        state: .failed, error: "no room")

    static let cniRequests = [
        CNIRequest(verb: .status),
        CNIRequest(
            verb: .add, networkName: "net", containerID: "c0ffee", interfaceName: "eth0", netnsPath: "/run/netns/a",
            podName: "client", podNamespace: "shop", podUID: "u-1", addresses: ["10.0.0.5/24", "fd00::5/64"]),
        CNIRequest(
            verb: .gc, networkName: "net",
            validAttachments: [
                .init(containerID: "a", interfaceName: "eth0"), .init(containerID: "", interfaceName: ""),
            ]),
    ]
    static let cniReplies = [CNIReply(), CNIReply(code: 11, message: "try again", details: "the agent restarts")]
    static let keeperRequests = [
        KeeperRequest(id: 1, command: .hello(version: KeeperRequest.version)),
        KeeperRequest(id: 1, command: .hello(version: KeeperRequest.version, keeps: true)),
        KeeperRequest(id: 2, command: .addPod(pod)),
        KeeperRequest(id: 2, command: .addPod(pod, listeners: [.listenerOutbound, .listenerHBONE])),
        KeeperRequest(id: 3, command: .removePod(uid: "pod-1", drain: true)),
        KeeperRequest(id: .max, command: .list),
        KeeperRequest(id: 4, command: .takeover(version: KeeperRequest.takeoverVersion)),
        KeeperRequest(id: 5, command: .taken(error: "")),
        KeeperRequest(id: 6, command: .taken(error: "not one of ours")),
        KeeperRequest(id: 7, command: .named),
    ]
    static let keeperMessages = [
        KeeperMessage(.reply(KeeperReply(id: 7))),
        KeeperMessage(.reply(KeeperReply(id: 8, error: "", pods: [status, status], more: true))),
        KeeperMessage(.reply(KeeperReply(id: 9, pods: [status], listeners: [.listenerOutbound, .listenerDNSUDP]))),
        KeeperMessage(.podStatus(status)),
        KeeperMessage(
            .handed(
                KeptPod(
                    pod: pod, descriptors: [.namespace, .listenerHBONE, .stock, .stockSource], stockTarget: 512,
                    datagramTarget: 16))),
        KeeperMessage(.handedAll(pods: 4096)),
    ]
    static let hellos = [ZDSHello(), ZDSHello(handover: 1, successor: true)]
    static let info = ZDSWorkloadInfo(name: "client", namespace: "shop", serviceAccount: "buyer")
    static let requests: [ZDSRequest] = [
        .add(uid: "pod-1", info: info, descriptors: []),
        .add(
            uid: "pod-1", info: info,
            descriptors: [.listenerOutbound, .listenerInboundPlaintext, .listenerHBONE, .stock, .init(rawValue: 300)]),
        .keep(uid: "pod-1"),
        .delete(uid: "pod-1"),
        .snapshotSent,
        .configure(uid: "pod-1", resolver: resolver),
        .configure(uid: "pod-1", resolver: PodResolver()),
        .update(uid: "pod-1", PodSettings(connectionLimit: 100, connectionRate: 7, isTerminating: true)),
        .update(uid: "pod-1", .none),
    ]
    static let responses = [ZDSResponse(), ZDSResponse(error: "failure to start proxy")]
    static let tokenRequests = [TokenRequest(node: "n1")]
    static let tokenReplies = [
        TokenReply(error: "no such node"),
        TokenReply(token: "a.b.c", rootPEM: "-----BEGIN CERTIFICATE-----\n", expiresAt: -1),
    ]

    /// Every encoded sample with a decoder that returns the re-encoding of what it understood.
    static var all: [(name: String, bytes: [UInt8], decode: @Sendable ([UInt8]) throws -> [UInt8])] {
        func entries<Message: HandoverMessage>(
            _ messages: [Message]
        ) -> [(name: String, bytes: [UInt8], decode: @Sendable ([UInt8]) throws -> [UInt8])] {
            messages.map { message in
                (Message.name, message.encoded(), { bytes in try Message(decoding: bytes).encoded() })
            }
        }
        return entries(cniRequests) + entries(cniReplies) + entries(keeperRequests) + entries(keeperMessages)
            + entries(hellos) + entries(requests) + entries(responses) + entries(tokenRequests)
            + entries(tokenReplies)
    }
}

/// A small generator with a fixed seed (splitmix64), so that a failure can be run again.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
}
