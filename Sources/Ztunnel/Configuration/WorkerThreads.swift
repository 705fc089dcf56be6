/// How many threads move bytes: what was asked for, in the order of precedence of Istio's ztunnel.
struct WorkerThreads: Equatable {
    enum Amount: Equatable {
        case number(Int)
        /// Of the processors, rounded up, at least one.
        case percent(Int)
        case all
    }

    static let maximum = 256

    /// `ZTUNNEL_WORKER_THREADS`.
    var wanted: Amount?
    /// The proxy configuration's `concurrency`.
    var concurrency: Amount?
    /// `ZTUNNEL_CPU_LIMIT`: counts as the number of processors.
    var processorLimit: Int?
    /// `ZTUNNEL_RESOURCE_CPU_LIMIT` and `ZTUNNEL_RESOURCE_CPU_REQUEST`, in thousandths.
    var resourceLimit: Int?
    var resourceRequest: Int?

    /// The number for a machine with so many processors.
    func count(processors: Int) -> Int {
        let processors = processorLimit ?? processors
        func whole(_ thousandths: Int) -> Int { (thousandths + 999) / 1000 }
        func resolve(_ amount: Amount) -> Int {
            switch amount {
            case .number(let number): number
            case .percent(let percent): (processors * percent + 99) / 100
            case .all: processors
            }
        }
        let count: Int
        if let amount = wanted ?? concurrency {
            count = resolve(amount)
        } else if let limit = resourceLimit {
            count = max(whole(limit), whole(resourceRequest ?? 0))
        } else {
            count = max((processors + 3) / 4, whole(resourceRequest ?? 0), 2)
        }
        return min(max(count, 1), Self.maximum)
    }

    mutating func read(_ environment: [String: String]) throws(ConfigurationError) {
        func value<Value>(
            _ name: String, _ expected: String, _ read: (String) -> Value?
        ) throws(ConfigurationError) -> Value? {
            guard let text = environment[name] else { return nil }
            guard let value = read(text) else {
                throw ConfigurationError(variable: name, value: text, expected: expected)
            }
            return value
        }
        wanted = try value(
            "ZTUNNEL_WORKER_THREADS", "a number up to \(Self.maximum), a share such as 50%, or 0 for all processors",
            Self.amount)
        processorLimit = try value("ZTUNNEL_CPU_LIMIT", "a number of processors") { text in
            Int(text).flatMap { (1...65_536).contains($0) ? $0 : nil }
        }
        let quantity = "an amount of processors such as 2, 1.5 or 500m"
        resourceLimit = try value("ZTUNNEL_RESOURCE_CPU_LIMIT", quantity, Self.thousandths)
        resourceRequest = try value("ZTUNNEL_RESOURCE_CPU_REQUEST", quantity, Self.thousandths)
    }

    static func amount(_ text: String) -> Amount? {
        if text.hasSuffix("%") {
            guard let percent = Int(text.dropLast()), (1...100).contains(percent) else { return nil }
            return .percent(percent)
        }
        guard let number = Int(text), (0...maximum).contains(number) else { return nil }
        return number == 0 ? .all : .number(number)
    }

    /// A Kubernetes quantity of processors.
    static func thousandths(_ text: String) -> Int? {
        let limit = 65_536_000
        if text.hasSuffix("m") {
            guard let number = Int(text.dropLast()), (1...limit).contains(number) else { return nil }
            return number
        }
        let parts = text.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
        guard let whole = Int(parts[0]), (0...limit / 1000).contains(whole) else { return nil }
        var result = whole * 1000
        if parts.count == 2 {
            let digits = parts[1]
            guard (1...3).contains(digits.count), digits.allSatisfy({ $0.isASCII && $0.isNumber }),
                let fraction = Int(digits + String(repeating: "0", count: 3 - digits.count))
            else { return nil }
            result += fraction
        }
        return result > 0 ? result : nil
    }
}
