import Discovery
import Glibc
import Observability
import Synchronization

/// What ztunnel tells of itself and of its talks with the control plane, by Istio's names.
public struct ProcessMetrics: Sendable {
    private let terminations: CounterFamily
    private let messages: CounterFamily
    private let messageBytes: CounterFamily
    private let contact = Contact()

    /// The talk with the control plane, as of now.
    private final class Contact: Sendable {
        /// 1 or 0; -1 where there is no control plane to connect to.
        let isConnected = Atomic<Int>(-1)
        /// Seconds since 1970; 0 before the first.
        let lastMessage = Atomic<Int>(0)
    }

    /// - Parameter firstExpiry: When the first of the certificates in use ends, in seconds since 1970; `nil` while there is
    ///   none.
    public init(
        _ registry: MetricsRegistry, version: String, firstExpiry: @escaping @Sendable () -> Double? = { nil }
    ) throws {
        terminations = try registry.counter(
            "istio_xds_connection_terminations", "The total number of completed connections to xds server (unstable)",
            labels: ["reason"])
        messages = try registry.counter(
            "istio_xds_message", "Total number of messages received (unstable)", labels: ["url"])
        messageBytes = try registry.counter(
            "istio_xds_message_bytes", "Total number of bytes received (unstable)", labels: ["url"])
        let build = try registry.gauge("istio_build", "Istio component build info", labels: ["component", "tag"])
        build.with(["ztunnel", version]).set(1)
        let contact = contact
        try registry.gauge(
            "apus_xds_connected", "1 while the control plane answers; else ztunnel goes by what it last said (unstable)"
        ) {
            let state = contact.isConnected.load(ordering: .relaxed)
            return state < 0 ? nil : Double(state)
        }
        try registry.gauge(
            "apus_xds_last_message_timestamp_seconds", "When the control plane last said something (unstable)"
        ) {
            let time = contact.lastMessage.load(ordering: .relaxed)
            return time > 0 ? Double(time) : nil
        }
        try registry.gauge(
            "apus_certificate_first_expiry_timestamp_seconds",
            "When the first of the certificates in use ends (unstable)",
            read: firstExpiry)
        try registry.gauge("process_open_fds", "Number of open file descriptors") { Self.openDescriptors() }
        try registry.gauge("process_max_fds", "Maximum number of open file descriptors") {
            var limit = rlimit()
            guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return nil }
            return Double(limit.rlim_cur)
        }
    }

    /// Counts what the discovery client reports.
    public func count(_ event: DiscoveryClient.Event) {
        switch event {
        case .received(let url, _, _, let bytes):
            contact.isConnected.store(1, ordering: .relaxed)
            contact.lastMessage.store(time(nil), ordering: .relaxed)
            messages.with([url]).add(1)
            messageBytes.with([url]).add(UInt64(bytes))
        case .terminated(let reason):
            contact.isConnected.store(0, ordering: .relaxed)
            terminations.with([reason.rawValue]).add(1)
        case .connecting: contact.isConnected.store(0, ordering: .relaxed)
        case .connected: contact.isConnected.store(1, ordering: .relaxed)
        case .refused: break
        }
    }

    private static func openDescriptors() -> Double? {
        guard let directory = opendir("/proc/self/fd") else { return nil }
        defer { closedir(directory) }
        var count = 0
        while readdir(directory) != nil { count += 1 }
        // ".", ".." and the descriptor of this very listing.
        return Double(count - 3)
    }
}
