import Foundation
import Glibc
import LinuxNetwork

/// What a configuration is made from; tests give their own.
public struct ConfigurationSources: Sendable {
    /// Relative to the working directory, as Istio has it.
    public static let meshFilePath = "./etc/istio/config/mesh"
    private static let maximumMeshFile = 4 << 20

    public var environment: [String: String]
    /// The mesh file's text, where there is one.
    public var meshFile: String?
    /// How many processors the threads may run on.
    public var processors: Int
    /// Whether the kernel speaks IPv6 here.
    public var hasIPv6: Bool
    public var hasFile: @Sendable (String) -> Bool

    public init(
        environment: [String: String], meshFile: String? = nil, processors: Int = 2, hasIPv6: Bool = false,
        hasFile: @escaping @Sendable (String) -> Bool = { $0.hasPrefix("/") }
    ) {
        self.environment = environment
        self.meshFile = meshFile
        self.processors = processors
        self.hasIPv6 = hasIPv6
        self.hasFile = hasFile
    }

    /// Those of this process.
    /// - Throws: When there is a mesh file that cannot be read.
    public static func current() throws(ConfigurationError) -> ConfigurationSources {
        ConfigurationSources(
            environment: ProcessInfo.processInfo.environment, meshFile: try readMeshFile(),
            processors: Processors.allowed, hasIPv6: access("/proc/net/if_inet6", F_OK) == 0,
            hasFile: { access($0, F_OK) == 0 })
    }

    private static func readMeshFile() throws(ConfigurationError) -> String? {
        guard access(meshFilePath, F_OK) == 0 else { return nil }
        let data: Data
        do {
            data = try Data(contentsOf: URL(fileURLWithPath: meshFilePath))
        } catch {
            throw ConfigurationError("the mesh file \(meshFilePath) cannot be read: \(error)")
        }
        guard data.count <= maximumMeshFile, let text = String(validating: data, as: UTF8.self) else {
            throw ConfigurationError(
                "the mesh file \(meshFilePath) is no UTF-8 text of at most \(maximumMeshFile) bytes")
        }
        return text
    }
}

extension ZtunnelConfiguration {
    /// Puts the sources together: the environment wins over `PROXY_CONFIG`, that over the mesh file, that over the
    /// defaults. An empty variable counts as not set, but for `XDS_ADDRESS`, which switches discovery off.
    /// - Throws: The first value that cannot be used.
    public init(_ sources: ConfigurationSources) throws(ConfigurationError) {
        self.init()
        let environment = sources.environment.filter { !$0.value.isEmpty }
        if environment["KUBERNETES_SERVICE_HOST"] == nil, environment["XDS_ADDRESS"] == nil {
            xdsAddress = "https://localhost:15012"
        }
        if environment["KUBERNETES_SERVICE_HOST"] == nil, environment["CA_ADDRESS"] == nil {
            caAddress = "https://localhost:15012"
        }
        if !sources.hasFile(token) { token = "" }
        var threads = WorkerThreads()

        let mesh = try MeshFile(sources.meshFile)
        try apply(mesh)
        try apply(
            mesh.defaultConfig.overridden(by: try ProxyConfig(environment["PROXY_CONFIG"], named: "PROXY_CONFIG")),
            &threads)

        for variable in Self.variables {
            guard let value = environment[variable.name] else { continue }
            guard variable.apply(&self, value) else {
                throw ConfigurationError(variable: variable.name, value: value, expected: variable.expected)
            }
        }
        if sources.environment["XDS_ADDRESS"] == "" { xdsAddress = "" }
        if !token.isEmpty, !token.contains("/"), sources.hasFile(token) { token = "./" + token }
        applyFamilies(environment, hasIPv6: sources.hasIPv6)
        try threads.read(environment)
        workers = threads.count(processors: sources.processors)
        try applyPrefixed(sources.environment)
        try applyMetadata()
        try check()
    }

    /// The environment alone.
    public init(environment: [String: String]) throws(ConfigurationError) {
        try self.init(ConfigurationSources(environment: environment))
    }

    /// Settings that need sockets made by ztunnel itself: the keeper makes no port for SOCKS5, and hands listeners over
    /// for all that is captured, in whose queues connections would wait for ever.
    func checkSockets() throws(ConfigurationError) {
        guard !isDedicated, !makesOwnSockets else { return }
        for (name, value, isSet) in [
            ("UNSTABLE_ENABLE_SOCKS5", "true", socksEnabled), ("ENABLE_PROXY", "false", !proxyEnabled),
        ] where isSet {
            throw ConfigurationError(
                variable: name,
                "\(name)=\(value) needs sockets that ztunnel makes itself: use --own-sockets or PROXY_MODE=dedicated, or unset it"
            )
        }
    }

    /// Settings that exclude each other.
    private func check() throws(ConfigurationError) {
        guard isDedicated == (workloadInfo != nil) else {
            throw ConfigurationError(
                variable: isDedicated ? "PROXY_MODE" : "PROXY_WORKLOAD_INFO",
                isDedicated
                    ? "PROXY_MODE=dedicated needs PROXY_WORKLOAD_INFO=namespace/name/serviceaccount"
                    : "PROXY_WORKLOAD_INFO belongs to PROXY_MODE=dedicated, which is not set")
        }
        guard proxyEnabled || dnsProxyEnabled else {
            throw ConfigurationError(
                variable: "ENABLE_PROXY",
                "ENABLE_PROXY=false and ISTIO_META_DNS_CAPTURE=false leave nothing to serve; unset one of them")
        }
        if xdsOnDemand, dnsProxyEnabled {
            throw ConfigurationError(
                "XDS_ON_DEMAND=true cannot go with the DNS proxy, which has to know every service; "
                    + "set ISTIO_META_DNS_CAPTURE=false")
        }
        if xdsOnDemand, xdsAddress.isEmpty {
            throw ConfigurationError(
                variable: "XDS_ON_DEMAND", "XDS_ON_DEMAND=true needs a discovery server, and XDS_ADDRESS is empty")
        }
        if xdsAddress.isEmpty, localXDS == nil, localXDSPath == nil {
            throw ConfigurationError(
                "XDS_ADDRESS is empty and there is no LOCAL_XDS_PATH, so nothing would be known of the mesh")
        }
    }
}
