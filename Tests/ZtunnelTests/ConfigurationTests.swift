import Addressing
import Identity
import Testing

@testable import Ztunnel

@Suite("ztunnel configuration")
struct ConfigurationTests {
    @Test("variables are read, and what is not set keeps its default")
    func read() throws {
        let configuration = try ZtunnelConfiguration(environment: [
            "NODE_NAME": "n1", "ZTUNNEL_WORKER_THREADS": "4", "APUS_CONNECT_TIMEOUT": "250ms",
            "TERMINATION_GRACE_PERIOD_SECONDS": "30", "LOG_FORMAT": "json", "APUS_ADMIN_ADDRESS": "[::1]:15000",
            "CLUSTER_ID": "", "UNRELATED": "x", "PACKET_MARK": "99", "INPOD_PORT_REUSE": "false",
            "ENABLE_ORIG_SRC": "false", "KEEPALIVE_TIME": "1m30s", "KEEPALIVE_RETRIES": "3",
            "USER_TIMEOUT_ENABLED": "true", "LOCALHOST_APP_TUNNEL": "false", "ENABLE_RESPONSE_BAGGAGE": "false",
            "COMPLIANCE_POLICY": "pqc", "CRL_PATH": "/crl/ca.crl", "AUTHZ_POLICY_INFO_LOGGING": "true",
            "PREFERED_SERVICE_NAMESPACE": "shop", "RUST_LOG": "warn,xds=debug", "LOCAL_XDS_PATH": "/mesh.yaml",
            "TRUST_DOMAIN": "prod.example", "APUS_TRUST_DOMAIN_ALIASES": "old.example, test.example",
            "XDS_HEADER_X_Tenant": "a", "CA_HEADER_tenant": "b", "FAKE_CA": "false", "PROXY_MODE": "shared",
        ])
        #expect(configuration.nodeName == "n1")
        #expect(configuration.workers == 4)
        #expect(configuration.connectTimeout == .milliseconds(250))
        #expect(configuration.drainLimit == .seconds(25))
        #expect(configuration.jsonLogs)
        #expect(configuration.adminAddress == Endpoint(.loopbackV6, 15000))
        #expect(configuration.clusterID == "Kubernetes")
        #expect(configuration.packetMark == 99)
        #expect(!configuration.reusesPorts)
        #expect(configuration.keepsOriginalSource == false)
        #expect(configuration.keepalive.idle == .seconds(90))
        #expect(configuration.keepalive.userTimeout == .seconds(90 + 3 * 180))
        #expect(configuration.userTimeoutEnabled)
        #expect(!configuration.localhostApplicationTunnel)
        #expect(!configuration.responseBaggage)
        #expect(configuration.requiresPostQuantum)
        #expect(configuration.revocationFile == "/crl/ca.crl")
        #expect(configuration.logsPolicyDecisions)
        #expect(configuration.preferredServiceNamespace == "shop")
        #expect(configuration.logFilter.level(for: "xds") == .debug)
        #expect(configuration.localXDSPath == "/mesh.yaml")
        #expect(configuration.trustDomain == "prod.example")
        #expect(configuration.trustDomainAliases == ["old.example", "test.example"])
        #expect(configuration.xdsHeaders == ["x_tenant": "a"])
        #expect(configuration.caHeaders == ["tenant": "b"])
        #expect(try !ZtunnelConfiguration(environment: ["KEEPALIVE_ENABLED": "false"]).keepaliveEnabled)
    }

