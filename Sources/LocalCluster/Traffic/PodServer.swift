import Addressing
import Glibc
import LinuxNetwork

/// The server program of the demo and the tests (`apus local pod-server`): HTTP that says who asked and what for, and an
/// echo of whatever comes. One thread, IPv4 and IPv6.
public final class PodServer {
    private let loop: EventLoop
    private var listeners: [Listener] = []

    public init(httpPorts: [UInt16], echoPorts: [UInt16]) throws {
        raiseDescriptorLimit()
        loop = try EventLoop()
        for port in httpPorts { listeners.append(try Listener(loop, port) { HTTPService($0) }) }
        for port in echoPorts { listeners.append(try Listener(loop, port) { _ in EchoService() }) }
    }

    public func run() throws { try loop.run() }

    private final class Listener: EventHandler {
        private let descriptor: FileDescriptor
        private let loop: EventLoop
        private let make: (Endpoint?) -> any Service

        init(_ loop: EventLoop, _ port: UInt16, _ make: @escaping (Endpoint?) -> any Service) throws {
            let dualStack = Sockets.kernelHasIPv6
            let socket = try Sockets.tcp(dualStack: dualStack)
            try Sockets.setReuseAddress(socket.raw)
            try Sockets.bind(socket.raw, to: Endpoint(dualStack ? .anyV6 : .anyV4, port), dualStack: dualStack)
            try Sockets.listen(socket.raw, backlog: 4096)
            descriptor = socket
            self.loop = loop
            self.make = make
            _ = try loop.register(descriptor.raw, .read, self)
        }

        func ready(_ events: ReadyEvents) {
            while true {
                do {
                    guard let accepted = try Sockets.accept(descriptor.raw) else { return }
                    let peer = accepted.peer
                    let connection = Connection(loop, accepted.takeDescriptor(), make(peer))
                    connection.begin()
                } catch {
                    // No descriptor left, for example: those that end make room, and the listener tells again.
                    return
                }
            }
        }
    }

    private final class Connection: EventHandler {
        private var descriptor: FileDescriptor?
        private let loop: EventLoop
        private let service: any Service
        private var registration: EventLoop.Registration?
        private var pending: [UInt8] = []
        private var peerFinished = false

        init(_ loop: EventLoop, _ descriptor: consuming FileDescriptor, _ service: any Service) {
            self.loop = loop
            self.descriptor = consume descriptor
            self.service = service
        }

        func begin() {
            // A connection that the loop cannot watch is closed by being dropped.
            registration = try? loop.register(descriptor?.raw ?? -1, .connection, self)
        }

        func ready(_ events: ReadyEvents) {
            if events.contains(.error) { return close() }
            var buffer = [UInt8](repeating: 0, count: 65536)
            while descriptor != nil {
                guard flush() else { return }
                if peerFinished || service.isFinished { return close() }
                let count = recv(descriptor?.raw ?? -1, &buffer, buffer.count, 0)
                if count > 0 {
                    pending += service.answer(to: buffer[..<count])
                } else if count == 0 {
                    peerFinished = true
                } else if errno == EAGAIN {
                    return
                } else if errno != EINTR {
                    return close()
                }
            }
        }

        /// - Returns: Whether all is sent; otherwise writability calls again, and nothing more is read until then.
        private func flush() -> Bool {
            while !pending.isEmpty {
                let count = pending.withUnsafeBytes {
                    send(descriptor?.raw ?? -1, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL))
                }
                if count > 0 {
                    pending.removeFirst(count)
                } else if errno == EAGAIN {
                    return false
                } else if errno != EINTR {
                    close()
                    return false
                }
            }
            return true
        }

        private func close() {
            if let registration { loop.deregister(registration) }
            registration = nil
            descriptor = nil
        }
    }
}

/// What a connection of the server says back.
private protocol Service: AnyObject {
    func answer(to bytes: ArraySlice<UInt8>) -> [UInt8]
    /// Whether the connection ends once everything is sent.
    var isFinished: Bool { get }
}

private final class EchoService: Service {
    func answer(to bytes: ArraySlice<UInt8>) -> [UInt8] { Array(bytes) }
    var isFinished: Bool { false }
}

/// Answers every request with the path that was asked for and the address that asked, and ends the connection.
private final class HTTPService: Service {
    private let peer: Endpoint?
    private var head: [UInt8] = []
    private(set) var isFinished = false

    init(_ peer: Endpoint?) { self.peer = peer }

    func answer(to bytes: ArraySlice<UInt8>) -> [UInt8] {
        guard !isFinished else { return [] }
        head += bytes
        let text = String(decoding: head, as: UTF8.self)
        guard text.contains("\r\n\r\n") || head.count > 16384 else { return [] }
        isFinished = true
        let words = text.prefix(while: { !$0.isNewline }).split(separator: " ")
        guard words.count == 3, words[2].hasPrefix("HTTP/1.") else {
            return response("400 Bad Request", "no request\n")
        }
        let path = words[1]
        // `/bytes/N`: a body of that many bytes, to see how a long answer arrives.
        if path.hasPrefix("/bytes/"), let count = Int(path.dropFirst(7)), (0...64 << 20).contains(count) {
            return response("200 OK", String(repeating: "x", count: count))
        }
        return response("200 OK", "path \(path)\nclient \(peer.map { "\($0.address)" } ?? "unknown")\n")
    }

    private func response(_ status: String, _ body: String) -> [UInt8] {
        Array(
            ("HTTP/1.1 \(status)\r\nContent-Type: text/plain\r\nContent-Length: \(body.utf8.count)\r\n"
                + "Connection: close\r\n\r\n" + body).utf8)
    }
}
