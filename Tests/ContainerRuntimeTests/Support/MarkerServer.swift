import Addressing
import CLinux
import Glibc
import LinuxNetwork
import Synchronization

/// A server in a pod's network namespace: whoever connects sends one marker and ends; the server keeps it, with the
/// address it came from, and answers with that address.
final class MarkerServer: Sendable {
    static let port: UInt16 = 8080

    private let shared: Shared
    private let thread: pthread_t

    /// Listens on both families at ``port``.
    /// - Parameter namespace: path of the pod's network namespace.
    init(namespace: String) throws {
        let listener = try NetworkNamespace(path: namespace).run { () throws(SystemError) in
            let socket = try Sockets.tcp(dualStack: true)
            try Sockets.bind(socket.raw, to: Endpoint(.anyV6, Self.port), dualStack: true)
            try Sockets.listen(socket.raw, backlog: 128)
            return socket
        }
        let event = try check("make an eventfd") { eventfd(0, CInt(EFD_CLOEXEC)) }
        let shared = Shared(listener, FileDescriptor(owning: event))
        self.shared = shared
        thread = try startThread(name: "marker-server") { Loop(shared).run() }
    }

    deinit {
        var one: UInt64 = 1
        _ = write(shared.stop.raw, &one, 8)
        pthread_join(thread, nil)
    }

    /// What was received so far: the addresses that every marker came from.
    var received: [String: [IPAddress]] { shared.received.withLock { $0 } }

    private final class Shared: Sendable {
        let listener: FileDescriptor
        let stop: FileDescriptor
        let received = Mutex<[String: [IPAddress]]>([:])

        init(_ listener: consuming FileDescriptor, _ stop: consuming FileDescriptor) {
            self.listener = listener
            self.stop = stop
        }
    }

    private final class Connection {
        let descriptor: FileDescriptor
        let peer: Endpoint
        var bytes: [UInt8] = []

        init(_ descriptor: consuming FileDescriptor, _ peer: Endpoint) {
            self.descriptor = descriptor
            self.peer = peer
        }
    }

    /// One thread for all: it waits for the listener, the connections and the end.
    private final class Loop {
        /// More than any marker; whoever sends more is cut off.
        private static let longest = 4096

        private let shared: Shared
        private var connections: [Connection] = []

        init(_ shared: Shared) { self.shared = shared }

        func run() {
            while true {
                var waits = ([shared.stop.raw, shared.listener.raw] + connections.map { $0.descriptor.raw }).map {
                    pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
                }
                if poll(&waits, nfds_t(waits.count), -1) < 0, errno != EINTR { return }
                if waits[0].revents != 0 { return }
                let ready = zip(connections, waits.dropFirst(2)).filter { $1.revents != 0 }.map(\.0)
                for connection in ready where !goesOn(connection) {
                    connections.removeAll { $0 === connection }
                }
                if waits[1].revents != 0 { accept() }
            }
        }

        private func accept() {
            // Whoever went away before it was accepted is missed by its marker.
            while let accepted = try? Sockets.accept(shared.listener.raw) {
                guard let peer = accepted.peer else { continue }
                connections.append(Connection(accepted.takeDescriptor(), peer))
            }
        }

        /// - Returns: Whether there is more to come.
        private func goesOn(_ connection: Connection) -> Bool {
            var buffer = [UInt8](repeating: 0, count: Self.longest)
            while true {
                let count = recv(connection.descriptor.raw, &buffer, buffer.count, 0)
                if count < 0 { return errno == EAGAIN || errno == EINTR }
                if count == 0 { break }
                connection.bytes += buffer[..<count]
                if connection.bytes.count > Self.longest { return false }
            }
            let marker = String(decoding: connection.bytes, as: UTF8.self)
            let address = connection.peer.address.canonical
            shared.received.withLock { $0[marker, default: []].append(address) }
            let answer = Array("\(address)\n".utf8)
            _ = send(connection.descriptor.raw, answer, answer.count, CInt(MSG_NOSIGNAL))
            return false
        }
    }
}
