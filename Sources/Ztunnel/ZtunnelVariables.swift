import Addressing

/// A value of an environment variable that cannot be used.
public struct ConfigurationError: Error, CustomStringConvertible {
    public let variable: String
    public let value: String
    public let expected: String

    public var description: String { "\(variable)=\(value): expected \(expected)" }
}

extension ZtunnelConfiguration {
    /// One environment variable that is understood.
    public struct Variable: Sendable {
        public let name: String
        public let defaultText: String
        public let meaning: String
        let expected: String
        let apply: @Sendable (inout ZtunnelConfiguration, String) -> Bool
    }

    /// Reads the variables that are set; an empty value counts as not set.
    /// - Throws: The first value that cannot be read.
    public init(environment: [String: String]) throws(ConfigurationError) {
        self.init()
        for variable in Self.variables {
            guard let value = environment[variable.name], !value.isEmpty else { continue }
            guard variable.apply(&self, value) else {
                throw ConfigurationError(variable: variable.name, value: value, expected: variable.expected)
            }
        }
    }

    /// Every variable, in the order of the reference table.
    public static let variables: [Variable] = [
        text("INPOD_UDS", \.zdsSocket, "the keeper's socket"),
        text("NODE_NAME", \.nodeName, "name of this node; certificates are fetched ahead for its pods"),
        text("NETWORK", \.network, "network this node is in"),
        text("CLUSTER_ID", \.clusterID, "sent to the control plane as `clusterid`"),
        text("CLUSTER_DOMAIN", \.clusterDomain, "DNS domain of the cluster"),
        text("XDS_ADDRESS", \.xdsAddress, "discovery server, an https URL"),
        text("CA_ADDRESS", \.caAddress, "certificate authority, an https URL"),
        text("XDS_ROOT_CA", \.xdsRootFile, "file with the roots of the discovery server, read at each connection"),
        text("CA_ROOT_CA", \.caRootFile, "file with the roots of the certificate authority"),
        optional("ALT_XDS_HOSTNAME", \.xdsServerName, "server name to check for discovery"),
        optional("ALT_CA_HOSTNAME", \.caServerName, "server name to check for the certificate authority"),
        text("AUTH_TOKEN", \.tokenFile, "file with the token for both, read at each request"),
        duration("SECRET_TTL", \.certificateLifetime, "lifetime of certificates asked for"),
        text("POD_NAME", \.podName, "ztunnel's own pod"),
        text("POD_NAMESPACE", \.podNamespace, "ztunnel's own namespace"),
        text("INSTANCE_IP", \.instanceAddress, "ztunnel's own address, for its name towards the control plane"),
        count("ZTUNNEL_WORKER_THREADS", \.workers, 1...256, "threads that move bytes"),
        count(
            "POOL_MAX_STREAMS_PER_CONNECTION", \.streamsPerTunnel, 1...65535, "connections that share one tunnel"),
        duration("POOL_UNUSED_RELEASE_TIMEOUT", \.tunnelIdleTimeout, "a tunnel without connections is closed after it"),
        count("HTTP2_STREAM_WINDOW_SIZE", \.streamWindow, 65_535...(1 << 30), "bytes one connection may have unread"),
        count(
            "HTTP2_CONNECTION_WINDOW_SIZE", \.connectionWindow, 65_535...(1 << 30),
            "bytes all connections of a tunnel may have on the way"),
        count("HTTP2_FRAME_SIZE", \.frameSize, 16_384...16_777_215, "largest frame accepted, bytes"),
        duration("APUS_CONNECT_TIMEOUT", \.connectTimeout, "for a socket of the pod and the peer's SYN-ACK"),
        duration("APUS_RESPONSE_TIMEOUT", \.responseTimeout, "for the peer's answer to CONNECT"),
        duration("APUS_WORKLOAD_TIMEOUT", \.workloadTimeout, "for the control plane to tell about a local pod"),
        Variable(
            name: "TERMINATION_GRACE_PERIOD_SECONDS", defaultText: "-",
            meaning: "open connections run on after SIGTERM for so long less 5 s (less 1 s up to 10); 5 s when not set",
            expected: "whole seconds from 1"
        ) { configuration, value in
            guard let seconds = Int(value), (1...86_400).contains(seconds) else { return false }
            configuration.drainLimit = .seconds(max(1, seconds > 10 ? seconds - 5 : seconds - 1))
            return true
        },
        Variable(
            name: "LOG_FORMAT", defaultText: "text", meaning: "format of both logs: `text` or `json`",
            expected: "text, plain or json"
        ) { configuration, value in
            guard ["text", "plain", "json"].contains(value) else { return false }
            configuration.jsonLogs = value == "json"
            return true
        },
        endpoint("APUS_ADMIN_ADDRESS", \.adminAddress, "where the admin server listens"),
        endpoint("APUS_STATS_ADDRESS", \.statsAddress, "where metrics are served"),
        endpoint("APUS_READINESS_ADDRESS", \.readinessAddress, "where readiness is served"),
    ]