    @Test(
        "a value that cannot be used is refused with its name",
        arguments: [
            ("ZTUNNEL_WORKER_THREADS", "257"), ("ZTUNNEL_WORKER_THREADS", "many"), ("ZTUNNEL_WORKER_THREADS", "0%"),
            ("ZTUNNEL_RESOURCE_CPU_LIMIT", "1.2345"), ("ZTUNNEL_CPU_LIMIT", "1.5"), ("APUS_CONNECT_TIMEOUT", "5"),
            ("APUS_CONNECT_TIMEOUT", "0s"), ("APUS_CONNECT_TIMEOUT", "-1s"), ("SECRET_TTL", "99999999999h"),
            ("SECRET_TTL", "1h+"), ("SECRET_TTL", "h"), ("LOG_FORMAT", "xml"), ("APUS_STATS_ADDRESS", "15020"),
            ("TERMINATION_GRACE_PERIOD_SECONDS", "-1"), ("HTTP2_FRAME_SIZE", "100"), ("PACKET_MARK", "0"),
            ("IPV6_ENABLED", "maybe"), ("RUST_LOG", "loud"), ("TRUST_DOMAIN", "Prod"), ("KEEPALIVE_RETRIES", "0"),
            ("APUS_TRUST_DOMAIN_ALIASES", "a,,B"), ("ISTIO_METAJSON_LABELS", "{"), ("PROXY_CONFIG", "concurrency: x"),
        ])
    func refused(name: String, value: String) {
        let error = #expect(throws: ConfigurationError.self) {
            _ = try ZtunnelConfiguration(environment: [name: value])
        }
        #expect(error?.variable == name)
        #expect(name == "PROXY_CONFIG" || error?.description.contains(value) == true)
    }

    @Test(
        "what there is not is refused with the reason",
        arguments: [
            ("PROXY_MODE", "dedicated", "needs PROXY_WORKLOAD_INFO"), ("PROXY_MODE", "both", "shared or dedicated"),
            ("PROXY_WORKLOAD_INFO", "a/b", "namespace/name/serviceaccount"),
            ("ENABLE_PROXY", "no", "true or false"), ("UNSTABLE_ENABLE_SOCKS5", "1", "true or false"),
            ("FAKE_CA", "true", "prove nothing"),
            ("TLS12_ENABLED", "true", "TLS 1.3"), ("COMPLIANCE_POLICY", "fips-140-2", "pqc"),
        ])
    func notThere(name: String, value: String, reason: String) {
        let error = #expect(throws: ConfigurationError.self) {
            _ = try ZtunnelConfiguration(environment: [name: value])
        }
        #expect(error?.variable == name)
        #expect(error?.description.contains("\(name)=\(value)") == true)
        #expect(error?.description.contains(reason) == true)
    }

    @Test("settings that exclude each other are refused")
    func excluded() throws {
        #expect(throws: ConfigurationError.self) {
            _ = try ZtunnelConfiguration(environment: ["XDS_ON_DEMAND": "true"])
        }
        let onDemand = try ZtunnelConfiguration(environment: [
            "XDS_ON_DEMAND": "true", "ISTIO_META_DNS_CAPTURE": "false",
        ])
        #expect(onDemand.xdsOnDemand && !onDemand.dnsProxyEnabled)
        let stray = #expect(throws: ConfigurationError.self) {
            _ = try ZtunnelConfiguration(environment: ["PROXY_WORKLOAD_INFO": "a/b/c"])
        }
        #expect(stray?.variable == "PROXY_WORKLOAD_INFO")
        #expect(throws: ConfigurationError.self) { _ = try ZtunnelConfiguration(environment: ["XDS_ADDRESS": ""]) }
        let local = try ZtunnelConfiguration(environment: ["XDS_ADDRESS": "", "LOCAL_XDS": "{}"])
        #expect(!local.hasDiscovery)
    }

    @Test("what takes sockets of ztunnel's own is refused where they are handed over, and nothing at all is not served")
    func ownSocketsAlone() throws {
        for (name, value) in [("UNSTABLE_ENABLE_SOCKS5", "true"), ("ENABLE_PROXY", "false")] {
            var settings = try ZtunnelConfiguration(environment: [name: value])
            let error = #expect(throws: ConfigurationError.self) { try settings.checkSockets() }
            #expect(error?.variable == name)
            #expect(error?.description.contains("\(name)=\(value) needs") == true)
            settings.makesOwnSockets = true
            try settings.checkSockets()
        }
        let nothing = #expect(throws: ConfigurationError.self) {
            _ = try ZtunnelConfiguration(environment: ["ENABLE_PROXY": "false", "ISTIO_META_DNS_CAPTURE": "false"])
        }
        #expect(nothing?.variable == "ENABLE_PROXY")
        #expect(try ZtunnelConfiguration(environment: [:]).illegalPorts == [15001, 15006, 15008])
        let socks = try ZtunnelConfiguration(environment: ["UNSTABLE_ENABLE_SOCKS5": "true"])
        #expect(socks.illegalPorts == [15001, 15006, 15008, 15080])
    }

    @Test("keep-alive and the user's timeout are what the sockets get")
    func silenceLimits() throws {
        #expect(try ZtunnelConfiguration(environment: [:]).silenceLimits == .standard)
        let off = try ZtunnelConfiguration(environment: ["KEEPALIVE_ENABLED": "false", "USER_TIMEOUT_ENABLED": "true"])
        #expect(off.silenceLimits.keepAlive == nil && off.silenceLimits.userTimeout == 1_800_000)
        let own = try ZtunnelConfiguration(environment: [
            "KEEPALIVE_TIME": "60s", "KEEPALIVE_INTERVAL": "5s", "KEEPALIVE_RETRIES": "3",
            "USER_TIMEOUT_ENABLED": "true",
        ])
        let keepAlive = try #require(own.silenceLimits.keepAlive)
        #expect(keepAlive.idle == 60 && keepAlive.interval == 5 && keepAlive.count == 3)
        #expect(own.silenceLimits.userTimeout == 75_000)
    }

    @Test("where the DNS proxy listens")
    func dnsAddresses() throws {
        func addresses(_ text: String?) throws -> [String] {
            let metadata = text.map { ["ISTIO_META_DNS_PROXY_ADDR": $0] } ?? [:]
            return try ZtunnelConfiguration(environment: metadata).dnsListenAddresses.map(\.description)
        }
        #expect(try addresses(nil) == ["127.0.0.1:15053", "[::1]:15053"])
        #expect(try addresses("localhost:5353") == ["127.0.0.1:5353", "[::1]:5353"])
        #expect(try addresses("127.0.0.3:5300") == ["127.0.0.3:5300"])
    }

    @Test("dedicated to one workload, ztunnel asks for certificates in nobody else's name")
    func dedicated() throws {
        let own = ["POD_NAMESPACE": "shop", "POD_NAME": "web-0", "SERVICE_ACCOUNT": "web"]
        let dedicated = try ZtunnelConfiguration(
            environment: own.merging(["PROXY_MODE": "dedicated", "PROXY_WORKLOAD_INFO": "shop/web-0/web"]) { $1 })
        #expect(dedicated.dedicatedWorkload == OwnWorkload("shop/web-0/web"))
        #expect(dedicated.selfProxied == nil && dedicated.packetMark == nil)
        #expect(!dedicated.certificateService.impersonates)

        let shared = try ZtunnelConfiguration(environment: own)
        #expect(shared.dedicatedWorkload == nil && shared.selfProxied == OwnWorkload("shop/web-0/web"))
        #expect(shared.certificateService.impersonates)
        #expect(try ZtunnelConfiguration(environment: ["POD_NAME": "web-0"]).selfProxied == nil)
    }

    @Test("a header is checked and its value never told")
    func headers() {
        let error = #expect(throws: ConfigurationError.self) {
            _ = try ZtunnelConfiguration(environment: ["XDS_HEADER_KEY": "secret\nvalue"])
        }
        #expect(error?.variable == "XDS_HEADER_KEY")
        #expect(error?.description.contains("secret") == false)
    }

    @Test("each variable is named once")
    func names() {
        let names = ZtunnelConfiguration.variables.map(\.name)
        #expect(Set(names).count == names.count)
    }

    @Test(
        "durations in human form",
        arguments: [
            ("5m", 300_000), ("30s", 30_000), ("100ms", 100), ("1h30m", 5_400_000), ("1h 30m", 5_400_000),
            ("1m+30s", 90_000), ("1d", 86_400_000),
        ])
    func durations(text: String, milliseconds: Int) {
        #expect(ZtunnelConfiguration.readDuration(text) == .milliseconds(milliseconds))
    }

    @Test(
        "the drain limit is the deadline, else the grace period less a margin, else 5 s",
        arguments: [
            ([:], 5), (["TERMINATION_GRACE_PERIOD_SECONDS": "30"], 25), (["TERMINATION_GRACE_PERIOD_SECONDS": "10"], 9),
            (["TERMINATION_GRACE_PERIOD_SECONDS": "1"], 1), (["TERMINATION_GRACE_PERIOD_SECONDS": "0"], 1),
            (["TERMINATION_GRACE_PERIOD_SECONDS": "30", "CONNECTION_TERMINATION_DEADLINE": "2m"], 120),
        ] as [([String: String], Int)])
    func drain(environment: [String: String], seconds: Int) throws {
        #expect(try ZtunnelConfiguration(environment: environment).drainLimit == .seconds(seconds))
    }

    @Test(
        "worker threads: number, share, all, limits, concurrency",
        arguments: [
            ([:], 8, 2), ([:], 16, 4), ([:], 17, 5), ([:], 1, 2), (["ZTUNNEL_WORKER_THREADS": "3"], 8, 3),
            (["ZTUNNEL_WORKER_THREADS": "50%"], 5, 3), (["ZTUNNEL_WORKER_THREADS": "1%"], 8, 1),
            (["ZTUNNEL_WORKER_THREADS": "0"], 8, 8), (["ZTUNNEL_WORKER_THREADS": "0", "ZTUNNEL_CPU_LIMIT": "3"], 8, 3),
            (["ZTUNNEL_CPU_LIMIT": "12"], 8, 3), (["ZTUNNEL_RESOURCE_CPU_LIMIT": "1500m"], 32, 2),
            (["ZTUNNEL_RESOURCE_CPU_LIMIT": "500m"], 32, 1),
            (["ZTUNNEL_RESOURCE_CPU_LIMIT": "1", "ZTUNNEL_RESOURCE_CPU_REQUEST": "2.5"], 32, 3),
            (["ZTUNNEL_RESOURCE_CPU_REQUEST": "6"], 8, 6), (["PROXY_CONFIG": "{concurrency: 5}"], 8, 5),
            (["PROXY_CONFIG": "{concurrency: 0}"], 8, 8),
            (["PROXY_CONFIG": "{concurrency: 5}", "ZTUNNEL_WORKER_THREADS": "2"], 8, 2),
        ] as [([String: String], Int, Int)])
    func threads(environment: [String: String], processors: Int, expected: Int) throws {
        let sources = ConfigurationSources(environment: environment, processors: processors)
        #expect(try ZtunnelConfiguration(sources).workers == expected)
    }

    @Test("credentials that are files are waited for, those given as text are not")
    func credentials() async throws {
        var configuration = ZtunnelConfiguration()
        configuration.token = "/run/t/token"
        configuration.xdsRoots = "/run/r/roots.pem"
        configuration.caRoots = "SYSTEM"
        #expect(CredentialFiles.paths(configuration) == ["/run/t/token", "/run/r/roots.pem"])
        configuration.token = "aaa.bbb.ccc"
        configuration.xdsRoots = "-----BEGIN CERTIFICATE-----"
        #expect(CredentialFiles.paths(configuration).isEmpty)
        // Nothing to wait for: it comes back.
        await CredentialFiles.wait(for: configuration)
    }
}

