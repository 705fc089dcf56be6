import Addressing
import DNS
import Foundation
import LinuxNetwork

/// Addresses of hosts that workloads name instead of having addresses, asked for when a connection needs them.
///
/// Uses the name servers of ztunnel's own resolv.conf and /etc/hosts, as the Rust ztunnel does, through sockets of
/// ztunnel's own namespace. One per worker, used on its thread alone. Answers are kept as long as they say, within
/// ``shortestLife`` and ``longestLife``, failures for ``failureLife``; at most ``capacity`` of them.
final class HostResolver {
    /// Why a host has no address, as words for the access log.
    struct Failure: Error, Hashable, CustomStringConvertible {
        enum Code: Hashable {
            /// No server answered, or none could.
            case unanswered
            /// A valid answer without addresses.
            case noAddresses
            /// Too many different hosts are being asked for.
            case busy
        }
        let code: Code
        let description: String
    }

    typealias Completion = (Result<[IPAddress], Failure>) -> Void

    static let capacity = 4096
    static let shortestLife: UInt64 = 1_000_000_000
    static let longestLife: UInt64 = 3600 * 1_000_000_000
    static let failureLife: UInt64 = 1_000_000_000
    /// Hosts asked for at one time, and connections that wait for one of them.
    static let lookupLimit = 512
    static let waiterLimit = 4096

    private struct Entry {
        let result: Result<[IPAddress], Failure>
        let expiry: UInt64
    }

    private let loop: EventLoop
    private let ipv6: Bool
    private let files: HostFiles
    private let settings: (ResolverConfiguration) -> UpstreamSettings
    private let datagrams = OwnSockets.datagram
    private let streams = OwnSockets.stream
    private var cache: [DNSName: Entry] = [:]
    private var lookups: [DNSName: HostLookup] = [:]
    /// Lookups that went to a name server.
    private(set) var asked: UInt64 = 0

    /// - Parameters:
    ///   - ipv6: whether to ask for IPv6 addresses as well.
    ///   - settings: for tests; how servers of the configuration are asked.
    init(
        loop: EventLoop, ipv6: Bool = true, files: HostFiles = HostFiles(),
        settings: @escaping (ResolverConfiguration) -> UpstreamSettings = { UpstreamSettings($0) }
    ) {
        self.loop = loop
        self.ipv6 = ipv6
        self.files = files
        self.settings = settings
    }

    /// Calls back with the addresses of a host, both families, in no particular order: from within this call when they
    /// are at hand, else later. Every lookup ends in some seconds. A caller that is gone by then ignores the call.
    func resolve(_ host: String, _ completion: @escaping Completion) {
        if let address = IPAddress(host) { return completion(.success([address.canonical])) }
        guard let name = DNSName(host), !name.isRoot else {
            return completion(.failure(Failure(code: .noAddresses, description: "\"\(host)\" is no host name")))
        }
        if let entry = cache[name] {
            if entry.expiry > loop.now { return completion(entry.result) }
            cache[name] = nil
        }
        if let lookup = lookups[name] {
            guard lookup.waiters.count < Self.waiterLimit else { return completion(.failure(Self.busy)) }
            return lookup.waiters.append(completion)
        }
        let found = files.addresses(of: name, now: loop.now)
        if !found.isEmpty { return completion(.success(found)) }
        guard lookups.count < Self.lookupLimit else { return completion(.failure(Self.busy)) }
        asked += 1
        let lookup = HostLookup(name, types: ipv6 ? [.a, .aaaa] : [.a])
        lookup.waiters.append(completion)
        lookups[name] = lookup
        lookup.start(
            loop: loop, settings: settings(files.configuration(now: loop.now)), datagrams: datagrams, streams: streams
        ) { [weak self] result, seconds in self?.finished(name, result, seconds) }
    }

    private static let busy = Failure(
        code: .busy, description: "too many host names are being looked up; try again later")

    private func finished(_ name: DNSName, _ result: Result<[IPAddress], Failure>, _ seconds: UInt32) {
        guard let lookup = lookups.removeValue(forKey: name) else { return }
        let life =
            switch result {
            case .success: min(max(UInt64(seconds) * 1_000_000_000, Self.shortestLife), Self.longestLife)
            case .failure: Self.failureLife
            }
        if cache.count >= Self.capacity { makeRoom() }
        cache[name] = Entry(result: result, expiry: loop.now + life)
        for waiter in lookup.waiters { waiter(result) }
    }

    /// Lets what has expired go, and if that is nothing, any eighth.
    private func makeRoom() {
        let now = loop.now
        cache = cache.filter { $0.value.expiry > now }
        guard cache.count >= Self.capacity else { return }
        for name in Array(cache.keys.prefix(Self.capacity / 8)) { cache[name] = nil }
    }

    /// Ends what is under way; those who wait are not called.
    func close() {
        for lookup in lookups.values { lookup.cancel() }
        lookups = [:]
    }
}

/// The questions about one host that are under way, one for each family.
private final class HostLookup {
    private let name: DNSName
    private let types: [RecordType]
    private var queries: [UpstreamQuery] = []
    private var left = 0
    private var addresses: [IPAddress] = []
    private var seconds = UInt32.max
    private var failure: HostResolver.Failure?
    var waiters: [HostResolver.Completion] = []

    init(_ name: DNSName, types: [RecordType]) {
        self.name = name
        self.types = types
    }

    func start(
        loop: EventLoop, settings: UpstreamSettings, datagrams: any SocketSupply, streams: any SocketSupply,
        done: @escaping (Result<[IPAddress], HostResolver.Failure>, UInt32) -> Void
    ) {
        left = types.count
        for type in types {
            let query = UpstreamQuery(
                DNSQuery(asking: name, type), over: .datagram, loop: loop, settings: settings, datagrams: datagrams,
                streams: streams
            ) { [weak self] result in
                guard let self else { return }
                take(result)
                left -= 1
                if left == 0 { done(outcome, seconds) }
            }
            queries.append(query)
            query.start()
        }
    }

    private func take(_ result: Result<UpstreamReply, UpstreamFailure>) {
        switch result {
        case .failure(let error):
            failure = .init(
                code: .unanswered,
                description: "no ip addresses were resolved for \(hostText): \(error); is the DNS server reachable?")
        case .success(let reply):
            let found = reply.addresses(of: name)
            guard found.addresses.isEmpty else {
                addresses += found.addresses
                seconds = min(seconds, found.seconds)
                return
            }
            if reply.isFailure {
                failure = .init(
                    code: .unanswered,
                    description: "no ip addresses were resolved for \(hostText): \(reply.message.responseCode)")
            }
        }
    }

    private var hostText: String { name.hostname ?? name.description }

    private var outcome: Result<[IPAddress], HostResolver.Failure> {
        if !addresses.isEmpty { return .success(addresses) }
        return .failure(
            failure
                ?? .init(
                    code: .noAddresses, description: "valid dns response for \(hostText) had no A/AAAA records"))
    }

    func cancel() {
        for query in queries { query.cancel() }
        waiters = []
    }
}
