import Addressing
import Foundation
import Glibc
import LinuxNetwork
import Synchronization

/// The client program of the demo and the tests (`apus local pod-client`): does what it is told over ``PodControl``, from
/// inside its pod.
public final class PodClient {
    private var connections: [String: StreamConnection] = [:]
    private let load = Load()

    /// The load under way and its result.
    private final class Load: Sendable {
        private let result = Mutex<Result<LoadReport, any Error>?>(nil)
        private let ended = DispatchSemaphore(value: 0)

        func start(_ target: Endpoint, perSecond: Int, for duration: Duration) throws {
            result.withLock { $0 = nil }
            _ = try startThread(name: "load") { [self] in
                let outcome = Result { try LoadGenerator.run(target, perSecond: perSecond, for: duration) }
                result.withLock { $0 = outcome }
                ended.signal()
            }
        }

        func take(within timeout: DispatchTime) throws -> LoadReport {
            guard ended.wait(timeout: timeout) == .success, let outcome = result.withLock({ $0 }) else {
                throw LocalClusterError(.timeout, "the load has not ended")
            }
            return try outcome.get()
        }
    }

    public init() {}

    /// Serves one controlling connection after another, for ever.
    /// - Parameter path: where to listen; without one the program only keeps its pod alive.
    public func run(controlSocket path: String?) throws -> Never {
        guard let path else {
            print("no \(PodControl.environmentName): nothing to do", terminator: "\n")
            while true { pause() }
        }
        let listener = try PodControl.listen(path)
        while true {
            let accepted = accept(listener.raw, nil, nil)
            guard accepted >= 0 else {
                if errno == EINTR || errno == ECONNABORTED { continue }
                throw SystemError("accept on \(path)")
            }
            let stream = StreamConnection(owning: FileDescriptor(owning: accepted))
            do { try serve(stream) } catch { print("control: \(error)") }
        }
    }

    private func serve(_ stream: StreamConnection) throws {
        // As long as the demo or a test runs, which bounds itself.
        while let line = try stream.line(within: .seconds(3600)) {
            let answer: PodControl.Answer
            do { answer = try perform(PodControl.decode(line)) } catch { answer = .failed("\(error)") }
            try stream.send(PodControl.encode(answer), within: .seconds(10))
        }
    }

    private func perform(_ request: PodControl.Request) throws -> PodControl.Answer {
        switch request {
        case .get(let target, let path, let milliseconds):
            return .http(try HTTPExchange.get(endpoint(target), path: path, within: .milliseconds(milliseconds)))
        case .open(let name, let target, let milliseconds):
            connections[name] = try .connect(to: endpoint(target), within: .milliseconds(milliseconds))
            return .done
        case .exchange(let name, let line, let milliseconds):
            guard let connection = connections[name] else { throw LocalClusterError(.traffic, "no connection \(name)") }
            let timeout = Duration.milliseconds(milliseconds)
            try connection.send((line + "\n").utf8, within: timeout)
            guard let answer = try connection.line(within: timeout) else {
                throw LocalClusterError(.traffic, "connection \(name) was closed by the server")
            }
            return .line(answer)
        case .close(let name):
            connections[name] = nil
            return .done
        case .startLoad(let target, let perSecond, let milliseconds):
            try load.start(endpoint(target), perSecond: perSecond, for: .milliseconds(milliseconds))
            return .done
        case .awaitLoad:
            return .load(try load.take(within: .now() + 120))
        }
    }

    private func endpoint(_ text: String) throws -> Endpoint {
        guard let endpoint = Endpoint(text) else { throw LocalClusterError(.traffic, "not an endpoint: \(text)") }
        return endpoint
    }
}