@Suite("Configuration files and their precedence")
struct ConfigurationFileTests {
    private static let mesh = """
        trustDomain: mesh.example
        trustDomainAliases: [old.example]
        defaultConfig:
          discoveryAddress: istiod-mesh.istio-system:15012
          proxyAdminPort: 15099
          statsPort: 15888
          concurrency: 3
          proxyMetadata:
            ISTIO_META_FOO: foo
            FOOBAR: mesh
            ISTIO_META_DNS_CAPTURE: true
        """

    @Test("the environment wins over PROXY_CONFIG, that over the mesh file, that over the defaults")
    func precedence() throws {
        var sources = ConfigurationSources(environment: [:], meshFile: Self.mesh)
        let mesh = try ZtunnelConfiguration(sources)
        #expect(mesh.xdsAddress == "https://istiod-mesh.istio-system:15012")
        #expect(mesh.adminAddress == Endpoint(.loopbackV4, 15099))
        #expect(mesh.statsAddress.port == 15888)
        #expect(mesh.readinessAddress.port == 15021)
        #expect(mesh.workers == 3)
        #expect(mesh.trustDomain == "mesh.example")
        #expect(mesh.trustDomainAliases == ["old.example"])
        #expect(mesh.metadata == ["FOO": "foo", "FOOBAR": "mesh", "DNS_CAPTURE": "true"])

        sources.environment["PROXY_CONFIG"] = """
            {"discoveryAddress": "istiod-env:15012", "proxyAdminPort": 15999, "proxyMetadata": {"FOOBAR": "env", "N": 1}}
            """
        let proxy = try ZtunnelConfiguration(sources)
        #expect(proxy.xdsAddress == "https://istiod-env:15012")
        #expect(proxy.adminAddress.port == 15999)
        #expect(proxy.statsAddress.port == 15888)
        #expect(proxy.metadata["FOO"] == "foo")
        #expect(proxy.metadata["FOOBAR"] == "env")
        #expect(proxy.metadata["N"] == "1")

        sources.environment["XDS_ADDRESS"] = "xds:1"
        sources.environment["TRUST_DOMAIN"] = "env.example"
        sources.environment["ISTIO_META_FOOBAR"] = "variable"
        sources.environment["ISTIO_META_DNS_CAPTURE"] = "false"
        sources.environment["ISTIO_META_DNS_PROXY_ADDR"] = "localhost:5353"
        sources.environment["ISTIO_META_CLUSTER_ID"] = "c1"
        sources.environment["CLUSTER_ID"] = "c2"
        sources.environment["ISTIO_METAJSON_LABELS"] = #"{"a": "b"}"#
        let variables = try ZtunnelConfiguration(sources)
        #expect(variables.xdsAddress == "https://xds:1")
        #expect(variables.trustDomain == "env.example")
        #expect(variables.metadata["FOOBAR"] == "variable")
        #expect(!variables.dnsProxyEnabled)
        #expect(variables.dnsProxyAddress == "localhost:5353")
        #expect(variables.clusterID == "c1")
        #expect(variables.discovery.node.jsonMetadata == ["LABELS": #"{"a": "b"}"#])
    }

