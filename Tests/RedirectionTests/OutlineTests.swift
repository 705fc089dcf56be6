import Addressing
import Foundation
import LinuxNetwork
import Netlink
import Testing

@testable import Redirection

/// What is said of a plan is what other tools say of the kernel.
@Suite("A plan in words", .serialized)
struct OutlineTests {
    static let plans = [
        RedirectionPlan(), RedirectionPlan(families: [.v4]), RedirectionPlan(families: [.v6]),
        RedirectionPlan(capturesInbound: false), RedirectionPlan(capturesDNS: true),
        RedirectionPlan(capturesDNS: true, virtualInterfaces: ["net1", "k6t-net2"], sparesOpenConnections: false),
    ]

    @Test("the rules are those that nft lists", arguments: plans)
    func ruleset(plan: RedirectionPlan) async throws {
        let listed = try await onThread {
            let pod = try NetworkNamespace.make()
            try NftablesBackend().apply(plan, in: pod)
            return try Judge.ruleset(pod)
        }
        let lines = listed.split(separator: "\n", omittingEmptySubsequences: false)
        let withoutComment = lines.filter { !$0.hasPrefix("\tcomment ") }.joined(separator: "\n")
        #expect(NftablesBackend().outline(plan).ruleset == withoutComment)
    }

    @Test("nft takes them, and ip the routes and rules, and then the plan holds", arguments: plans)
    func taken(plan: RedirectionPlan) async throws {
        let outline = NftablesBackend().outline(plan)
        let network = try await onThread {
            let network = try Network()
            _ = try Judge.nft(outline.ruleset, in: network.pod)
            try network.pod.run {
                for setting in outline.settings {
                    let path = "/proc/sys/" + setting.name.replacingOccurrences(of: ".", with: "/")
                    try KernelSetting(path: path).write(setting.value)
                }
            }
            return network
        }
        for route in outline.routes { try Self.ip("\(route.family.flag) route add \(route.text)", in: network) }
        for rule in outline.policyRules { try Self.ip("\(rule.family.flag) rule add \(rule.text)", in: network) }
        let drift = try await onThread {
            // nft says an implied match by other bytes than ours; that it means the same is shown by its listing.
            try NftablesBackend().verify(plan, .capturing, in: network.pod).filter { $0.reason != "rule" }
        }
        #expect(drift.isEmpty)
    }

    /// The ip tool, which shares no code with the library under test.
    private static func ip(_ arguments: String, in network: Network) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        let namespace = "--net=/proc/\(getpid())/fd/\(network.pod.raw)"
        process.arguments = ["nsenter", namespace, "ip"] + arguments.split(separator: " ").map(String.init)
        let errors = Pipe()
        process.standardError = errors
        try process.run()
        let said = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw Judge.Problem(text: "ip \(arguments): \(said)") }
    }
}

extension IPAddress.Family {
    fileprivate var flag: String { self == .v4 ? "-4" : "-6" }
}
