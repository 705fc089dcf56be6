import Foundation
import Testing

@testable import LocalCluster

extension EndToEnd {
    @Suite("What the data path may do", .serialized)
    struct PrivilegeTests {
        @Test func everyThreadOfZtunnelIsWithoutCapabilitiesAndFiltered() throws {
            try TestMesh.run { stage in
                for node in stage.cluster.nodes {
                    let process = try #require(node.processes(.ztunnel).last)
                    let threads = Files.names(in: "/proc/\(process.pid)/task")
                    #expect(threads.count > 1)
                    for thread in threads {
                        let status = try fields("/proc/\(process.pid)/task/\(thread)/status")
                        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                            #expect(status[set].flatMap { UInt64($0, radix: 16) } == 0, "\(set) of thread \(thread)")
                        }
                        #expect(status["NoNewPrivs"] == "1")
                        // 2 is filter mode.
                        #expect(status["Seccomp"] == "2")
                        #expect(status["Uid"]?.split(separator: "\t").allSatisfy { $0 == "15000" } == true)
                    }
                }
            }
        }

        @Test func ztunnelHoldsNothingButWhatItOpenedOrWasHanded() throws {
            try TestMesh.run { stage in
                for node in stage.cluster.nodes {
                    let process = try #require(node.processes(.ztunnel).last)
                    let folder = "/proc/\(process.pid)/fd"
                    for name in Files.names(in: folder) {
                        guard
                            let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "\(folder)/\(name)")
                        else { continue }  // closed meanwhile
                        let known =
                            target.hasPrefix("socket:[") || target.hasPrefix("anon_inode:")
                            || target.hasPrefix("pipe:[")
                            || target == "/dev/null" || target == "/dev/urandom" || target.hasPrefix(node.logs)
                        #expect(known, "descriptor \(name) is \(target)")
                        // No way into a namespace, above all.
                        #expect(!target.hasPrefix("net:["))
                    }
                }
            }
        }

        @Test func metricsAndReadinessAreServedOnTheNode() throws {
            try TestMesh.run { stage in
                try stage.expectServed()
                let node = stage.server.node
                #expect(
                    try HTTPProbe.status(of: "127.0.0.1", port: 15021, path: "/healthz/ready", in: node.namespace)
                        == 200)
                let metrics = try Waiting.until("a counted connection", within: .seconds(10)) {
                    try HTTPProbe.get("127.0.0.1", port: 15020, path: "/stats/prometheus", in: node.namespace).flatMap {
                        $0.body.contains("istio_tcp_connections_opened_total{") ? $0.body : nil
                    }
                }
                #expect(metrics.contains(#"connection_security_policy="mutual_tls""#))
                #expect(metrics.contains(#"source_principal="spiffe://cluster.local/ns/shop/sa/client""#))
                #expect(metrics.contains("istio_tcp_sent_bytes_total{"))
            }
        }

        private func fields(_ path: String) throws -> [String: String] {
            let text = try String(contentsOf: URL(fileURLWithPath: path), encoding: .utf8)
            return Dictionary(
                text.split(separator: "\n").compactMap { line in
                    guard let colon = line.firstIndex(of: ":") else { return nil }
                    let value = line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
                    return (String(line[..<colon]), value)
                }, uniquingKeysWith: { $1 })
        }
    }
}
