import Glibc
import LinuxNetwork
import NIOPosix

/// A TCP client that sends exactly what it is told. Reading blocks a thread, which must not be one that tasks run on:
/// the server's handlers need those.
final class RawClient: Sendable {
    private let socket: CInt
    private static let readers = {
        let pool = NIOThreadPool(numberOfThreads: 32)
        pool.start()
        return pool
    }()

    init(port: Int) throws {
        socket = Glibc.socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        guard socket >= 0 else { throw SystemError("socket") }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 else { throw SystemError("connect") }
    }

    deinit { close(socket) }

    /// `false` when the other side is gone.
    @discardableResult
    func send(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        return Glibc.send(socket, bytes, bytes.count, CInt(MSG_NOSIGNAL)) == bytes.count
    }

    func finishSending() { _ = shutdown(socket, CInt(SHUT_WR)) }

    /// Everything up to the end of the connection; `nil` when it does not end in time.
    func readToEnd(milliseconds: CInt = 10000) async -> String? {
        // The pool is never shut down, which is its only error.
        try? await RawClient.readers.runIfActive { self.blockingRead(milliseconds) }
    }

    private func blockingRead(_ milliseconds: CInt) -> String? {
        var bytes: [UInt8] = []
        while true {
            var entry = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
            guard poll(&entry, 1, milliseconds) > 0 else { return nil }
            var chunk = [UInt8](repeating: 0, count: 65536)
            let count = recv(socket, &chunk, chunk.count, 0)
            guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
            bytes += chunk[..<count]
        }
    }
}
