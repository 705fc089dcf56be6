import CLinux
import Glibc

/// In a container the agent sees the machine as the node does: its processes, its kernel settings, its cgroups. Done while
/// there is one thread, before the command line is parsed: what comes later, threads and all, is born into it.
enum NodeView {
    static let option = "--host-proc"

    static func ifAgent(_ arguments: [String]) {
        guard arguments.dropFirst().first == "agent", let path = value(arguments) else { return }
        var step: UnsafePointer<CChar>?
        guard apus_use_host_proc(path, &step) == 0 else {
            let reason = String(cString: strerror(errno))
            let name = step.map { String(cString: $0) } ?? "unknown step"
            let text =
                "apus agent: \(option) \(path): cannot \(name): \(reason); the agent needs CAP_SYS_ADMIN and "
                + "CAP_SYS_PTRACE, no AppArmor profile that forbids mounts, and the node's /proc there\n"
            let line = Array(text.utf8)
            _ = write(2, line, line.count)
            exit(71)  // EX_OSERR
        }
    }

    private static func value(_ arguments: [String]) -> String? {
        for (index, argument) in arguments.enumerated() {
            if argument == option, arguments.indices.contains(index + 1) { return arguments[index + 1] }
            if argument.hasPrefix(option + "=") { return String(argument.dropFirst(option.count + 1)) }
        }
        return nil
    }
}
