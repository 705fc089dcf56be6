import Synchronization

/// A number that only grows.
public final class Counter: Sendable {
    private let count = Atomic<UInt64>(0)

    init() {}

    @inlinable
    public func increment() { add(1) }

    /// One relaxed atomic addition.
    public func add(_ amount: UInt64) { count.wrappingAdd(amount, ordering: .relaxed) }

    public var value: UInt64 { count.load(ordering: .relaxed) }
}

/// A number that goes up and down.
public final class Gauge: Sendable {
    private let current = Atomic<Int64>(0)

    init() {}

    public func set(_ value: Int64) { current.store(value, ordering: .relaxed) }
    public func add(_ amount: Int64) { current.wrappingAdd(amount, ordering: .relaxed) }
    public func increment() { add(1) }
    public func decrement() { add(-1) }

    public var value: Int64 { current.load(ordering: .relaxed) }
}

/// How often values fell into each of a row of ranges.
public final class Histogram: Sendable {
    /// Upper bounds, ascending; above the last one comes `+Inf`.
    public let bounds: [Double]
    private let state: Mutex<State>

    struct State: Sendable {
        /// One more than there are bounds; not cumulative.
        var counts: [UInt64]
        var sum = 0.0
    }

    init(bounds: [Double]) {
        self.bounds = bounds
        state = Mutex(State(counts: Array(repeating: 0, count: bounds.count + 1)))
    }

    public func observe(_ value: Double) {
        let index = bounds.firstIndex { value <= $0 } ?? bounds.count
        state.withLock {
            $0.counts[index] += 1
            $0.sum += value
        }
    }

    func read() -> State { state.withLock { $0 } }
}
