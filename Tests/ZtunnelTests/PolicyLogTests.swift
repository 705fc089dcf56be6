import Addressing
import Foundation
import LinuxNetwork
import Logging
import Mesh
import Observability
import Testing

@testable import Ztunnel

@Suite("Policy log")
struct PolicyLogTests {
    private func lines(atInfo: Bool, threshold: Logger.Level) throws -> String {
        let path = "/tmp/apus-policy-log-\(UInt64.random(in: 0...UInt64.max))"
        defer { unlink(path) }
        let output = try LogOutput(filter: LogFilter(.trace), sink: .file(path))
        let log = PolicyLog(atInfo: atInfo, logger: Logger(label: "rbac") { output.handler(label: $0) })
        log.setLevel(threshold)
        let question = AuthorizationRequest(
            sourceIdentity: SPIFFEIdentity(trustDomain: "td", namespace: "a", serviceAccount: "b"),
            sourceAddress: IPAddress(10, 0, 0, 1), destination: Endpoint(IPAddress(10, 0, 0, 2), 80))
        log.note(
            AuthorizationVerdict(.denied(by: "ns/p"), dryRun: [.init(policy: "ns/q", action: .deny)]), on: question)
        output.close(milliseconds: 2000)
        return try String(contentsOfFile: path, encoding: .utf8)
    }

    @Test("verdicts are told with who, where to and which policy; dry runs apart")
    func told() throws {
        let text = try lines(atInfo: true, threshold: .info)
        let lines = text.split(separator: "\n")
        #expect(lines.count == 2)
        #expect(lines.first?.contains("\tinfo\trbac\tdry-run deny policy matches\t") == true, "\(text)")
        #expect(lines.last?.contains("deny policy matches\t") == true)
        #expect(lines.last?.contains(#"policy="ns/p""#) == true)
        #expect(lines.last?.contains(#"src.identity="spiffe://td/ns/a/sa/b""#) == true)
        #expect(lines.last?.contains(#"dst.addr="10.0.0.2:80""#) == true)
    }

    @Test("at debug they are not seen at info")
    func levels() throws {
        #expect(try lines(atInfo: false, threshold: .info).isEmpty)
        #expect(try lines(atInfo: false, threshold: .debug).contains("\tdebug\trbac\t"))
        #expect(try lines(atInfo: true, threshold: .critical).isEmpty, "off")
    }
}