    @Test("defaults: DNS capture on, istiod inside Kubernetes and localhost outside")
    func defaults() throws {
        #expect(try ZtunnelConfiguration(environment: [:]).xdsAddress == "https://localhost:15012")
        let inside = try ZtunnelConfiguration(environment: ["KUBERNETES_SERVICE_HOST": "10.0.0.1"])
        #expect(inside.xdsAddress == "https://istiod.istio-system.svc:15012")
        #expect(inside.caAddress == "https://istiod.istio-system.svc:15012")
        #expect(inside.dnsProxyEnabled)
        #expect(inside.statsAddress == Endpoint(.anyV4, 15020))
        let dual = try ZtunnelConfiguration(ConfigurationSources(environment: [:], hasIPv6: true))
        #expect(dual.statsAddress == Endpoint(.anyV6, 15020))
        let single = try ZtunnelConfiguration(
            ConfigurationSources(environment: ["IPV6_ENABLED": "false"], hasIPv6: true))
        #expect(single.readinessAddress == Endpoint(.anyV4, 15021))
    }

    @Test("roots are a file, SYSTEM or PEM; a token is a file or itself, and none when the default file is absent")
    func credentials() throws {
        func configuration(
            _ environment: [String: String], files: Set<String> = []
        ) throws -> CertificateServiceSettings {
            try ZtunnelConfiguration(
                ConfigurationSources(environment: environment, hasFile: { files.contains($0) })
            ).certificateService
        }
        #expect(try configuration(["CA_ROOT_CA": "SYSTEM"]).roots == .system)
        #expect(try configuration(["CA_ROOT_CA": "/r.pem"]).roots == .file("/r.pem"))
        let pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
        #expect(try configuration(["CA_ROOT_CA": pem]).roots == .pem(pem))
        #expect(try configuration([:]).token == ClientToken.none)
        let standard = "/var/run/secrets/tokens/istio-token"
        #expect(try configuration([:], files: [standard]).token == .file(standard))
        #expect(try configuration(["AUTH_TOKEN": "/not/yet"]).token == .file("/not/yet"))
        #expect(try configuration(["AUTH_TOKEN": "eyJhbGciOi.e30.sig"]).token == .text("eyJhbGciOi.e30.sig"))
        #expect(try configuration(["AUTH_TOKEN": "token"], files: ["token"]).token == .file("./token"))
    }

    @Test(
        "a file that cannot be understood is refused",
        arguments: [
            "defaultConfig: [1, 2]", "{", "trustDomain: Bad Domain", "caCertificates: [{}]",
            "caCertificates: [{spiffeBundleUrl: https://x}]", "caCertificates: [{pem: nonsense}]",
        ])
    func malformed(text: String) {
        #expect(throws: ConfigurationError.self) {
            _ = try ZtunnelConfiguration(ConfigurationSources(environment: [:], meshFile: text))
        }
    }

    @Test("an empty file says nothing", arguments: ["", "# nothing\n", "\n", "other: 1"])
    func empty(text: String) throws {
        let configuration = try ZtunnelConfiguration(ConfigurationSources(environment: [:], meshFile: text))
        #expect(configuration.trustDomain == "cluster.local")
    }
}
