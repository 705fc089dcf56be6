import Foundation
import Glibc
import LinuxNetwork
import Redirection

/// Ends a run, whatever is left of it. Doing it again does nothing.
public struct RunCleaner: Sendable {
    let layout: RunLayout

    public init(_ layout: RunLayout) { self.layout = layout }

    /// What was removed.
    public struct Removed: Sendable, Hashable {
        public var processes = 0
        public var namespaces = 0
        public var folder = false
        public var isNothing: Bool { processes == 0 && namespaces == 0 && !folder }
    }

    /// Ends the run's processes, clears what it put into namespaces of others, and removes its namespaces and files.
    /// - Parameter patience: how long processes have to end by themselves before they are killed.
    /// - Throws: When something could not be removed; what can be is removed all the same.
    @discardableResult
    public func clean(patience: Duration = .seconds(3)) throws -> Removed {
        var removed = Removed()
        var problems: [String] = []
        func attempt(_ body: () throws -> Void) {
            do { try body() } catch { problems.append("\(error)") }
        }
        let record = RunRecord.read(layout)
        removed.processes = endProcesses(record?.processes ?? [], patience)
        // After the agents, which would mend it.
        for path in record?.foreignNamespaces ?? [] where FileManager.default.fileExists(atPath: path) {
            attempt { try Captures.remove(fromNamespace: path) }
        }
        for name in layout.existingNamespaces() {
            attempt {
                do {
                    try NamedNamespace.remove(name)
                    removed.namespaces += 1
                } catch {
                    // Somebody else may be clearing up the same run.
                    if layout.existingNamespaces().contains(name) { throw error }
                }
            }
        }
        if FileManager.default.fileExists(atPath: layout.folder) {
            attempt {
                try Files.remove(layout.folder)
                removed.folder = true
            }
            // The folder of all runs goes with the last of them; it is not empty while another one stands.
            _ = rmdir(RunLayout.root)
        }
        guard problems.isEmpty else {
            throw LocalClusterError(
                .environment, "run \(layout.run) could not be removed whole: \(problems.joined(separator: "; "))",
                hint: "apus demo down tries again")
        }
        return removed
    }

    /// Cleans until nothing comes any more, while the thread that builds the run may still be at work.
    public func cleanUnderConstruction() throws {
        try clean()
        for _ in 0..<20 {
            Waiting.pause(.milliseconds(50))
            if try clean().isNothing { return }
        }
    }

    /// The processes that were recorded, and whoever else is in one of the run's own namespaces (what those started, and
    /// what a crash kept from being recorded).
    private func endProcesses(_ recorded: [ProcessIdentity], _ patience: Duration) -> Int {
        let own = getpid()
        func present() -> Set<ProcessIdentity> {
            var inside: Set<NamespaceID> = []
            for name in layout.existingNamespaces() {
                var info = stat()
                if stat(RunLayout.namespacePath(name), &info) == 0 {
                    inside.insert(NamespaceID(device: UInt64(info.st_dev), inode: UInt64(info.st_ino)))
                }
            }
            return Set(recorded.filter(\.isAlive) + ProcessIdentity.all(in: inside)).filter { $0.pid != own }
        }
        var seen: Set<ProcessIdentity> = []
        // Twice to end what is started meanwhile by what is about to end, such as a supervisor's child.
        for (signal, patience) in [(SIGTERM, patience), (SIGKILL, .seconds(3)), (SIGKILL, .seconds(3))] {
            let now = present()
            if now.isEmpty { break }
            seen.formUnion(now)
            for process in now { process.signal(signal) }
            // The next signal follows when it does not help in time.
            try? Waiting.untilTrue("processes to end", within: patience) { !now.contains(where: \.isAlive) }
        }
        return seen.count
    }

    /// Ends every run that nobody answers for any more, and, with `standing`, those that were left standing on purpose.
    /// - Returns: What was removed of each, or why not all of it could be.
    public static func cleanAbandoned(standing: Bool) -> [(run: String, result: Result<Removed, any Error>)] {
        RunRecord.all().filter { _, record in
            guard let record else { return true }
            return !record.isOwned && (standing || !record.stays)
        }.map { layout, _ in (layout.run, Result { try RunCleaner(layout).clean() }) }
    }
}
