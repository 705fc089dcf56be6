import Foundation
import Glibc

@testable import LocalCluster

/// The cgroups that a runtime was told to put its containers in: the one thing it makes that no namespace of ours holds,
/// and that it does not take away itself.
enum Cgroups {
    private static let root = "/sys/fs/cgroup"
    private static let prefix = "apus-"

    static func name(of run: String) -> String { prefix + run }

    /// Those of a run, in every hierarchy there is.
    static func of(_ run: String) -> [String] { all().filter { $0.hasSuffix("/\(name(of: run))") } }

    /// Every hierarchy is a folder below the root, or is the root itself, or both.
    private static func all() -> [String] {
        ([root] + folders(in: root)).flatMap { hierarchy in
            folders(in: hierarchy).filter { $0.hasPrefix("\(hierarchy)/\(prefix)") }
        }
    }

    private static func folders(in folder: String) -> [String] {
        Files.names(in: folder).map { "\(folder)/\($0)" }.filter { path in
            var info = stat()
            return lstat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFDIR
        }
    }

    /// Removes a run's cgroups. One with a process in it stays.
    static func remove(_ run: String) {
        // A process that was killed leaves its cgroup a moment later.
        try? Waiting.untilTrue("cgroups to be empty", within: .seconds(5)) {
            of(run).forEach(remove(path:))
            return of(run).isEmpty
        }
    }

    /// What runs that crashed have left.
    static func removeAbandoned() {
        for path in all() where !FileManager.default.fileExists(atPath: folder(ofRunAt: path)) { remove(path: path) }
    }

    private static func folder(ofRunAt path: String) -> String {
        "\(RunLayout.root)/\(URL(fileURLWithPath: path).lastPathComponent.dropFirst(prefix.count))"
    }

    /// A cgroup goes by `rmdir`, its files with it, when nothing is below.
    private static func remove(path: String) {
        folders(in: path).forEach(remove(path:))
        _ = rmdir(path)
    }
}
