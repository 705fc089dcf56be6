import Addressing
import DNS
import Foundation
import LinuxNetwork
import Synchronization
import Testing

@testable import Ztunnel

/// Addresses of hosts that workloads name, against name servers of the test on this machine's loopback.
@Suite("Host resolver", .serialized)
struct HostResolverTests {
    private final class Rig {
        let loop: EventLoop
        let resolver: HostResolver
        let server: NameServer

        init(
            hosts: String = "", rounds: Int = 1, _ behaviour: @escaping NameServer.Behaviour
        ) throws {
            loop = try EventLoop()
            let server = try NameServer(address: .loopbackV4, port: 0, behaviour)
            self.server = server
            let path = FileManager.default.temporaryDirectory.path + "/hosts-\(UInt32.random(in: 0 ... .max))"
            try Data(hosts.utf8).write(to: URL(fileURLWithPath: path))
            let port = server.port
            resolver = HostResolver(loop: loop, files: HostFiles(hostsPath: path)) { _ in
                var settings = UpstreamSettings(servers: [Endpoint(.loopbackV4, port)])
                settings.rounds = rounds
                settings.timeout = .milliseconds(300)
                return settings
            }
        }

        deinit { server.stop() }

        func resolve(_ host: String) throws -> String {
            var result: Result<[IPAddress], HostResolver.Failure>?
            resolver.resolve(host) { result = $0 }
            let deadline = MonotonicClock.now + 10_000_000_000
            while result == nil, MonotonicClock.now < deadline { try loop.runRound(waitAtMostMilliseconds: 50) }
            switch result {
            case .success(let addresses): return addresses.sorted().map(\.description).joined(separator: " ")
            case .failure(let failure): return "\(failure.code)"
            case nil: throw Unmet("no result for \(host)")
            }
        }
    }

    /// 10.0.0.1 for A, fd00::1 for AAAA.
    private static func both(_ heard: NameServer.Heard) -> [[UInt8]] {
        guard let question = (try? DNSMessage(parsing: heard.bytes))?.questions.first else { return [] }
        guard question.type == .aaaa else { return [TestMessage.reply(heard.bytes)] }
        var reply = TestMessage.reply(heard.bytes, [])
        reply[7] = 1
        let address: [UInt8] = [0xfd, 0] + Array(repeating: 0, count: 13) + [1]
        return [reply + [0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16] + address]
    }

    @Test("both families are asked for, and the answer is kept")
    func keptAnswer() throws {
        let rig = try Rig(Self.both)
        #expect(try rig.resolve("db.example.com") == "10.0.0.1 fd00::1")
        #expect(try rig.resolve("DB.example.com.") == "10.0.0.1 fd00::1")
        #expect(rig.resolver.asked == 1)
        #expect(rig.server.heard.count == 2)
    }

    @Test("those who ask for one host at one time share the question")
    func shared() throws {
        let rig = try Rig(Self.both)
        var answers = 0
        for _ in 0..<10 { rig.resolver.resolve("db.example.com") { _ in answers += 1 } }
        #expect(try rig.resolve("db.example.com") == "10.0.0.1 fd00::1")
        #expect(answers == 10 && rig.server.heard.count == 2)
    }

    @Test("an address, and a name of the hosts file, need no server")
    func local() throws {
        let rig = try Rig(hosts: "# mine\n192.0.2.7 other here.example.com\n", Self.both)
        #expect(try rig.resolve("192.0.2.1") == "192.0.2.1")
        #expect(try rig.resolve("here.example.com") == "192.0.2.7")
        #expect(rig.server.heard.isEmpty)
    }

    @Test("silence, refusal, no addresses, and what is no name")
    func failures() throws {
        #expect(try Rig { _ in [] }.resolve("db.example.com") == "unanswered")
        #expect(try Rig { [TestMessage.reply($0.bytes, [], code: 2)] }.resolve("db.example.com") == "unanswered")
        #expect(try Rig { [TestMessage.reply($0.bytes, [])] }.resolve("db.example.com") == "noAddresses")
        #expect(try Rig(Self.both).resolve("a..b") == "noAddresses")
    }

    @Test("one family is enough")
    func oneFamily() throws {
        let rig = try Rig { heard in
            let isA = (try? DNSMessage(parsing: heard.bytes))?.questions.first?.type == .a
            return isA ? [TestMessage.reply(heard.bytes)] : []
        }
        #expect(try rig.resolve("db.example.com") == "10.0.0.1")
    }
}
