import Addressing
import Foundation
import Testing

@testable import LocalCluster

extension EndToEnd {
    /// A client and a name server of others' making: `dig`, and Python's sockets.
    @Suite("DNS", .serialized)
    struct DNSTests {
        /// Answers A with 198.51.100.7, TXT with a text, UPDATE with NOERROR, and more than 512 bytes for `large.`: cut
        /// over UDP, whole over TCP.
        private static let nameServer = """
            import socket, struct, sys, threading
            def name_end(q):
                i = 12
                while q[i]: i += 1 + q[i]
                return i + 1
            def answer(q, tcp):
                end = name_end(q); kind = struct.unpack("!H", q[end:end+2])[0]
                question = q[12:end+4]; opcode = q[2] >> 3 & 15
                large = q[13:18] == b"large"
                records = []
                if opcode == 0 and kind == 1:
                    n = 60 if large else 1
                    records = [b"\\xc0\\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + bytes([198, 51, 100, 7 + i]) for i in range(n)]
                if opcode == 0 and kind == 16:
                    records = [b"\\xc0\\x0c" + struct.pack("!HHIH", 16, 1, 60, 6) + b"\\x05hello"]
                cut = large and not tcp
                flags = 0x8480 | (q[2] << 8 & 0x7900) | (0x200 if cut else 0)
                if cut: records = []
                return q[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0) + question + b"".join(records)
            def datagrams():
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((sys.argv[1], 53)); ready.release()
                while True:
                    q, peer = s.recvfrom(4096); s.sendto(answer(q, False), peer)
            def streams():
                s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                s.bind((sys.argv[1], 53)); s.listen(16); ready.release()
                while True:
                    c, _ = s.accept()
                    head = c.recv(2)
                    if len(head) == 2:
                        q = c.recv(struct.unpack("!H", head)[0]); a = answer(q, True)
                        c.sendall(struct.pack("!H", len(a)) + a)
                    c.close()
            ready = threading.Semaphore(0)
            for f in (datagrams, streams): threading.Thread(target=f, daemon=True).start()
            ready.acquire(); ready.acquire(); print("ready", flush=True)
            threading.Event().wait()
            """

        private func dig(_ words: String..., from pod: LocalPod) throws -> String {
            try Command.run(
                arguments: ["dig", "+short", "+tries=1", "+time=5", "@192.0.2.1"] + words, in: pod.namespacePath
            ).trimmingCharacters(in: .whitespacesAndNewlines)
        }

        @Test func aPodAsksTheMeshAndItsOwnNameServer() throws {
            try TestMesh.run(enrolled: false) { stage in
                let server = try stage.server.address(.v4)
                let log = stage.client.node.logs + "/dns-server.log"
                let names = try ChildProcess.start(
                    [try Launcher.find("python3"), "-c", Self.nameServer, "\(server)"], name: "dns-server",
                    environment: Launcher.environment(), namespace: stage.server.namespacePath, log: log)
                defer { names.terminate() }
                try Waiting.untilTrue("the name server", within: .seconds(10)) {
                    try String(contentsOfFile: log, encoding: .utf8).contains("ready")
                }
                // A process of the pod with a file system of its own, whose resolv.conf names the server.
                let file = stage.client.node.logs + "/resolv.conf"
                try Data("nameserver \(server)\nsearch shop.svc.cluster.local corp.test\n".utf8)
                    .write(to: URL(fileURLWithPath: file))
                let inside = try ChildProcess.start(
                    [
                        try Launcher.find("unshare"), "-m", "sh", "-c",
                        "mount --bind \(file) /etc/resolv.conf && echo mounted && exec sleep 600",
                    ], name: "pod-process", environment: Launcher.environment(),
                    namespace: stage.client.namespacePath, log: log)
                defer { inside.terminate() }
                try Waiting.untilTrue("the pod's process", within: .seconds(10)) {
                    try String(contentsOfFile: log, encoding: .utf8).contains("mounted")
                }
                try stage.enrol()

                // Nobody is at the address that is asked: what answers is the proxy.
                #expect(try dig("server.shop.svc.cluster.local", from: stage.client) == "10.96.0.10")
                #expect(try dig("server", "AAAA", from: stage.client) == "fd00:96::10")
                #expect(try dig("+tcp", "server.shop", from: stage.client) == "10.96.0.10")
                let pointer = try dig("-x", "10.96.0.10", from: stage.client)
                #expect(pointer == "server.shop.svc.cluster.local.")
                #expect(
                    try dig("server.shop.corp.test", from: stage.client).contains("10.96.0.10"),
                    "the search list is the pod's")
                // The rest is the pod's own server's.
                try Waiting.untilTrue("the agent to find the pod's name server", within: .seconds(30)) {
                    (try? dig("www.example.com", from: stage.client)) == "198.51.100.7"
                }
                #expect(try dig("www.example.com", "TXT", from: stage.client) == "\"hello\"")
                #expect(try dig("+tcp", "www.example.com", from: stage.client) == "198.51.100.7")
                let large = try dig("large.example.com", from: stage.client).split(separator: "\n")
                #expect(large.count == 60)
                // An update reaches the server it is sent to.
                let update = try Command.run(
                    arguments: ["dig", "+opcode=update", "+tries=1", "+time=5", "@\(server)", "zone.test", "SOA"],
                    in: stage.client.namespacePath)
                #expect(update.contains("opcode: UPDATE, status: NOERROR"))
                // Out of the mesh nobody answers at that address any more.
                try stage.unenrol()
                #expect(throws: (any Error).self) { try dig("server.shop.svc.cluster.local", from: stage.client) }
            }
        }
    }
}

extension Command {
    fileprivate static func run(arguments: [String], in namespace: String) throws -> String {
        let command = Command(arguments, namespace: namespace)
        let result = try command.run()
        guard result.status == 0 else { throw command.failure(result) }
        return result.text
    }
}
