import Glibc
import LinuxNetwork

@testable import NodeAgent

/// A real process in a pod's network namespace and in a cgroup that is named as kubelet and runtime name them.
final class PodProcess {
    let pid: Int32
    private let cgroups: [String]

    static func id(_ digit: Character) -> String { String(repeating: digit, count: 64) }

    init(in pod: FakePod, uid: String, container: String) throws {
        let null = try FileDescriptor.open("/dev/null", flags: O_RDWR)
        let stream = null.raw
        pid = try pod.namespace.value.run { () throws(SystemError) in
            try ProcessSpawn.start(
                ["/bin/sleep", "600"], environment: [],
                streams: .init(input: stream, output: stream, errors: stream))
        }
        // The hierarchy of v2, wherever it is mounted.
        let root =
            access("/sys/fs/cgroup/unified/cgroup.procs", F_OK) == 0 ? "/sys/fs/cgroup/unified" : "/sys/fs/cgroup"
        let top = "\(root)/apus-test-\(getpid())-\(pid)"
        cgroups = [top, "\(top)/kubepods", "\(top)/kubepods/pod\(uid)", "\(top)/kubepods/pod\(uid)/\(container)"]
        for path in cgroups { try check("make \(path)") { mkdir(path, 0o755) } }
        let procs = try FileDescriptor.open(cgroups[3] + "/cgroup.procs", flags: O_WRONLY)
        let number = Array("\(pid)".utf8)
        try check("move a process into a cgroup") { write(procs.raw, number, number.count) }
    }

    deinit {
        kill(pid, SIGKILL)
        waitpid(pid, nil, 0)
        for path in cgroups.reversed() {
            // The kernel lets go of a process a moment after its end.
            for _ in 0..<200 {
                if rmdir(path) == 0 || errno != EBUSY { break }
                _ = poll(nil, 0, 5)
            }
        }
    }
}
