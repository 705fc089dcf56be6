import Addressing
import Foundation
import Glibc
import LinuxNetwork
import Testing

@testable import HBONE

/// One peer that abuses its connection, and a good connection on the same loop, over real sockets.
///
/// Memory is what the connection holds, counted; latency is the good connection's, against what it was before.
private final class AbuseRig {
    let neighbour: TunnelRig
    let owner = Owner()
    let server: HBONEConnection
    let peer: RawPeer
    /// The most that the abused connection has held.
    private(set) var most = 0
    private let echo: (app: TestApp, owner: StreamOwner)

    init(_ settings: HBONESettings = .server) throws {
        neighbour = try TunnelRig()
        let (one, other) = try TestSockets.pair()
        peer = try RawPeer(one)
        server = try HBONEConnection.serve(
            FileDescriptor(owning: other), on: neighbour.loop, context: TestMaterial.server.get(), settings: settings,
            delegate: owner)
        echo = try neighbour.openTunnel()
        try neighbour.run("the handshakes") { [self] in
            peer.pump()
            return peer.isEstablished && owner.established == 1 && neighbour.serverApps.count == 1
        }
        try peer.say(Frames.preface + Frames.settings + Frames.settingsAcknowledgement)
        _ = try roundTrip()
    }

    deinit { server.close() }

    /// Rounds of the loop that an echo of 1 KiB through the good connection takes.
    func roundTrip() throws -> Int {
        let expected = echo.app.received + 1024
        echo.app.toSend += 1024
        var rounds = 0
        try neighbour.run("the neighbour's echo") {
            rounds += 1
            most = max(most, server.heldBytes)
            return echo.app.received >= expected
        }
        #expect(echo.app.isIntact)
        return rounds
    }

    /// Sends what `attack` gives, over and over, with an echo of the neighbour's after each, until the connection is
    /// ended or so many times.
    /// - Parameter reading: whether the attacker reads what it is told.
    /// - Returns: How often it was sent.
    func attack(times: Int, reading: Bool = true, _ attack: (Int) -> [UInt8]) throws -> Int {
        var quiet: [Int] = []
        for _ in 0..<20 { quiet.append(try roundTrip()) }
        var busy: [Int] = []
        var count = 0
        while count < times, owner.closed == 0 {
            try peer.say(attack(count))
            busy.append(try roundTrip())
            if reading { peer.pump() }
            count += 1
        }
        // In rounds of the loop, each of which gives every connection its turn: this does not depend on the machine.
        let usual = quiet.sorted()[quiet.count / 2]
        if !busy.isEmpty {
            #expect(
                busy.sorted()[busy.count / 2] <= 2 * usual + 2, "the neighbour waits: \(usual) rounds, then \(busy)")
        }
        return count
    }
}

extension HBONEConnection {
    /// What the connection holds in memory for its peer, beside a fixed size.
    var heldBytes: Int {
        let frames = http2.control.capacity + http2.gathered.capacity + (http2.headerBlock?.bytes.capacity ?? 0)
        let records = tls?.keptCount ?? 0
        let buffered = output == nil ? 0 : BufferPool.bufferSize
        let tables =
            http2.streams.capacity * (MemoryLayout<HTTP2Stream>.stride + 8) + http2.recentlyReset.capacity * 4
        let backlogs = streams.values.reduce(0) { $0 + $1.backlog.count + 512 }
        return frames + records + buffered + tables + backlogs
    }
}

@Suite("Abuse of HTTP/2 over real connections", .serialized)
struct AbuseTests {
    private static let ping = Frames.frame(FrameType.ping, 0, 0, [UInt8](repeating: 1, count: 8))

    private func repeated(_ frame: [UInt8], _ count: Int) -> [UInt8] {
        Array(repeatElement(frame, count: count).joined())
    }

    /// The connection was ended with ENHANCE_YOUR_CALM, its streams are gone, and no buffer stayed lent.
    private func expectEnded(_ rig: AbuseRig, below limit: Int) throws {
        #expect(rig.owner.closed == 1)
        #expect(rig.owner.error?.http2Code == HTTP2Code.enhanceYourCalm)
        #expect(rig.server.streamCount == 0)
        #expect(rig.most <= limit, "held \(rig.most) bytes")
        #expect(rig.neighbour.clientOwner.closed == 0)
        #expect(try rig.roundTrip() > 0)
    }

