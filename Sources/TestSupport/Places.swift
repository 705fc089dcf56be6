public import Foundation

/// Where a test finds things.
public enum Places {
    /// The repository.
    public static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// A script of `Tests/Peers`.
    public static func peer(_ name: String) -> String { root.appending(path: "Tests/Peers/\(name)").path }

    /// The programs that were built with the tests.
    public static var products: URL {
        Bundle.allBundles.first { $0.bundlePath.hasSuffix(".xctest") }?.bundleURL.deletingLastPathComponent()
            ?? URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
    }
}

/// A scene of the foreign peers in `Tests/Peers/istio` as a process of its own, with the program of this build.
public enum ForeignScene {
    public static func run(_ script: String, _ scene: String) throws -> (status: Int32, text: String) {
        let folder = FileManager.default.temporaryDirectory.path + "/istio-\(UInt32.random(in: 0 ... .max))"
        // The program becomes another user and has to reach what is in it.
        try FileManager.default.createDirectory(
            atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
        // What is left in /tmp after a failure here is a nuisance, not an error of the test.
        defer { try? FileManager.default.removeItem(atPath: folder) }
        return try PeerRun.run(
            [
                "bash", "-c", #"python=$("$0/scripts/peers-python") && exec timeout -k 5 150 "$python" "$@""#,
                Places.root.path, Places.peer("istio/\(script)"), Places.products.appending(path: "apus").path, folder,
                scene,
            ], adding: ["PYTHONDONTWRITEBYTECODE": "1"])
    }
}
