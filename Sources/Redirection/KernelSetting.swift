import Glibc

/// A file under `/proc/sys/net`, which shows the settings of the network namespace of the thread that opens it.
struct KernelSetting: Sendable {
    let path: String

    /// As sysctl shows it.
    var name: String {
        path.split(separator: "/").dropFirst(2).joined(separator: ".")
    }

    static let ipv6Disabled = KernelSetting(path: "/proc/sys/net/ipv6/conf/lo/disable_ipv6")

    /// The value without white space around it; `nil` when the setting does not exist here.
    func read() -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = Glibc.read(descriptor, &bytes, bytes.count)
        guard count > 0 else { return nil }
        return String(decoding: bytes[..<count].filter { $0 > 0x20 }, as: UTF8.self)
    }

    func write(_ value: String) throws(RedirectionError) {
        let descriptor = open(path, O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure(errno) }
        defer { close(descriptor) }
        let bytes = Array(value.utf8)
        guard Glibc.write(descriptor, bytes, bytes.count) == bytes.count else { throw failure(errno) }
    }

    private func failure(_ code: CInt) -> RedirectionError {
        RedirectionError(
            .setting, "cannot write \(path)", cause: String(cString: strerror(code)),
            hint: code == EROFS ? "/proc/sys is mounted read-only; the agent needs it writable" : nil)
    }
}
