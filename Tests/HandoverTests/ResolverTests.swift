import Handover
import Testing

@Suite("A pod's name servers on their way to ztunnel")
struct ResolverTests {
    @Test func theLongestConfigurationFitsItsPacket() throws {
        // Kubernetes allows 2048 characters of search list.
        let domain = String(repeating: "a", count: 62)
        let resolver = PodResolver(
            servers: Array(repeating: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", count: PodResolver.mostServers),
            searchDomains: Array(repeating: domain, count: PodResolver.mostSearchDomains), timeout: 30, attempts: 5)
        let uid = String(repeating: "u", count: HandoverLimits.name)
        let message = ZDSRequest.configure(uid: uid, resolver: resolver)
        #expect(message.encoded().count <= ZDSRequest.maximumLength)
        #expect(try ZDSRequest(decoding: message.encoded()) == message)
        let pod = KeeperPod(
            uid: uid, name: uid, namespace: uid, serviceAccount: uid, dns: true, resolver: resolver, netnsInode: .max)
        let request = KeeperRequest(id: .max, command: .addPod(pod))
        #expect(request.encoded().count <= KeeperRequest.maximumLength)
    }

    @Test func moreThanThereMayBeIsRefused() {
        for resolver in [
            PodResolver(servers: Array(repeating: "1.1.1.1", count: PodResolver.mostServers + 1)),
            PodResolver(searchDomains: Array(repeating: "a", count: PodResolver.mostSearchDomains + 1)),
        ] {
            #expect(throws: HandoverError.self) {
                try ZDSRequest(decoding: ZDSRequest.configure(uid: "a", resolver: resolver).encoded())
            }
        }
    }

    @Test func aPodIsConfiguredAfterItsAdditionAndForgottenWithIt() {
        var session = ZDSServerSession(pods: ["a"])
        session.configure("a")
        #expect(session.queue == [.add("a"), .snapshotSent])
        #expect(session.next() == .add("a"))
        session.configure("a")
        session.configure("a")
        #expect(session.queue == [.snapshotSent, .configure("a")])
        _ = session.answered(error: "")
        let isAwaited = session.delete("a")
        #expect(isAwaited)
        #expect(session.queue == [.snapshotSent, .delete("a")])
    }

    @Test func aRetiredZtunnelIsNotConfigured() {
        var session = ZDSServerSession(pods: ["a"])
        _ = session.next()
        session.configure("a")
        session.retire()
        #expect(session.queue == [.snapshotSent])
    }
}
