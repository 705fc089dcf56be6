import Foundation
import Glibc
import LinuxNetwork
import Synchronization

/// Which processes are in which network namespace. The machine's processes are gone through once for all who ask within a
/// moment: a label that enrols hundreds of pods has all of them looked for at the same time.
final class NamespaceProcesses: Sendable {
    /// Where processes are seen.
    let proc: String
    /// How old an answer may be. Who asks for a process that has just begun asks again later anyway.
    private let oldest: Duration
    private let last = Mutex<Reading?>(nil)

    private struct Reading {
        let taken: ContinuousClock.Instant
        let processes: [NamespaceID: [Int32]]
    }

    init(proc: String = "/proc", oldest: Duration = .milliseconds(200)) {
        self.proc = proc
        self.oldest = oldest
    }

    /// Those with a file system of their own first: a tool that somebody has run in the pod's network from outside has
    /// the machine's. Blocks; whoever uses a number must look whether its process is still in the namespace.
    /// - Throws: When no processes can be seen, which is not the same as there being none.
    func processes(of namespace: NamespaceID) throws -> [Int32] {
        try last.withLock { last in
            if let last, ContinuousClock.now - last.taken < oldest { return last.processes[namespace] ?? [] }
            let taken = ContinuousClock.now
            let processes = try read()
            last = Reading(taken: taken, processes: processes)
            return processes[namespace] ?? []
        }
    }

    private func read() throws -> [NamespaceID: [Int32]] {
        let names = try FileManager.default.contentsOfDirectory(atPath: proc)
        let machine = Self.identity("\(proc)/1/ns/mnt")
        let own = Self.identity("/proc/self/ns/mnt")
        var native: [NamespaceID: [Int32]] = [:]
        var foreign: [NamespaceID: [Int32]] = [:]
        for pid in names.compactMap({ Int32($0) }).sorted() {
            guard let network = Self.identity("\(proc)/\(pid)/ns/net") else { continue }
            let files = Self.identity("\(proc)/\(pid)/ns/mnt")
            if files != machine, files != own {
                foreign[network, default: []].append(pid)
            } else {
                native[network, default: []].append(pid)
            }
        }
        return foreign.merging(native) { $0 + $1 }
    }

    /// What a path under `ns/` stands for; `nil` when the process has ended.
    static func identity(_ path: String) -> NamespaceID? {
        var info = stat()
        guard stat(path, &info) == 0 else { return nil }
        return NamespaceID(device: UInt64(info.st_dev), inode: UInt64(info.st_ino))
    }
}