    @Test("rapid reset: the connection is ended, its work is bounded, the neighbour does not wait")
    func rapidReset() throws {
        let rig = try AbuseRig()
        var open = 0
        rig.owner.onRequest = { stream, _ in
            open += 1
            stream.delegate = StreamOwner()
        }
        let sent = try rig.attack(times: 100) { turn in
            (0..<50).flatMap { index -> [UInt8] in
                let stream = UInt32(2 * (turn * 50 + index) + 1)
                return Frames.connect(stream) + Frames.reset(stream)
            }
        }
        // How much the kernel took meanwhile is its own affair; it was cut short, and no more than this was served.
        #expect(sent < 100)
        #expect(open <= 1001)
        try expectEnded(rig, below: BufferPool.bufferSize + 256 << 10)
    }

    @Test("CONTINUATION flood: no more than a header list is gathered")
    func continuationFlood() throws {
        let rig = try AbuseRig()
        let piece = Frames.frame(FrameType.continuation, 0, 1, [UInt8](repeating: 0x41, count: 1000))
        let sent = try rig.attack(times: 100) { turn in
            turn == 0 ? Frames.headers(1, Frames.connectBlock, last: false) : piece
        }
        #expect(sent < 100)
        try expectEnded(rig, below: BufferPool.bufferSize + 128 << 10)
    }

    @Test("SETTINGS flood", arguments: [true, false])
    func settingsFlood(reading: Bool) throws {
        let rig = try AbuseRig()
        let sent = try rig.attack(times: 100, reading: reading) { _ in repeated(Frames.setting(4, 70_000), 10) }
        #expect(sent <= 11)
        try expectEnded(rig, below: BufferPool.bufferSize + 64 << 10)
    }

    @Test("PING flood", arguments: [true, false])
    func pingFlood(reading: Bool) throws {
        let rig = try AbuseRig()
        let sent = try rig.attack(times: 100, reading: reading) { _ in repeated(Self.ping, 100) }
        #expect(sent <= 11)
        try expectEnded(rig, below: BufferPool.bufferSize + 64 << 10)
    }

    @Test("a header list beyond 64 KiB is refused before it is gathered")
    func headerList() throws {
        let rig = try AbuseRig()
        let block = Frames.block([
            (":method", "CONNECT"), (":authority", "a:1"), ("x", String(repeating: "a", count: 70_000)),
        ])
        try rig.peer.say(Frames.headers(1, block))
        _ = try rig.roundTrip()
        try expectEnded(rig, below: BufferPool.bufferSize + 128 << 10)
    }

    @Test("zero-window stall: 200 streams that may not send hold nothing of their applications' bytes")
    func zeroWindow() throws {
        let rig = try AbuseRig()
        var apps: [TestApp] = []
        let limits = Frames.setting(SettingID.initialWindowSize, 0)
        rig.owner.onRequest = { stream, _ in
            do {
                let (inside, outside) = try TestSockets.pair()
                let app = TestApp(outside)
                app.toSend = 64 << 10
                apps.append(app)
                let owner = StreamOwner()
                stream.accept(delegate: owner)
                stream.relay(with: FileDescriptor(owning: inside), meter: owner)
            } catch {
                Issue.record("no application: \(error)")
            }
        }
        try rig.peer.say(limits)
        _ = try rig.attack(times: 20) { turn in
            for app in apps { app.pump() }
            return (0..<10).flatMap { Frames.connect(UInt32(2 * (turn * 10 + $0) + 1)) }
        }
        for _ in 0..<10 {
            for app in apps { app.pump() }
            _ = try rig.roundTrip()
        }
        #expect(apps.count == 200 && rig.server.streamCount == 200)
        #expect(rig.owner.closed == 0)
        // A stall is no offence; it holds the streams and nothing else.
        #expect(rig.most <= BufferPool.bufferSize + 256 << 10, "held \(rig.most) bytes")
        #expect(!rig.peer.frames.contains { $0.header.type == FrameType.data && $0.header.length > 0 })
        // Nobody is asked again and again for what cannot be sent.
        #expect(rig.server.sendQueue.isEmpty)
        // The window opens, and everything comes.
        try rig.peer.say(Frames.setting(SettingID.initialWindowSize, 1 << 20) + Frames.windowUpdate(0, 64 << 20))
        try rig.neighbour.run("the bytes") {
            for app in apps { app.pump() }
            rig.peer.pump()
            return rig.peer.plaintext.count > 200 * 64 << 10
        }
    }

