extension MetricsRegistry {
    /// Everything as OpenMetrics 1.0 text, families in the order they were registered. A family without series is left
    /// out, and so is a label whose value is empty.
    public func exposition() -> String {
        let text = Exposition()
        for entry in entries {
            switch entry {
            case .counter(let family):
                text.family(family) { values, counter in
                    text.sample(family.name, "_total", family.labelNames, values, String(counter.value))
                }
            case .gauge(let family):
                text.family(family) { values, gauge in
                    text.sample(family.name, "", family.labelNames, values, String(gauge.value))
                }
            case .histogram(let family):
                text.family(family) { values, histogram in text.histogram(family, values, histogram) }
            case .reading(let name, let help, let type, let read):
                guard let value = read() else { continue }
                text.header(name, help, type)
                let isCounter = type == .counter
                text.sample(
                    name, isCounter ? "_total" : "", [], [],
                    isCounter ? String(UInt64(value)) : Exposition.number(value))
            }
        }
        return text.finished()
    }
}

/// OpenMetrics text as it grows.
private final class Exposition {
    private var bytes: [UInt8] = []

    func family<Series>(_ family: MetricFamily<Series>, _ write: ([String], Series) -> Void) {
        let series = family.sorted()
        guard !series.isEmpty else { return }
        header(family.name, family.help, family.type)
        for (values, series) in series { write(values, series) }
    }

    func header(_ name: String, _ help: String, _ type: MetricType) {
        bytes += "# HELP \(name) ".utf8
        escape(help)
        bytes += "\n# TYPE \(name) \(type.rawValue)\n".utf8
    }

    func sample(_ name: String, _ suffix: String, _ labels: [String], _ values: [String], _ value: String) {
        bytes += name.utf8
        bytes += suffix.utf8
        var separator = UInt8(ascii: "{")
        for (label, value) in zip(labels, values) where !value.isEmpty {
            bytes.append(separator)
            separator = UInt8(ascii: ",")
            bytes += label.utf8
            bytes += "=\"".utf8
            escape(value)
            bytes.append(UInt8(ascii: "\""))
        }
        if separator == UInt8(ascii: ",") { bytes.append(UInt8(ascii: "}")) }
        bytes.append(UInt8(ascii: " "))
        bytes += value.utf8
        bytes.append(UInt8(ascii: "\n"))
    }

    func histogram(_ family: HistogramFamily, _ values: [String], _ histogram: Histogram) {
        let state = histogram.read()
        var count: UInt64 = 0
        for (index, bucket) in state.counts.enumerated() {
            count += bucket
            let bound = index < histogram.bounds.count ? Self.number(histogram.bounds[index]) : "+Inf"
            sample(family.name, "_bucket", family.labelNames + ["le"], values + [bound], String(count))
        }
        sample(family.name, "_sum", family.labelNames, values, Self.number(state.sum))
        sample(family.name, "_count", family.labelNames, values, String(count))
    }

    func finished() -> String {
        bytes += "# EOF\n".utf8
        return String(decoding: bytes, as: UTF8.self)
    }

    static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        return value.description
    }

    /// Backslash, quote and line feed, in help texts as in label values.
    private func escape(_ text: String) {
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\\"): bytes += #"\\"#.utf8
            case UInt8(ascii: "\""): bytes += #"\""#.utf8
            case UInt8(ascii: "\n"): bytes += #"\n"#.utf8
            default: bytes.append(byte)
            }
        }
    }
}
