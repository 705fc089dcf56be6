import Synchronization

/// A metric that cannot be registered.
public struct MetricsError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: String, Hashable, Sendable { case duplicateName, invalidName, invalidLabel, invalidBuckets }
    public let code: Code
    public let message: String
    public var description: String { message }
}

/// All metrics of a process, and their exposition as OpenMetrics text.
public final class MetricsRegistry: Sendable {
    /// What a metric is, for the reference table in the documentation.
    public struct Description: Hashable, Sendable {
        /// As it is scraped: counters end in `_total`.
        public let name: String
        public let type: MetricType
        public let labels: [String]
        public let help: String
    }

    enum Entry: Sendable {
        case counter(CounterFamily)
        case gauge(GaugeFamily)
        case histogram(HistogramFamily)
        /// Read when scraped.
        case reading(name: String, help: String, type: MetricType, read: @Sendable () -> Double?)
    }

    private struct Table: Sendable {
        var entries: [Entry] = []
        /// Every name that appears on a sample.
        var names: Set<String> = []
    }

    private let table = Mutex(Table())

    public init() {}

    /// A family of counters. The name may end in `_total` or not; it is scraped with it.
    /// - Throws: ``MetricsError`` when the name is taken or no name for a metric.
    public func counter(
        _ name: String, _ help: String, labels: [String] = [], maximumSeries: Int = 100_000
    ) throws(MetricsError) -> CounterFamily {
        let base = name.hasSuffix("_total") ? String(name.dropLast("_total".count)) : name
        let family = CounterFamily(
            name: base, help: help, type: .counter, labels: labels, maximumSeries: maximumSeries
        ) { Counter() }
        try register(.counter(family), base, samples: ["_total"], labels)
        return family
    }

    /// A family of gauges.
    public func gauge(
        _ name: String, _ help: String, labels: [String] = [], maximumSeries: Int = 100_000
    ) throws(MetricsError) -> GaugeFamily {
        let family = GaugeFamily(
            name: name, help: help, type: .gauge, labels: labels, maximumSeries: maximumSeries
        ) { Gauge() }
        try register(.gauge(family), name, samples: [""], labels)
        return family
    }

    /// A gauge without labels that is read when it is scraped; `nil` leaves it out.
    public func gauge(
        _ name: String, _ help: String, read: @escaping @Sendable () -> Double?
    ) throws(MetricsError) {
        try register(.reading(name: name, help: help, type: .gauge, read: read), name, samples: [""], [])
    }

    /// A counter without labels that something else keeps and that is read when it is scraped.
    public func counter(
        _ name: String, _ help: String, read: @escaping @Sendable () -> UInt64
    ) throws(MetricsError) {
        let base = name.hasSuffix("_total") ? String(name.dropLast("_total".count)) : name
        try register(
            .reading(name: base, help: help, type: .counter) { Double(read()) }, base, samples: ["_total"], [])
    }

    /// A family of histograms with these upper bounds, ascending and without `+Inf`.
    public func histogram(
        _ name: String, _ help: String, buckets: [Double], labels: [String] = [], maximumSeries: Int = 10_000
    ) throws(MetricsError) -> HistogramFamily {
        guard !buckets.isEmpty, buckets.allSatisfy(\.isFinite),
            zip(buckets, buckets.dropFirst()).allSatisfy({ $0 < $1 })
        else { throw MetricsError(code: .invalidBuckets, message: "the buckets of \(name) do not ascend") }
        let family = HistogramFamily(
            name: name, help: help, type: .histogram, labels: labels, maximumSeries: maximumSeries
        ) { Histogram(bounds: buckets) }
        try register(.histogram(family), name, samples: ["_bucket", "_sum", "_count"], labels + ["le"])
        return family
    }

    private func register(
        _ entry: Entry, _ name: String, samples: [String], _ labels: [String]
    ) throws(MetricsError) {
        guard Self.isName(name, colons: true) else {
            throw MetricsError(code: .invalidName, message: "\(name) is no name for a metric")
        }
        guard labels.allSatisfy({ Self.isName($0, colons: false) && !$0.hasPrefix("__") }),
            Set(labels).count == labels.count
        else { throw MetricsError(code: .invalidLabel, message: "the labels of \(name) are invalid or not distinct") }
        let names = [name] + samples.map { name + $0 }
        let isNew = table.withLock { table in
            guard table.names.isDisjoint(with: names) else { return false }
            table.names.formUnion(names)
            table.entries.append(entry)
            return true
        }
        guard isNew else {
            throw MetricsError(code: .duplicateName, message: "the metric \(name) is there already")
        }
    }

    private static func isName(_ text: String, colons: Bool) -> Bool {
        guard let first = text.utf8.first, !(48...57).contains(first) else { return false }
        return text.utf8.allSatisfy { byte in
            (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte) || byte == 95
                || colons && byte == 58
        }
    }

    /// Every metric registered, in that order.
    public func describe() -> [Description] {
        entries.map { entry in
            switch entry {
            case .counter(let family):
                Description(
                    name: family.name + "_total", type: .counter, labels: family.labelNames, help: family.help)
            case .gauge(let family):
                Description(name: family.name, type: .gauge, labels: family.labelNames, help: family.help)
            case .histogram(let family):
                Description(name: family.name, type: .histogram, labels: family.labelNames, help: family.help)
            case .reading(let name, let help, let type, _):
                Description(name: type == .counter ? name + "_total" : name, type: type, labels: [], help: help)
            }
        }
    }

    var entries: [Entry] { table.withLock { $0.entries } }
}
