import Foundation
import Testing

/// `apus controller` as a process serving Istio's ztunnel, which Python plays (Tests/Peers/istio).
@Suite("With Istio's ztunnel", .serialized)
struct RustZtunnelTests {
    @Test(
        "what it gets, field by field, and every fault of its stream",
        .timeLimit(.minutes(5)), arguments: ["resources", "stream", "on-demand", "certificates", "faults"])
    func scene(name: String) throws {
        let (status, text) = try ForeignScene.run("controller_scenes.py", name)
        #expect(status == 0, "\(text.suffix(8000))")
    }
}

/// A scene of the foreign peers as a process of its own.
enum ForeignScene {
    static func run(_ script: String, _ scene: String) throws -> (status: Int32, text: String) {
        let folder = FileManager.default.temporaryDirectory.path + "/istio-\(UInt32.random(in: 0 ... .max))"
        // The program becomes another user and has to reach what is in it.
        try FileManager.default.createDirectory(
            atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
        // What is left in /tmp after a failure here is a nuisance, not an error of the test.
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [
            "bash", "-c", #"python=$("$0/scripts/peers-python") && exec timeout -k 5 150 "$python" "$@""#, root.path,
            root.appending(path: "Tests/Peers/istio/\(script)").path, products.appending(path: "apus").path, folder,
            scene,
        ]
        process.environment = ProcessInfo.processInfo.environment.merging(["PYTHONDONTWRITEBYTECODE": "1"]) { $1 }
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, text)
    }

    private static var products: URL {
        Bundle.allBundles.first { $0.bundlePath.hasSuffix(".xctest") }?.bundleURL.deletingLastPathComponent()
            ?? URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
    }
}