    // MARK: Kinds of variables

    private static func text(
        _ name: String, _ field: WritableKeyPath<ZtunnelConfiguration, String> & Sendable, _ meaning: String
    ) -> Variable {
        let standard = ZtunnelConfiguration()[keyPath: field]
        return Variable(
            name: name, defaultText: standard.isEmpty ? "-" : standard, meaning: meaning, expected: "text"
        ) {
            $0[keyPath: field] = $1
            return true
        }
    }

    private static func optional(
        _ name: String, _ field: WritableKeyPath<ZtunnelConfiguration, String?> & Sendable, _ meaning: String
    ) -> Variable {
        Variable(name: name, defaultText: "-", meaning: meaning, expected: "text") {
            $0[keyPath: field] = $1
            return true
        }
    }

    private static func count(
        _ name: String, _ field: WritableKeyPath<ZtunnelConfiguration, Int> & Sendable, _ range: ClosedRange<Int>,
        _ meaning: String
    ) -> Variable {
        Variable(
            name: name, defaultText: String(ZtunnelConfiguration()[keyPath: field]), meaning: meaning,
            expected: "a number from \(range.lowerBound) to \(range.upperBound)"
        ) { configuration, value in
            guard let number = Int(value), range.contains(number) else { return false }
            configuration[keyPath: field] = number
            return true
        }
    }

    private static func duration(
        _ name: String, _ field: WritableKeyPath<ZtunnelConfiguration, Duration> & Sendable, _ meaning: String
    ) -> Variable {
        let seconds = ZtunnelConfiguration()[keyPath: field].components.seconds
        return Variable(
            name: name, defaultText: seconds % 3600 == 0 ? "\(seconds / 3600)h" : "\(seconds)s", meaning: meaning,
            expected: "a duration such as 250ms, 30s, 5m or 24h"
        ) { configuration, value in
            guard let duration = readDuration(value) else { return false }
            configuration[keyPath: field] = duration
            return true
        }
    }

    private static func endpoint(
        _ name: String, _ field: WritableKeyPath<ZtunnelConfiguration, Endpoint> & Sendable, _ meaning: String
    ) -> Variable {
        Variable(
            name: name, defaultText: ZtunnelConfiguration()[keyPath: field].description, meaning: meaning,
            expected: "an address and port such as 127.0.0.1:15000"
        ) { configuration, value in
            guard let endpoint = Endpoint(value) else { return false }
            configuration[keyPath: field] = endpoint
            return true
        }
    }

    /// One number and its unit; at most 30 days, above zero.
    static func readDuration(_ text: String) -> Duration? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard let number = Int64(digits), number > 0, number <= 2_592_000_000 else { return nil }
        let duration: Duration
        switch text.dropFirst(digits.count) {
        case "ms": duration = .milliseconds(number)
        case "s": duration = .seconds(number)
        case "m": duration = .seconds(number * 60)
        case "h": duration = .seconds(number * 3600)
        default: return nil
        }
        return duration <= .seconds(2_592_000) ? duration : nil
    }
}
