import Foundation
import LinuxNetwork
import TestSupport

/// The node agent of Istio as `Tests/Peers/zds_agent.py` plays it: a process that is told what to do line by line.
final class ForeignAgent {
    private let process: Peer
    private let input = Pipe()
    private let output = Pipe()
    private var rest = Data()

    init(socket path: String) throws {
        process = try Peer(
            ["python3", Places.peer("zds_agent.py"), path], input: .pipe(input), output: .pipe(output),
            errors: .file(.standardError))
        _ = try answer()
    }

    /// Says what to do and waits for what came of it.
    @discardableResult
    func tell(_ op: String, _ fields: [String: Any] = [:]) throws -> [String: Any] {
        var order = fields
        order["op"] = op
        try input.fileHandleForWriting.write(
            contentsOf: try JSONSerialization.data(withJSONObject: order) + Data([UInt8(ascii: "\n")]))
        let answer = try answer()
        if let failure = answer["failure"] { throw Unmet("the agent's \(op): \(failure)") }
        return answer
    }

    /// Adds a pod; an error is what ztunnel refused it with.
    func add(_ pod: TestPod) throws {
        let answer = try tell(
            "add",
            ["uid": pod.uid, "name": pod.name, "namespace": "shop", "sa": pod.name, "netns": Self.path(pod)])
        guard answer["error"] as? String == "" else { throw Unmet("pod \(pod.name): \(answer)") }
    }

    /// What another process opens the pod's namespace by.
    static func path(_ pod: TestPod) -> String { "/proc/\(getpid())/fd/\(pod.namespace.raw)" }

    private func answer() throws -> [String: Any] {
        while true {
            if let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                let line = rest[..<end]
                rest = rest[rest.index(after: end)...]
                return try JSONSerialization.jsonObject(with: line) as? [String: Any] ?? [:]
            }
            let descriptor = output.fileHandleForReading.fileDescriptor
            try Talk.ready(descriptor, POLLIN, "the agent's answer")
            let more = output.fileHandleForReading.availableData
            guard !more.isEmpty else { throw Unmet("the agent has ended") }
            rest += more
        }
    }

    func end() {
        input.fileHandleForWriting.closeFile()
        process.end()
    }
}
