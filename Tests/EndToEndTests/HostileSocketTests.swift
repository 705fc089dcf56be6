import Foundation
import Glibc
import Handover
import LinuxNetwork
import Testing

@testable import LocalCluster

extension EndToEnd {
    /// The node's unix sockets: garbage and other users get a closed connection, and the next good request works.
    @Suite("Hostile peers at the node's sockets", .serialized)
    struct HostileSocketTests {
        private static let garbage: [[UInt8]] = [
            [0], [0xff, 0xff, 0xff, 0xff], Array("GET / HTTP/1.1\r\n\r\n".utf8), [UInt8](repeating: 0x0a, count: 900),
            [0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], [UInt8](repeating: 0x80, count: 1024),
            [UInt8](repeating: 0x2a, count: 60_000),
        ]

        /// Starts and ends a pod in the mesh: agent, keeper and ztunnel all do their work.
        private func expectAPodStarts(_ stage: Stage, _ name: String) throws {
            let pod = try stage.startGuest(name, on: stage.client.node)
            #expect(try pod.client().get(stage.http(), path: "/\(name)", within: .seconds(10)).status == 200)
            try stage.endGuest(pod)
        }

        @Test func garbageIsAnsweredOrClosedAndDoesNoHarm() throws {
            try TestMesh.run { stage in
                let node = stage.client.node
                let before = stage.descriptors()
                for path in [node.cniSocket, node.keeperSocket, node.ztunnelSocket] {
                    for (index, bytes) in Self.garbage.enumerated() {
                        let socket = try SeqpacketSocket.connect(path: path, milliseconds: 2000)
                        do throws(SystemError) { try socket.send(bytes, descriptors: []) } catch {
                            // It was closed before we spoke: a second ztunnel, for example.
                            continue
                        }
                        let answered = try socket.waitReadable(milliseconds: 10_000)
                        #expect(answered, "\(path) left garbage \(index) open without a word")
                    }
                }
                try expectAPodStarts(stage, "after-garbage")
                try stage.expectServed()
                try stage.expectNoDescriptorsLeft(since: before)
            }
        }

        @Test func anotherUserIsNotServed() throws {
            try TestMesh.run { stage in
                let node = stage.client.node
                // Part of every Debian (perl-base is essential), and can become any user.
                let program = """
                    use Socket;
                    $( = $) = 65534; $< = $> = 65534;
                    socket(my $s, AF_UNIX, SOCK_SEQPACKET, 0) or exit 2;
                    if (!connect($s, sockaddr_un($ARGV[0]))) { print "refused"; exit 0 }
                    send($s, "\\x08\\x01", 0);
                    alarm 5;
                    my $n = sysread($s, my $answer, 100);
                    print defined($n) && $n > 0 ? "served" : "refused";
                    """
                for path in [node.cniSocket, node.keeperSocket, node.ztunnelSocket, stage.cluster.layout.tokenSocket] {
                    #expect(try Command.run("perl", "-e", program, path) == "refused", "\(path)")
                }
                try expectAPodStarts(stage, "after-another-user")
            }
        }

        @Test func thePluginNamesWhatIsWrongWithItsInput() throws {
            try TestMesh.run { stage in
                let node = stage.client.node
                let good = node.configurationList(onlyPlugin: true)
                #expect(good.contains("apus-cni"))
                let deep = String(repeating: "[", count: 500_000) + String(repeating: "]", count: 500_000)
                let cases: [(input: String, codes: Set<Int>)] = [
                    ("", [6]), ("not json", [6]), ("[1,2]", [6, 7]), ("{", [6]), (deep, [6, 7]),
                    (#"{"cniVersion":"1.0.0","name":5,"type":"apus-cni"}"#, [6, 7]),
                    (#"{"cniVersion":"1.0.0","type":"apus-cni"}"#, [7]),
                    (#"{"cniVersion":"9.0.0","name":"x","type":"apus-cni"}"#, [1]),
                    (#"{"cniVersion":"1.0.0","name":"x","type":"apus-cni","agentSocket":7}"#, [6, 7]),
                ]
                for (input, codes) in cases {
                    let error = try plugin(stage, input, netns: stage.client.namespacePath)
                    #expect(codes.contains(error?.code ?? -1), "\(input.prefix(60)): \(String(describing: error))")
                    #expect(error?.msg.isEmpty == false)
                }
                try expectAPodStarts(stage, "after-bad-netconf")
            }
        }

        @Test func aNamespaceThatIsNotThePodsIsRefused() throws {
            try TestMesh.run { stage in
                let before = stage.descriptors()
                let input = """
                    {"cniVersion":"1.0.0","name":"apus-n1","type":"apus-cni","agentSocket":"\(stage.client.node.cniSocket)",
                     "prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"x"}],
                     "ips":[{"address":"10.201.1.99/24","interface":0}]}}
                    """
                for path in [
                    "/run/netns/no-such-namespace", "/proc/1/ns/net", stage.client.node.namespace, "/proc/1/ns/mnt",
                    "/dev/null", stage.client.namespacePath, stage.server.namespacePath,
                ] {
                    let error = try plugin(stage, input, netns: path)
                    #expect(error != nil, "\(path) was taken")
                    #expect(error?.msg.isEmpty == false)
                }
                try stage.expectServed()
                try expectAPodStarts(stage, "after-wrong-namespaces")
                try stage.expectNoDescriptorsLeft(since: before)
            }
        }

        private struct PluginError: Decodable {
            let code: Int
            let msg: String
        }

        /// Runs ADD as a runtime does, for a pod of the labelled namespace.
        /// - Returns: The error object; `nil` when it succeeded.
        private func plugin(_ stage: Stage, _ input: String, netns: String) throws -> PluginError? {
            var command = Command([stage.cluster.configuration.programs.plugin], namespace: stage.client.node.namespace)
            command.input = Data(input.utf8)
            command.environment = [
                "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "hostile", "CNI_NETNS": netns, "CNI_IFNAME": "eth0",
                "CNI_PATH": "/usr/lib/cni",
                "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=client;K8S_POD_UID=none",
            ]
            let result = try command.run()
            if result.status == 0 { return nil }
            return try JSONDecoder().decode(PluginError.self, from: result.output)
        }
    }
}
