import Addressing
import Controller
import Foundation
import Identity
import Logging
import Mesh

/// A controller over a made-up cluster, for subscribers in another process. Told what to do by lines on standard input;
/// each is answered by a line of JSON.
///
///     change COUNT RATE      changes so many pods, so many a second; 0 for one after the other as each is acknowledged
///     services COUNT         changes so many services, one after the other
///     memory                 private memory that is written to, in bytes
struct ControllerLoad {
    let pods: Int
    let services: Int
    let folder: String

    func run() async throws {
        // What is measured is the controller, not the making of objects: those are there first.
        let source = MeshObjects(pods: pods, services: services)
        let objects = try ProcessUse.privateDirty()
        for name in ["source", "status"] {
            try FileManager.default.createDirectory(
                atPath: "\(folder)/\(name)", withIntermediateDirectories: true)
        }
        let settings = ControllerSettings(
            source: folder + "/source", status: folder + "/status", state: folder + "/state",
            listen: Endpoint(.loopbackV4, 0))
        var logger = Logger(label: "controller")
        logger.logLevel = .critical
        let clock = ContinuousClock()
        let begun = clock.now
        let server = try await ControllerServer(settings, over: source, logger: logger)
        let published = clock.now - begun
        let task = Task { try await server.run() }
        let endpoint = try await server.endpoint
        let token = try await NodeTokenIssuer(directory: settings.state).issue(node: "n1", now: Date()).token
        say(
            """
            {"address": "\(endpoint)", "root": "\(folder)/state/root-cert.pem", "token": "\(token)", \
            "publish_seconds": \(published / .seconds(1)), "objects_bytes": \(objects), \
            "bytes": \(try ProcessUse.privateDirty())}
            """)
        while let line = readLine() {
            let words = line.split(separator: " ").map(String.init)
            switch (words.first, words.dropFirst().compactMap { Double($0) }) {
            case ("change", let numbers) where numbers.count == 2:
                say(try await change(source, server, Int(numbers[0]), rate: numbers[1]))
            case ("services", let numbers) where numbers.count == 1:
                say(try await changeServices(source, server, Int(numbers[0])))
            case ("memory", _):
                say(
                    """
                    {"bytes": \(try ProcessUse.privateDirty()), "clients": \(server.discovery.counts.clients), \
                    "responses": \(server.discovery.counts.responses)}
                    """)
            default: throw BenchError("no such command: \(line)")
            }
        }
        task.cancel()
        // How it ends is of no interest.
        _ = await task.result
    }

    private func change(
        _ source: MeshObjects, _ server: ControllerServer, _ count: Int, rate: Double
    ) async throws -> String {
        let clock = ContinuousClock()
        let begun = clock.now
        let used = ProcessUse.cpuSeconds
        for index in 0..<count {
            if rate > 0 {
                let due = begun + .seconds(Double(index) / rate)
                if due > clock.now { try await clock.sleep(until: due) }
            }
            // Spread, so that no two are of one pod and none is lost in a later one.
            source.change(index &* 7919, mark: "@\(ProcessUse.monotonicNanoseconds)@")
            if rate == 0 { try await settle(server, source) }
        }
        try await settle(server, source)
        let seconds = (clock.now - begun) / .seconds(1)
        let cpu = ProcessUse.cpuSeconds - used
        return """
            {"changes": \(count), "seconds": \(seconds), "cpu_seconds": \(cpu), \
            "cpu_per_change_ms": \(cpu / Double(count) * 1000), "rate": \(Double(count) / seconds)}
            """
    }

    private func changeServices(
        _ source: MeshObjects, _ server: ControllerServer, _ count: Int
    ) async throws -> String {
        let used = ProcessUse.cpuSeconds
        let begun = ContinuousClock().now
        for index in 0..<count {
            source.changeService(index, port: UInt16(10_000 + index))
            try await settle(server, source)
        }
        let cpu = ProcessUse.cpuSeconds - used
        return """
            {"changes": \(count), "seconds": \((ContinuousClock().now - begun) / .seconds(1)), \
            "cpu_per_change_ms": \(cpu / Double(count) * 1000)}
            """
    }

    /// Until every subscriber has acknowledged what is published, and what is published is what there is.
    private func settle(_ server: ControllerServer, _ source: MeshObjects) async throws {
        let version = source.snapshot().version
        guard await server.waitUntilPublished(version, timeout: .seconds(60)) else {
            throw BenchError("nothing is published")
        }
        let late = await server.discovery.waitUntilAcked(server.discovery.mark, timeout: .seconds(120))
        guard late.isEmpty else { throw BenchError("\(late.count) subscribers have not answered in 120 s") }
    }

    private func say(_ line: String) {
        print(line)
        fflush(nil)
    }
}

/// What this process uses.
enum ProcessUse {
    /// Memory of this process that is its own and written to, in bytes.
    static func privateDirty() throws -> Int {
        let text = try String(contentsOfFile: "/proc/self/smaps_rollup", encoding: .utf8)
        for line in text.split(separator: "\n") where line.hasPrefix("Private_Dirty:") {
            if let kilobytes = line.split(separator: " ").dropFirst().first.flatMap({ Int($0) }) {
                return kilobytes * 1024
            }
        }
        throw BenchError("smaps_rollup does not say Private_Dirty")
    }

    static var cpuSeconds: Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// The same clock in every process.
    static var monotonicNanoseconds: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}
