import Addressing
import Discovery
import Foundation
import Mesh
import Synchronization

/// Takes a mesh in through the client's own steps, without the network: bytes, values, state, snapshot. Then lets a
/// reader route while single changes are made.
struct MeshIngest {
    let path: String

    func run() throws -> String {
        guard let file = FileHandle(forReadingAtPath: path) else { throw BenchError("cannot read \(path)") }
        defer { try? file.close() }  // Only read.
        let decoder = ResourceDecoder()
        let store = MeshStore(settings: MeshSettings(localNode: "node-pool-a-0.example.internal"))
        var exchange = DiscoveryExchange()
        let clock = ContinuousClock()
        var ingest = Duration.zero
        var bytes = 0
        let before = try ProcessUse.privateDirty()
        while let message = try Self.message(file) {
            bytes += message.count
            let start = clock.now
            let outcome = exchange.receive(try decoder.response(message))
            store.apply(outcome.updates)
            ingest += clock.now - start
            guard outcome.refusals.isEmpty else { throw BenchError("refused: \(outcome.refusals[0])") }
        }
        store.reclaim()
        let after = try ProcessUse.privateDirty()
        let state = store.snapshot()
        let count = state.workloadCount
        guard count > 0 else { throw BenchError("\(path) holds no workload") }
        let readers = Self.readers(store)
        return """
            {"workloads": \(count), "services": \(state.serviceCount), "wire_bytes": \(bytes), \
            "ingest_seconds": \(ingest / .seconds(1)), "private_dirty_bytes": \(after - before), \
            "bytes_per_workload": \((after - before) / count), "route_nanoseconds": \(readers.mean), \
            "changes": \(readers.changes), "apply_longest_milliseconds": \(readers.apply), \
            "reader_longest_milliseconds": \(readers.longest), "retired_states": \(store.reclaim())}
            """
    }

    private static func message(_ file: FileHandle) throws -> [UInt8]? {
        guard let head = try file.read(upToCount: 4), head.count == 4 else { return nil }
        let count = head.reduce(0) { $0 << 8 | Int($1) }
        guard let body = try file.read(upToCount: count), body.count == count else {
            throw BenchError("a response is cut short")
        }
        return [UInt8](body)
    }

    /// One thread routes as fast as it can, as a worker does for each connection, while another makes a change every
    /// millisecond for two seconds.
    private static func readers(
        _ store: MeshStore
    ) -> (mean: Double, longest: Double, apply: Double, changes: Int) {
        let clock = ContinuousClock()
        let done = Atomic(false)
        let result = Mutex((count: 0, longest: Duration.zero, total: Duration.zero))
        let finished = DispatchSemaphore(value: 0)
        let source = store.snapshot().workloads[0]
        let targets = store.snapshot().services.prefix(1000).compactMap { $0.addresses.first?.address }
        let reader = Thread {
            var random = SystemRandomNumberGenerator()
            var (count, longest, total) = (0, Duration.zero, Duration.zero)
            while !done.load(ordering: .relaxed) {
                let start = clock.now
                let state = store.snapshot()
                // An error is an outcome that takes its time too.
                _ = try? state.route(
                    from: source, sourceAddress: source.addresses.first ?? .anyV4,
                    to: Endpoint(targets[count % targets.count], 80), random: &random)
                let time = clock.now - start
                total += time
                longest = max(longest, time)
                count += 1
            }
            result.withLock { $0 = (count, longest, total) }
            finished.signal()
        }
        reader.start()
        let workloads = Array(store.snapshot().workloads.prefix(1000))
        var slowest = Duration.zero
        var changes = 0
        let end = clock.now + .seconds(2)
        while clock.now < end {
            let old = workloads[changes % workloads.count]
            let changed = Workload(
                uid: old.uid, name: old.name, addresses: old.addresses, hostname: old.hostname, node: old.node,
                status: (changes / workloads.count) % 2 == 0 ? .unhealthy : .healthy, capacity: old.capacity,
                traits: old.traits)
            let start = clock.now
            store.apply([.workload(changed)])
            slowest = max(slowest, clock.now - start)
            changes += 1
            Thread.sleep(forTimeInterval: 0.001)
        }
        done.store(true, ordering: .relaxed)
        finished.wait()
        let measured = result.withLock { $0 }
        return (
            measured.total / .nanoseconds(1) / Double(max(measured.count, 1)), measured.longest / .milliseconds(1),
            slowest / .milliseconds(1), changes
        )
    }
}
