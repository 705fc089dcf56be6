import Foundation
import Testing

/// The node's containers under a real container runtime, with what the chart gives them and no more. As root.
@Suite("Containers", .serialized)
struct ContainerTests {
    /// What containerd gives a container that drops nothing.
    private static let usual = [
        "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
        "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
    ]

    /// Folders of the node that are what they are; all others are this test's.
    private static let real = ["/proc", "/sys/fs/cgroup"]

    @Test func allThreeRunWithTheRuntimesSeccompFilterAndTheirCapabilities() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "apus-c-\(UUID().uuidString.prefix(8))")
            .path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }  // In the machine's temporary files otherwise.
        let pod = try Chart.render().one("DaemonSet", "ztunnel")["spec", "template", "spec"]
        let lines = try pod["containers"].items.map { try Self.line($0, pod["volumes"].items, folder) }
        try lines.joined(separator: "\n").appending("\n")
            .write(toFile: folder + "/containers", atomically: true, encoding: .utf8)
        for name in ["objects", "status"] {
            try FileManager.default.createDirectory(
                atPath: folder + "/node/var/run/apus/" + name, withIntermediateDirectories: true)
        }
        func log(_ name: String) -> String {
            // Not there before its container is.
            (try? String(contentsOfFile: "\(folder)/\(name).log", encoding: .utf8)) ?? ""
        }
        func isUp() -> Bool {
            log("agent").contains("the agent is ready") && log("agent").contains("the keeper is there")
                && log("sockets").contains("an agent is here") && log("ztunnel").contains("ztunnel is running")
        }
        let script = Process()
        script.executableURL = URL(fileURLWithPath: "/bin/bash")
        script.arguments = [
            Chart.repository.appending(path: "Tests/DeployTests/containers.sh").path, folder,
            URL(fileURLWithPath: try Chart.program("apus")).deletingLastPathComponent().path,
        ]
        let errors = folder + "/script.log"
        _ = FileManager.default.createFile(atPath: errors, contents: nil)
        script.standardError = FileHandle(forWritingAtPath: errors)
        script.standardOutput = FileHandle.nullDevice
        try script.run()
        let deadline = Date(timeIntervalSinceNow: 60)
        while !isUp(), script.isRunning, Date() < deadline {
            RunLoop.current.run(until: Date(timeIntervalSinceNow: 0.05))
        }
        _ = FileManager.default.createFile(atPath: folder + "/done", contents: nil)
        script.waitUntilExit()
        let logs = ["script", "containerd", "agent", "sockets", "ztunnel"]
            .map { "\($0): \(log($0).suffix(1500))" }.joined(separator: "\n")
        #expect(isUp(), "\(logs)")
        for name in ["agent", "sockets", "ztunnel"] {
            #expect(!log(name).contains("not permitted") && !log(name).contains("ermission denied"), "\(log(name))")
        }
    }

    /// A line for containers.sh: the name, and what `ctr run` is told.
    private static func line(_ container: Thing, _ volumes: [Thing], _ folder: String) throws -> String {
        let name = container.name
        var added = container["securityContext", "capabilities", "add"].texts
        // This runtime's tool cannot say who the user is, so ztunnel becomes it itself, which takes these.
        if name == "ztunnel" { added += ["SETUID", "SETGID", "SETPCAP"] }
        var words = usual.filter { !added.contains($0) }.flatMap { ["--cap-drop", "CAP_\($0)"] }
        words += added.filter { !usual.contains($0) }.flatMap { ["--cap-add", "CAP_\($0)"] }
        for mount in container["volumeMounts"].items {
            guard let path = volumes.named(mount["name"].text ?? "")["hostPath", "path"].text,
                let place = mount["mountPath"].text
            else { continue }
            let source = real.contains(path) ? path : "\(folder)/node\(path)"
            if source != path {
                try FileManager.default.createDirectory(atPath: source, withIntermediateDirectories: true)
            }
            let mode = mount["readOnly"].flag == true ? "ro" : "rw"
            words += ["--mount", "type=bind,src=\(source),dst=\(place),options=rbind:\(mode)"]
        }
        for variable in container["env"].items {
            if let value = variable["value"].text { words += ["--env", "\(variable.name)=\(value)"] }
        }
        words += ["\(folder)/rootfs", "\(name)-\(UUID().uuidString.prefix(8))"]
        words += container["command"].texts
        words += container["args"].texts.flatMap { argument -> [String] in
            switch argument {
            case "--node=$(NODE_NAME)": ["--node=n1"]
            // There is no cluster to ask.
            case "--in-cluster": ["--source=/var/run/apus/objects", "--status=/var/run/apus/status"]
            default: [argument]
            }
        }
        if name == "ztunnel" { words += ["--uid", "15000"] }
        return ([name] + words).joined(separator: " ")
    }
}
