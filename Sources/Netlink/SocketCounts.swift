import Glibc

/// How many TCP sockets a network namespace has, by the kernel's own counters: no table has to be gone through.
struct SocketCounts: Hashable, Sendable {
    /// Of both families: listeners and connections, but neither half-open nor finished ones.
    var inUse: Int
    /// Connections in TIME_WAIT.
    var finished: Int

    init(inUse: Int, finished: Int) {
        self.inUse = inUse
        self.finished = finished
    }

    /// Those of the calling thread's namespace; `nil` when /proc does not tell.
    static func read() -> SocketCounts? {
        guard let four = text("/proc/thread-self/net/sockstat") else { return nil }
        // A kernel without IPv6 has no such file.
        return SocketCounts(four: four, six: text("/proc/thread-self/net/sockstat6") ?? "")
    }

    /// - Parameters:
    ///   - four: /proc/net/sockstat, with a line like `TCP: inuse 3 orphan 0 tw 1 alloc 5 mem 0`.
    ///   - six: /proc/net/sockstat6, with a line like `TCP6: inuse 3`.
    init?(four: String, six: String) {
        let tcp = Self.fields(of: "TCP:", in: four)
        guard let inUse = tcp["inuse"], let finished = tcp["tw"] else { return nil }
        self.init(inUse: inUse + (Self.fields(of: "TCP6:", in: six)["inuse"] ?? 0), finished: finished)
    }

    private static func fields(of name: String, in text: String) -> [String: Int] {
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ").map(String.init)
            guard words.first == name else { continue }
            let pairs = stride(from: 1, to: words.count - 1, by: 2).compactMap { at in
                Int(words[at + 1]).map { (words[at], $0) }
            }
            return Dictionary(pairs) { first, _ in first }
        }
        return [:]
    }

    private static func text(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = Glibc.read(descriptor, &bytes, bytes.count)
        guard count > 0 else { return nil }
        return String(decoding: bytes[..<count], as: UTF8.self)
    }
}
