import Foundation
import Testing

/// docs/behaviours.md names a test for each behaviour: the tests exist, and are named after what they show.
@Suite("Behaviours and their tests")
struct BehaviourTests {
    /// The scenarios that the field's own suite has; none may be missing.
    private static let scenarios = """
        local_captured_inpod server_uncaptured_inpod client_uncaptured_inpod cross_node_captured_inpod
        server_uncaptured_dedicated client_uncaptured_dedicated cross_node_captured_dedicated
        workload_waypoint service_waypoint service_waypoint_hostname service_waypoint_workload_hostname
        sandwich_waypoint_plain sandwich_waypoint_proxy_protocol double_hbone1 double_hbone2 service_loadbalancing
        test_ztunnel_shutdown test_server_shutdown test_prefetch_forget_certs test_policy hbone_ip_mismatch
        malicious_calls_inpod trust_domain_mismatch_rejected test_svc_hostname_port test_svc_hostname_named_port
        test_hbone_metrics_access crl_inbound_rejects_revoked_cert crl_outbound_rejects_revoked_cert
        crl_inbound_terminates_existing_connection_on_revocation
        crl_outbound_terminates_existing_connection_on_revocation
        """.split { $0.isWhitespace }.map(String.init)

    private struct Row {
        let section: String
        let behaviour: String
        let tests: [TestCase]
    }

    private struct Wrong: Error, CustomStringConvertible { let description: String }

    /// A test as it stands in the sources.
    private struct TestCase {
        let path: String
        let function: String
        /// What it is shown as: the text of its attribute, or nothing.
        let title: String

        /// - Parameter reference: `Target/File.function`.
        init(_ reference: String) throws {
            let parts = reference.split(whereSeparator: { "/.".contains($0) }).map(String.init)
            guard parts.count == 3 else { throw Wrong(description: "\(reference) is not Target/File.function") }
            path = "Tests/\(parts[0])/\(parts[1]).swift"
            function = parts[2]
            let source = try String(contentsOf: BehaviourTests.root.appending(path: path), encoding: .utf8)
            guard let declaration = source.firstRange(of: "func \(function)(") else {
                throw Wrong(description: "\(path) has no function \(function)")
            }
            // The attribute belongs to it when no other function begins in between.
            guard let attribute = source[..<declaration.lowerBound].ranges(of: "@Test").last,
                !source[attribute.upperBound..<declaration.lowerBound].contains("func ")
            else { throw Wrong(description: "\(function) in \(path) is no test") }
            let text = source[attribute.upperBound..<declaration.lowerBound].drop { $0.isWhitespace || $0 == "(" }
            title = text.first == "\"" ? String(text.dropFirst().prefix { $0 != "\"" }) : ""
        }

        /// Whether its name, or its function's without regard to capitals and underscores, says so.
        func isNamed(after scenario: String) -> Bool {
            title.contains(scenario) || function.lowercased() == scenario.replacing("_", with: "").lowercased()
        }
    }

    private static let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    private func rows() throws -> [Row] {
        let page = try String(contentsOf: Self.root.appending(path: "docs/behaviours.md"), encoding: .utf8)
        var section = ""
        var rows: [Row] = []
        for line in page.split(separator: "\n") {
            if line.hasPrefix("## ") { section = String(line.dropFirst(3)) }
            let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            guard line.hasPrefix("| "), cells.count == 2, cells[1].hasPrefix("`") else { continue }
            let references = cells[1].split(separator: "`").map { $0.trimmingCharacters(in: .whitespaces) }
            rows.append(
                Row(
                    section: section, behaviour: cells[0].replacing("`", with: ""),
                    tests: try references.filter { !$0.isEmpty }.map { try TestCase($0) }))
        }
        return rows
    }

    @Test("every test that the page names is there")
    func present() throws {
        let rows = try rows()
        #expect(rows.allSatisfy { !$0.tests.isEmpty })
        #expect(Set(rows.map(\.section)) == ["Easiest to get wrong", "Scenarios in namespaces", "Beyond the field"])
        #expect(rows.count >= 65)
    }

    @Test("each of the fifteen has tests by its number")
    func numbered() throws {
        let rows = try rows().filter { $0.section == "Easiest to get wrong" }
        #expect(rows.compactMap { $0.behaviour.split(separator: ".").first.flatMap { Int($0) } } == Array(1...15))
        for (row, number) in zip(rows, 1...) {
            for test in row.tests {
                #expect(
                    test.title.hasPrefix("\(number). ") || test.title.contains(" and \(number). "),
                    "\(test.path), \(test.function): \"\(test.title)\" does not begin with \(number).")
            }
        }
    }

    @Test("each scenario has a test of its name")
    func scenarios() throws {
        let rows = try rows().filter { $0.section == "Scenarios in namespaces" }
        #expect(rows.map(\.behaviour) == Self.scenarios)
        for row in rows {
            for test in row.tests {
                #expect(test.isNamed(after: row.behaviour), "\(test.path), \(test.function): \"\(test.title)\"")
            }
        }
    }
}
