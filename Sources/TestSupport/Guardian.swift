import Foundation
import Synchronization

/// Ends processes when this one ends, however it does: a shell that reads which there are from a pipe of which nobody else
/// has the other end, and kills those that are left when the pipe is closed.
///
/// The kernel's own means, a signal at the parent's death, goes by the thread that started the child, and those of tests
/// come and go.
public final class Guardian: Sendable {
    /// That of this process.
    static let shared = Result { try Guardian() }

    private let input: Mutex<FileHandle>
    private let shell: Int32

    init() throws {
        let pipe = Pipe()
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", Self.script]
        process.standardInput = pipe
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        shell = process.processIdentifier
        input = Mutex(pipe.fileHandleForWriting)
    }

    /// Children of children are killed with them.
    private static let script = """
        trap '' TERM INT HUP
        tree() { for child in $(cat "/proc/$1/task/"*/children 2>/dev/null); do tree "$child"; done; echo "$1"; }
        all=
        while read -r word pid; do
            if [ "$word" = watch ]; then all="$all $pid"; continue; fi
            rest=
            for one in $all; do [ "$one" = "$pid" ] || rest="$rest $one"; done
            all=$rest
        done
        for one in $all; do kill -9 $(tree "$one") 2>/dev/null; done
        """

    func watch(_ pid: Int32) { tell("watch \(pid)") }

    /// It has ended: its number may be another one's soon.
    func forget(_ pid: Int32) { tell("forget \(pid)") }

    /// As this process's end does.
    func close() { input.withLock { try? $0.close() } }

    private func tell(_ line: String) {
        // Without a guardian the processes are ended by whoever started them, as they are in any case.
        input.withLock { try? $0.write(contentsOf: Data("\(line)\n".utf8)) }
    }
}
