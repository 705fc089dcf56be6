import Glibc
import Handover
import LinuxNetwork
import Testing

/// The point of it all: the process that parses bytes from the network needs no privilege.
@Suite("A ztunnel without any privilege", .serialized)
struct UnprivilegedScenario {
    /// Speaks ZDS with hand-made bytes, accepts a waiting connection and connects to the app in the client's name.
    private static let program = """
        import errno, os, select, socket, sys
        for line in open("/proc/self/status"):
            if line.startswith("Cap"):
                assert int(line.split()[1], 16) == 0, line
        assert os.getuid() == 15000

        zds = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        zds.settimeout(10)
        zds.connect(sys.argv[1])
        zds.send(bytes([0x08, 1, 0xc0, 0x3e, 1]))
        request, handed, flags, _ = socket.recv_fds(zds, 1024, 253)
        assert request[0] == 0x0a and request.endswith(bytes([0xc2, 0x3e, 4, 1, 2, 3, 6])), request
        zds.send(bytes([0x0a, 0]))
        assert zds.recv(1024) == bytes([0x1a, 0])
        zds.send(bytes([0x0a, 0]))
        listener = socket.socket(fileno=handed[0])
        stock = socket.socket(fileno=handed[3])

        listener.settimeout(10)
        client, _ = listener.accept()
        client.settimeout(10)
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == 0x539

        select.select([stock], [], [], 10)
        families, sockets, _, _ = socket.recv_fds(stock, 32, 32)
        assert families == bytes([6]) * len(sockets), families
        upstream = socket.socket(fileno=sockets[0])
        upstream.bind(("::ffff:203.0.113.7", 0))
        try:
            upstream.connect(("::ffff:10.77.0.1", 8080))
        except BlockingIOError:
            pass
        assert select.select([], [upstream], [], 10)[1]
        assert upstream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        assert upstream.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == 0x539
        upstream.setblocking(True)
        upstream.sendall(client.recv(100))
        client.sendall(upstream.recv(100))

        own = socket.socket()
        for option in ((socket.SOL_SOCKET, socket.SO_MARK, 0x539), (socket.IPPROTO_IP, 19, 1)):
            try:
                own.setsockopt(*option)
                assert False, "an own socket got " + str(option)
            except PermissionError:
                pass
        print("done")
        """

    @Test func acceptsAndConnectsInTheClientsName() throws {
        let keeper = try KeeperProcess(ztunnelUID: 15000)
        let pod = try TestPod("a")
        // Replies to the client's address come back to ztunnel's socket, as the redirection's routes see to in a pod.
        let address = "10.77.0.1"
        try pod.namespace.run {
            for command in [
                "ip address add \(address)/32 dev lo", "ip route add local default dev lo table 100",
                "ip rule add fwmark 0x539/0xfff lookup 100", "ip route add default dev lo",
                "sysctl -qw net.ipv4.tcp_fwmark_accept=1",
            ] { try run("sh", "-c", command, in: keeper.directory) }
        }
        let app = try pod.listen(port: 8080)
        let agent = try keeper.agent()
        #expect(try agent.add(pod).error == nil)
        let client = try pod.connect("127.0.0.1:15001")
        #expect(write(client.raw, "hello", 5) == 5)

        let ztunnel = try Child(
            [
                "setpriv", "--reuid", "15000", "--regid", "15000", "--clear-groups", "--bounding-set=-all",
                "--inh-caps=-all", "--no-new-privs", "/usr/bin/python3", "-c", Self.program, keeper.ztunnelSocket,
            ], output: keeper.directory + "/out")
        _ = try agent.expect("a", .served)
        guard ready(app.raw, POLLIN), let accepted = try Sockets.accept(app.raw) else {
            throw Complaint("the app sees no connection: \(try text(of: ztunnel.output))")
        }
        let peer = accepted.peer
        #expect(peer.map { "\($0.address)" } == "203.0.113.7", "the app sees the client's address")
        let connection = accepted.takeDescriptor()
        try #require(ready(connection.raw, POLLIN))
        var buffer = [UInt8](repeating: 0, count: 16)
        #expect(read(connection.raw, &buffer, 16) == 5)
        #expect(write(connection.raw, "world!", 6) == 6)
        try #require(ready(client.raw, POLLIN))
        #expect(read(client.raw, &buffer, 16) == 6)
        #expect(try ztunnel.exitCode() == 0)
        #expect(try text(of: ztunnel.output) == "done\n")
    }
}