    @Test("a window of one byte at a time is served, and the neighbour does not wait")
    func tinyWindow() throws {
        let rig = try AbuseRig()
        let app = try TestSockets.pair()
        let source = TestApp(app.1)
        source.toSend = 1 << 20
        let owner = StreamOwner()
        rig.owner.onRequest = { stream, _ in
            stream.accept(delegate: owner)
            stream.relay(with: FileDescriptor(owning: app.0), meter: owner)
        }
        try rig.peer.say(Frames.setting(SettingID.initialWindowSize, 0) + Frames.connect(1))
        _ = try rig.attack(times: 200) { _ in
            source.pump()
            return Frames.windowUpdate(1, 1)
        }
        #expect(owner.metered.to <= 200)
        #expect(rig.owner.closed == 0)
        #expect(rig.most <= BufferPool.bufferSize + 64 << 10, "held \(rig.most) bytes")
    }

    @Test("a client that sends to an application which does not read holds its windows and no more")
    func slowApplication() throws {
        var settings = HBONESettings.server
        settings.streamWindow = 256 << 10
        let rig = try AbuseRig(settings)
        let app = try TestSockets.pair()
        defer { _ = close(app.1) }
        let owner = StreamOwner()
        rig.owner.onRequest = { stream, _ in
            stream.accept(delegate: owner)
            stream.relay(with: FileDescriptor(owning: app.0), meter: owner)
        }
        try rig.peer.say(Frames.connect(1))
        let chunk = Frames.data(1, [UInt8](repeating: 1, count: 16384))
        // Far beyond the window: a good client would have stopped.
        let sent = try rig.attack(times: 2000) { _ in chunk }
        #expect(sent < 2000)
        #expect(rig.owner.error?.http2Code == HTTP2Code.flowControlError)
        #expect(rig.most <= BufferPool.bufferSize + settings.streamWindow + 64 << 10, "held \(rig.most) bytes")
    }
}

