import Addressing
import Testing

@testable import Ztunnel

@Suite("ztunnel configuration")
struct ConfigurationTests {
    @Test("variables are read, and what is not set keeps its default")
    func read() throws {
        let configuration = try ZtunnelConfiguration(environment: [
            "NODE_NAME": "n1", "ZTUNNEL_WORKER_THREADS": "4", "APUS_CONNECT_TIMEOUT": "250ms",
            "TERMINATION_GRACE_PERIOD_SECONDS": "30", "LOG_FORMAT": "json", "APUS_ADMIN_ADDRESS": "[::1]:15000",
            "CLUSTER_ID": "", "UNRELATED": "x",
        ])
        #expect(configuration.nodeName == "n1")
        #expect(configuration.workers == 4)
        #expect(configuration.connectTimeout == .milliseconds(250))
        #expect(configuration.drainLimit == .seconds(25))
        #expect(configuration.jsonLogs)
        #expect(configuration.adminAddress == Endpoint(.loopbackV6, 15000))
        #expect(configuration.clusterID == "Kubernetes")
    }

    @Test(
        "a value that cannot be used is refused with its name",
        arguments: [
            ("ZTUNNEL_WORKER_THREADS", "0"), ("ZTUNNEL_WORKER_THREADS", "many"), ("APUS_CONNECT_TIMEOUT", "5"),
            ("APUS_CONNECT_TIMEOUT", "0s"), ("APUS_CONNECT_TIMEOUT", "-1s"), ("SECRET_TTL", "99999999999h"),
            ("LOG_FORMAT", "xml"), ("APUS_STATS_ADDRESS", "15020"), ("TERMINATION_GRACE_PERIOD_SECONDS", "0"),
            ("HTTP2_FRAME_SIZE", "100"),
        ])
    func refused(name: String, value: String) {
        let error = #expect(throws: ConfigurationError.self) {
            _ = try ZtunnelConfiguration(environment: [name: value])
        }
        #expect(error?.variable == name)
        #expect(error?.description.contains(value) == true)
    }

    @Test("each variable is named once")
    func names() {
        let names = ZtunnelConfiguration.variables.map(\.name)
        #expect(Set(names).count == names.count)
    }
}
