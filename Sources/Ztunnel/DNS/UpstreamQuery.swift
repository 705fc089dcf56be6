import Addressing
import DNS
import Glibc
import LinuxNetwork

/// Why no name server answered.
struct UpstreamFailure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// How name servers are asked.
struct UpstreamSettings {
    /// In the order in which they are asked.
    var servers: [Endpoint]
    /// How often the whole list is gone through.
    var rounds = 2
    /// What one server gets.
    var timeout = Duration.seconds(2)
    /// What all of them get together. A client asks again after five seconds by itself.
    var deadline = Duration.seconds(10)

    init(_ configuration: ResolverConfiguration, port: UInt16 = 53) {
        servers = configuration.servers.map { Endpoint($0, port) }
        rounds = configuration.attempts
        timeout = min(.seconds(configuration.timeout), .seconds(2))
    }

    init(servers: [Endpoint]) { self.servers = servers }
}

/// One question to name servers, asked of one after the other until one answers.
///
/// Each attempt has a socket of its own, so the kernel gives each another random source port and lets only the server's
/// own datagrams in; the id is random too. What is no reply to the question is passed over without ending the wait:
/// else whoever guesses first would silence the server. Reports exactly once, never from within ``start()``, unless
/// cancelled.
final class UpstreamQuery: TimerHandler {
    enum Transport { case datagram, stream }
    typealias Completion = (Result<UpstreamReply, UpstreamFailure>) -> Void

    private enum Tag { static let attempt = 0, deadline = 1, begin = 2 }
    /// Datagrams of an attempt that may be no reply before the server is given up.
    static let strayLimit = 32

    let loop: EventLoop
    let query: DNSQuery
    private let settings: UpstreamSettings
    private let transport: Transport
    private let datagrams: any SocketSupply
    private let streams: any SocketSupply
    private let onAttempt: () -> Void
    private var completion: Completion?
    private var attempt: (any UpstreamAttempt)?
    private var timers: [Int: TimerID] = [:]
    private var next = 0
    /// A reply that is better than none: the server's refusal, or one that is cut.
    private var best: UpstreamReply?
    private var lastFailure = "no name server is known"

    /// - Parameters:
    ///   - datagrams: UDP sockets.
    ///   - streams: TCP sockets, for queries that came so, and where a server's datagram is cut.
    ///   - onAttempt: called for each server that is asked.
    init(
        _ query: DNSQuery, over transport: Transport, loop: EventLoop, settings: UpstreamSettings,
        datagrams: any SocketSupply, streams: any SocketSupply, onAttempt: @escaping () -> Void = {},
        completion: @escaping Completion
    ) {
        self.query = query
        self.transport = transport
        self.loop = loop
        self.settings = settings
        self.datagrams = datagrams
        self.streams = streams
        self.onAttempt = onAttempt
        self.completion = completion
    }

    func start() {
        set(Tag.deadline, after: settings.deadline)
        set(Tag.begin, after: .zero)
    }

    /// Gives up silently.
    func cancel() {
        completion = nil
        end()
    }

    private func set(_ tag: Int, after delay: Duration) {
        if let old = timers[tag] { loop.cancel(old) }
        timers[tag] = loop.schedule(after: delay, self, tag: tag)
    }

    func timerFired(tag: Int) {
        timers[tag] = nil
        switch tag {
        case Tag.begin: askNext()
        case Tag.attempt: failed("\(server) did not answer in time")
        default:
            lastFailure = "the name servers did not answer in time; the last one: \(lastFailure)"
            finish()
        }
    }

    private var server: Endpoint { settings.servers[(next - 1) % settings.servers.count] }

    private func askNext() {
        guard !settings.servers.isEmpty, next < settings.servers.count * settings.rounds else { return finish() }
        next += 1
        ask(over: transport)
    }

    private func ask(over transport: Transport) {
        attempt?.cancel()
        onAttempt()
        set(Tag.attempt, after: settings.timeout)
        let id = UInt16.random(in: 0 ... .max)
        let made: any UpstreamAttempt =
            switch transport {
            case .datagram: DatagramAttempt(self, to: server, id: id)
            case .stream: StreamAttempt(self, to: server, id: id)
            }
        attempt = made
        made.start(from: transport == .datagram ? datagrams : streams)
    }

    // MARK: For attempts

    func received(_ reply: UpstreamReply, from attempt: any UpstreamAttempt) {
        guard attempt === self.attempt else { return }
        if reply.isTruncated, attempt is DatagramAttempt {
            // Whole, if the server can be reached so; cut, if not.
            best = reply
            return ask(over: .stream)
        }
        if reply.isFailure {
            if best == nil || best?.isFailure == true { best = reply }
            return failed("\(server) answers \(reply.message.responseCode)")
        }
        best = reply
        finish()
    }

    func failed(_ reason: String, in attempt: any UpstreamAttempt) {
        guard attempt === self.attempt else { return }
        failed(reason)
    }

    private func failed(_ reason: String) {
        lastFailure = reason
        attempt?.cancel()
        attempt = nil
        // A server that answered with a part has said all it will.
        if let best, best.isTruncated { return finish() }
        set(Tag.begin, after: .zero)
    }

    // MARK: The end

    private func finish() {
        let completion = completion
        self.completion = nil
        end()
        completion?(best.map { .success($0) } ?? .failure(UpstreamFailure(lastFailure)))
    }

    private func end() {
        for timer in timers.values { loop.cancel(timer) }
        timers = [:]
        attempt?.cancel()
        attempt = nil
    }
}

/// One server asked once.
protocol UpstreamAttempt: AnyObject {
    func start(from supply: any SocketSupply)
    func cancel()
}