/// Handshakes that begin and never end.
@Suite("Abuse of TLS over real connections", .serialized)
struct HandshakeAbuseTests {
    /// Bytes of the process that are in memory.
    private func resident() throws -> Int {
        let text = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8)
        let pages = try #require(text.split(separator: " ").dropFirst().first.flatMap { Int($0) })
        return pages * Int(sysconf(CInt(_SC_PAGESIZE)))
    }

    /// Rounds of the loop that an echo of 1 KiB through the good connection takes.
    private func rounds(_ neighbour: TunnelRig, _ app: TestApp) throws -> Int {
        let expected = app.received + 1024
        app.toSend += 1024
        var rounds = 0
        try neighbour.run("the neighbour's echo") {
            rounds += 1
            return app.received >= expected
        }
        return rounds
    }

    @Test("10,000 half-open handshakes cost a bounded piece of memory each, and the neighbour does not wait")
    func halfOpen() throws {
        let count = 10_000
        try raiseDescriptorLimit(to: UInt(count + 1000))
        // They are to be there all at once, however slow the machine is.
        var settings = HBONESettings.server
        settings.handshakeTimeout = .seconds(120)
        let neighbour = try TunnelRig()
        let echo = try neighbour.openTunnel()
        try neighbour.run("the neighbour") { neighbour.serverApps.count == 1 }
        func roundTrip() throws -> Int { try rounds(neighbour, echo.app) }
        var quiet: [Int] = []
        for _ in 0..<20 { quiet.append(try roundTrip()) }

        let listener = try TestSockets.listener()
        // Room for those that come while an echo is under way.
        try Sockets.listen(listener.descriptor, backlog: 4096)
        let flood = try Flood(count, at: listener.endpoint)
        var servers: [HBONEConnection] = []
        defer {
            for server in servers { server.close() }
            _ = close(listener.descriptor)
        }
        let owner = Owner()
        var busy: [Int] = []
        let before = try resident()
        let lent = neighbour.loop.pool.lent
        try neighbour.run(seconds: 60, "the flood") {
            do {
                while let accepted = try Sockets.accept(listener.descriptor) {
                    servers.append(
                        try HBONEConnection.serve(
                            accepted.takeDescriptor(), on: neighbour.loop, context: TestMaterial.server.get(),
                            settings: settings, delegate: owner))
                    if servers.count % 500 == 0 { busy.append(try roundTrip()) }
                }
            } catch {
                Issue.record("accept: \(error)")
                return true
            }
            return servers.count == count
        }
        // Each has taken the beginning of its hello.
        try neighbour.run("the hellos") { servers.allSatisfy { $0.tls != nil } }
        for _ in 0..<20 { busy.append(try roundTrip()) }
        let each = (try resident() - before) / count
        // The thread sanitizer keeps as much again, and more, for what it watches.
        let limit = ProcessInfo.processInfo.environment["TSAN_OPTIONS"] == nil ? 32 << 10 : 128 << 10
        #expect(each < limit, "\(each) bytes for each half-open handshake")
        #expect(neighbour.loop.pool.lent == lent, "none holds a buffer")
        #expect(owner.established == 0)
        #expect(busy.sorted()[busy.count / 2] <= 2 * quiet.sorted()[quiet.count / 2] + 2)
        withExtendedLifetime(flood) {}
        for server in servers { server.close() }
        #expect(neighbour.loop.pool.lent == lent)
    }

    @Test(
        "slow-loris: a thousand hellos, a byte at a time, hold what they sent, make nobody wait, and run into the limit"
    )
    func slowLoris() throws {
        let count = 1000
        try raiseDescriptorLimit(to: UInt(2 * count + 2000))
        var settings = HBONESettings.server
        settings.handshakeTimeout = .milliseconds(300)
        let neighbour = try TunnelRig()
        let echo = try neighbour.openTunnel()
        try neighbour.run("the neighbour") { neighbour.serverApps.count == 1 }
        var quiet: [Int] = []
        for _ in 0..<20 { quiet.append(try rounds(neighbour, echo.app)) }
        let owner = Owner()
        var attackers: [CInt] = []
        var servers: [HBONEConnection] = []
        defer { for attacker in attackers { _ = close(attacker) } }
        for _ in 0..<count {
            let (one, other) = try TestSockets.pair()
            attackers.append(one)
            servers.append(
                try HBONEConnection.serve(
                    FileDescriptor(owning: other), on: neighbour.loop, context: TestMaterial.server.get(),
                    settings: settings, delegate: owner))
            _ = send(one, [22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc] as [UInt8], 9, CInt(MSG_NOSIGNAL))
        }
        let lent = neighbour.loop.pool.lent
        var (busy, most): ([Int], Int) = ([], 0)
        let end = MonotonicClock.now + 60_000_000_000
        while owner.closed < count, MonotonicClock.now < end {
            for attacker in attackers { _ = send(attacker, [0] as [UInt8], 1, CInt(MSG_NOSIGNAL)) }
            busy.append(try rounds(neighbour, echo.app))
            most = max(most, servers.reduce(0) { $0 + $1.heldBytes })
        }
        #expect(owner.closed == count)
        #expect(most <= count * 4096, "\(most / count) bytes for each hello")
        #expect(neighbour.loop.pool.lent <= lent, "none holds a buffer")
        #expect(busy.sorted()[busy.count / 2] <= 2 * quiet.sorted()[quiet.count / 2] + 2, "\(quiet) \(busy)")
        #expect(owner.error?.code == .handshakeTimedOut)
        #expect(owner.established == 0)
        #expect(echo.app.isIntact && neighbour.clientOwner.closed == 0)
    }

    private func raiseDescriptorLimit(to wanted: UInt) throws {
        var limit = rlimit()
        try #require(getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
        guard limit.rlim_cur < wanted else { return }
        try #require(limit.rlim_max >= wanted, "this test needs \(wanted) descriptors: raise the limit (ulimit -Hn)")
        limit.rlim_cur = limit.rlim_max
        try #require(setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
    }
}

/// Another process with many connections, each of which has sent the first bytes of a hello of 16 KiB and waits.
private final class Flood {
    private let process = Process()
    private let input = Pipe()

    init(_ count: Int, at endpoint: Endpoint) throws {
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [
            "python3", "-c",
            """
            import socket, sys
            held = []
            for index in range(int(sys.argv[2])):
                connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
                connection.sendall(bytes([22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc]) + bytes(200))
                held.append(connection)
            sys.stdin.read()
            """, "\(endpoint.port)", "\(count)",
        ]
        process.standardInput = input
        try process.run()
    }

    deinit {
        // It inherits a mask that blocks milder signals.
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }
}
