import Discovery
import Glibc
import Observability

/// What ztunnel tells of itself and of its talks with the control plane, by Istio's names.
public struct ProcessMetrics: Sendable {
    private let terminations: CounterFamily
    private let messages: CounterFamily
    private let messageBytes: CounterFamily

    public init(_ registry: MetricsRegistry, version: String) throws {
        terminations = try registry.counter(
            "istio_xds_connection_terminations", "The total number of completed connections to xds server (unstable)",
            labels: ["reason"])
        messages = try registry.counter(
            "istio_xds_message", "Total number of messages received (unstable)", labels: ["url"])
        messageBytes = try registry.counter(
            "istio_xds_message_bytes", "Total number of bytes received (unstable)", labels: ["url"])
        let build = try registry.gauge("istio_build", "Istio component build info", labels: ["component", "tag"])
        build.with(["ztunnel", version]).set(1)
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
            messages.with([url]).add(1)
            messageBytes.with([url]).add(UInt64(bytes))
        case .terminated(let reason): terminations.with([reason.rawValue]).add(1)
        case .connecting, .connected, .refused: break
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
