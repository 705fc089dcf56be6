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
        return Self.value(descriptor)
    }

    func write(_ value: String) throws(RedirectionError) {
        let descriptor = open(path, O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure(errno) }
        defer { close(descriptor) }
        try write(value, descriptor)
    }

    /// A setting that is read, and perhaps written after: its file is looked up once. The kernel goes through the files of that
    /// name of every namespace on the machine for that.
    final class Opened {
        let setting: KernelSetting
        /// As it was when it was opened.
        let value: String
        private let descriptor: CInt

        /// `nil` when the setting does not exist here.
        init?(_ setting: KernelSetting) {
            self.setting = setting
            var descriptor = open(setting.path, O_RDWR | O_CLOEXEC)
            // Where it cannot be written it can be read, and may have the wanted value already.
            if descriptor < 0 { descriptor = open(setting.path, O_RDONLY | O_CLOEXEC) }
            self.descriptor = descriptor
            guard descriptor >= 0, let value = KernelSetting.value(descriptor) else {
                if descriptor >= 0 { close(descriptor) }
                return nil
            }
            self.value = value
        }

        deinit { close(descriptor) }

        func write(_ value: String) throws(RedirectionError) {
            guard fcntl(descriptor, F_GETFL) & O_ACCMODE == O_RDWR else { return try setting.write(value) }
            try setting.write(value, descriptor)
        }
    }

    private static func value(_ descriptor: CInt) -> String? {
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = Glibc.read(descriptor, &bytes, bytes.count)
        guard count > 0 else { return nil }
        return String(decoding: bytes[..<count].filter { $0 > 0x20 }, as: UTF8.self)
    }

    private func write(_ value: String, _ descriptor: CInt) throws(RedirectionError) {
        let bytes = Array(value.utf8)
        guard pwrite(descriptor, bytes, bytes.count, 0) == bytes.count else { throw failure(errno) }
    }

    private func failure(_ code: CInt) -> RedirectionError {
        RedirectionError(
            .setting, "cannot write \(path)", cause: String(cString: strerror(code)),
            hint: code == EROFS ? "/proc/sys is mounted read-only; the agent needs it writable" : nil)
    }
}
