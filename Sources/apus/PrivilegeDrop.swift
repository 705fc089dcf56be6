import CLinux
import Glibc

/// `apus ztunnel` parses bytes from the network; it keeps no capability and no system call it does not need. All of this
/// happens in C, in the only thread there is, before the command line is even parsed: what comes later can only have
/// less.
enum PrivilegeDrop {
    static func ifDataPath(_ arguments: [String]) {
        guard arguments.dropFirst().first == "ztunnel" else { return }
        var step: UnsafePointer<CChar>?
        // Read by hand, as the user is: whoever makes pods' sockets itself must be able to enter their namespaces.
        let makesSockets = arguments.contains("--own-sockets")
        guard apus_drop_privileges(user(arguments), makesSockets, &step) == 0 else {
            let reason = String(cString: strerror(errno))
            let name = step.map { String(cString: $0) } ?? "unknown step"
            stop("cannot drop privileges: \(name): \(reason)", code: 71)  // EX_OSERR
        }
    }

    /// The value of `--uid`, read by hand since the parser comes later; 0, no change, when there is none. A value that
    /// is no number ends the program here: running on as root would be the wrong guess.
    private static func user(_ arguments: [String]) -> UInt32 {
        for (index, argument) in arguments.enumerated() {
            let value: String?
            if argument == "--uid" {
                value = arguments.indices.contains(index + 1) ? arguments[index + 1] : nil
            } else if argument.hasPrefix("--uid=") {
                value = String(argument.dropFirst("--uid=".count))
            } else {
                continue
            }
            guard let value, let uid = UInt32(value), uid != UInt32.max else {
                stop("--uid wants a user number", code: 64)  // EX_USAGE
            }
            return uid
        }
        return 0
    }

    private static func stop(_ text: String, code: CInt) -> Never {
        let line = Array("apus ztunnel: \(text)\n".utf8)
        _ = write(2, line, line.count)
        exit(code)
    }
}
