import Foundation
import Glibc
import LinuxNetwork
import TestSupport
import Testing

@Suite("The keeper and a ztunnel that is not ours", .serialized)
struct PlainZtunnelScenario {
    /// Tests/Peers/zds_ztunnel.py: says the hello of Istio's ztunnel, and takes namespaces.
    @Test func aPlainHelloGetsOneNamespaceAPodAndNoExtension() throws {
        let keeper = try KeeperProcess()
        let (first, second) = (try TestPod("a"), try TestPod("b"))
        let agent = try keeper.agent()
        for pod in [first, second] { #expect(try agent.add(pod).error == nil) }

        let here = #filePath.split(separator: "/").dropLast(2).reduce("") { $0 + "/" + $1 }
        let told = try run(
            "python3", here + "/Peers/zds_ztunnel.py", keeper.ztunnelSocket, in: keeper.directory
        ).split(separator: "\n")
        #expect(told.count == 3, "\(told)")
        for pod in [first, second] {
            let line = told.first { $0.contains("\"uid\": \"\(pod.uid)\"") } ?? ""
            let who = "\"name\": \"name-\(pod.uid)\", \"namespace\": \"shop\", \"sa\": \"buyer\""
            #expect(line.contains(who), "\(line)")
            #expect(line.contains("\"extra\": [], \"descriptors\": 1, \"isNetns\": true"), "\(line)")
            #expect(line.contains("\"inode\": \(pod.namespace.id.inode)}"), "\(line)")
        }
        #expect(told.last == "{\"message\": \"snapshot_sent\"}")
        for pod in [first, second] { #expect(try agent.expect(pod.uid, .served).error.isEmpty) }
    }

    @Test(.timeLimit(.minutes(1)))
    func oneMessageAtATimeRefusalsAreTriedAgainAndEveryConnectionBeginsAnew() throws {
        let keeper = try KeeperProcess()
        let (a, b, c) = (try TestPod("a"), try TestPod("b"), try TestPod("c"))
        let agent = try keeper.agent()
        for pod in [a, b] { #expect(try agent.add(pod).error == nil) }
        let ztunnel = try ForeignZtunnel(keeper.ztunnelSocket)
        defer { ztunnel.end() }

        // The control side waits for every answer.
        try ztunnel.tell("connect")
        #expect(try ztunnel.next() == ["add", "a"])
        #expect(try ztunnel.tell("silent")["silent"] as? Bool == true)
        try ztunnel.answer("failure to start proxy : port taken")
        #expect(try agent.expect("a", .failed).error.contains("failure to start proxy : port taken"))
        #expect(try ztunnel.next() == ["add", "b"])
        try ztunnel.answer()
        #expect(try ztunnel.next() == ["snapshot_sent"])
        #expect(try ztunnel.tell("silent")["silent"] as? Bool == true)
        try ztunnel.answer()
        #expect(try agent.expect("b", .served).error.isEmpty)

        // Afterwards: what comes, what goes, and what was refused, again.
        #expect(try agent.add(c).error == nil)
        #expect(try ztunnel.next() == ["add", "c"])
        try ztunnel.answer()
        #expect(try agent.expect("c", .served).error.isEmpty)
        #expect(try ztunnel.next() == ["add", "a"])
        try ztunnel.answer()
        #expect(try agent.expect("a", .served).error.isEmpty)
        var removal = try agent.send(.removePod(uid: "b", drain: false))
        #expect(try ztunnel.next() == ["del", "b"])
        try ztunnel.answer()
        #expect(try agent.answer(to: removal).error == nil)

        // A ztunnel that comes again is told everything: the keeper has every namespace and need not say keep.
        try ztunnel.tell("close")
        try ztunnel.tell("connect")
        for expected in [["add", "a"], ["add", "c"], ["snapshot_sent"]] {
            #expect(try ztunnel.next() == expected)
            try ztunnel.answer()
        }

        // As with Istio's agent the one that comes last takes over; the old one hears of what goes.
        try ztunnel.tell("connect", as: "new")
        for expected in [["add", "a"], ["add", "c"], ["snapshot_sent"]] {
            #expect(try ztunnel.next("new") == expected)
            try ztunnel.answer(as: "new")
        }
        #expect(try agent.add(b).error == nil)
        #expect(try ztunnel.next("new") == ["add", "b"])
        try ztunnel.answer(as: "new")
        #expect(try ztunnel.tell("silent")["silent"] as? Bool == true)
        removal = try agent.send(.removePod(uid: "c", drain: false))
        for name in ["old", "new"] {
            #expect(try ztunnel.next(name) == ["del", "c"])
            try ztunnel.answer(as: name)
        }
        #expect(try agent.answer(to: removal).error == nil)
        try ztunnel.tell("close")

        // One that does not answer is let go of, and the next is served.
        _ = try agent.send(.removePod(uid: "b", drain: false))
        #expect(try ztunnel.next("new") == ["del", "b"])
        #expect(try ztunnel.tell("closed", as: "new")["closed"] as? Bool == true)
        try ztunnel.tell("connect")
        #expect(try ztunnel.next() == ["add", "a"])
    }
}

/// Tests/Peers/zds_ztunnel.py, told what to do line by line.
private final class ForeignZtunnel {
    private let process: Peer
    private let input = Pipe()
    private let output = Pipe()
    private var rest: [UInt8] = []

    init(_ socket: String) throws {
        process = try Peer(
            ["python3", Places.peer("zds_ztunnel.py"), socket, "--driven"], input: .pipe(input), output: .pipe(output),
            errors: .file(.standardError))
    }

    @discardableResult
    func tell(_ op: String, as name: String = "old", error: String = "") throws -> [String: Any] {
        let order = try JSONSerialization.data(withJSONObject: ["op": op, "as": name, "error": error])
        try input.fileHandleForWriting.write(contentsOf: order + Data([UInt8(ascii: "\n")]))
        let descriptor = output.fileHandleForReading.fileDescriptor
        while !rest.contains(UInt8(ascii: "\n")) {
            guard ready(descriptor, POLLIN, milliseconds: 20_000) else { throw Complaint("\(op): no answer in 20 s") }
            let more = output.fileHandleForReading.availableData
            guard !more.isEmpty else { throw Complaint("\(op): the ztunnel has ended") }
            rest += more
        }
        let line = rest.prefix { $0 != UInt8(ascii: "\n") }
        rest.removeFirst(line.count + 1)
        let answer = try JSONSerialization.jsonObject(with: Data(line)) as? [String: Any] ?? [:]
        if let failure = answer["failure"] { throw Complaint("\(op) of \(name): \(failure)") }
        return answer
    }

    /// The next message, and the pod it is about. An addition has its one namespace.
    func next(_ name: String = "old") throws -> [String] {
        let told = try tell("next", as: name)
        let message = told["message"] as? String ?? ""
        if message == "add" { #expect(told["isNetns"] as? Bool == true, "\(told)") }
        return [message] + [told["uid"] as? String].compactMap { $0 }
    }

    func answer(_ error: String = "", as name: String = "old") throws { try tell("answer", as: name, error: error) }

    func end() {
        input.fileHandleForWriting.closeFile()
        process.end()
    }
}
