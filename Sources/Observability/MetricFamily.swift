import Synchronization

/// What Prometheus calls the type of a metric.
public enum MetricType: String, Hashable, Sendable {
    case counter
    case gauge
    case histogram
}

/// Metrics of one name, told apart by the values of their labels.
///
/// ``with(_:)`` hands out one series for one combination of values: look it up once and keep it as long as it is used,
/// then counting is one atomic addition and takes no lock.
public final class MetricFamily<Series: AnyObject & Sendable>: Sendable {
    /// Without the `_total` of counters.
    public let name: String
    public let help: String
    public let type: MetricType
    public let labelNames: [String]
    /// Series beyond this number are counted and not shown: a mistake in labels must not take all memory.
    public let maximumSeries: Int

    private struct Table: Sendable {
        var series: [[String]: Series] = [:]
        var refused: UInt64 = 0
    }

    private let table = Mutex(Table())
    private let make: @Sendable () -> Series

    init(
        name: String, help: String, type: MetricType, labels: [String], maximumSeries: Int,
        make: @escaping @Sendable () -> Series
    ) {
        self.name = name
        self.help = help
        self.type = type
        labelNames = labels
        self.maximumSeries = maximumSeries
        self.make = make
    }

    /// The series with these values, one for each of ``labelNames`` and in their order. An empty value means that the
    /// label is absent.
    public func with(_ values: [String]) -> Series {
        precondition(values.count == labelNames.count, "\(name) has \(labelNames.count) labels, not \(values.count)")
        return table.withLock { table in
            if let series = table.series[values] { return series }
            let series = make()
            if table.series.count < maximumSeries {
                table.series[values] = series
            } else {
                table.refused += 1
            }
            return series
        }
    }

    /// Takes series out of the exposition, for instance those of pods that are gone. Who still holds one may go on
    /// counting, unseen; ``with(_:)`` then begins a new one at zero.
    /// - Returns: How many were removed.
    @discardableResult
    public func remove(where shouldRemove: ([String]) -> Bool) -> Int {
        table.withLock { table in
            let before = table.series.count
            table.series = table.series.filter { !shouldRemove($0.key) }
            return before - table.series.count
        }
    }

    /// Takes one series out of the exposition, as ``remove(where:)`` does.
    /// - Returns: Whether it was there.
    @discardableResult
    public func remove(_ values: [String]) -> Bool {
        table.withLock { $0.series.removeValue(forKey: values) != nil }
    }

    /// Where a label stands in the values, for ``remove(where:)``.
    public func index(ofLabel name: String) -> Int? { labelNames.firstIndex(of: name) }

    public var seriesCount: Int { table.withLock { $0.series.count } }

    /// How often a series was asked for that would have gone beyond ``maximumSeries``.
    public var refusedSeries: UInt64 { table.withLock { $0.refused } }

    /// In the order of the label values, so that the same state always reads the same.
    func sorted() -> [(values: [String], series: Series)] {
        table.withLock { $0.series.map { (values: $0.key, series: $0.value) } }
            .sorted { $0.values.lexicographicallyPrecedes($1.values) }
    }
}

extension MetricFamily {
    /// The series of a family without labels.
    public var single: Series { with([]) }
}

public typealias CounterFamily = MetricFamily<Counter>
public typealias GaugeFamily = MetricFamily<Gauge>
public typealias HistogramFamily = MetricFamily<Histogram>
