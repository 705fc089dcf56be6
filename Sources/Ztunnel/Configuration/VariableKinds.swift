import Addressing

/// The kinds of variables that the table is made of.
extension ZtunnelConfiguration.Variable {
    typealias Configuration = ZtunnelConfiguration

    init(
        _ name: String, default defaultText: String, _ meaning: String, expected: String,
        apply: @escaping @Sendable (inout Configuration, String) -> Bool
    ) {
        self.init(
            name: name, standing: name.hasPrefix("APUS_") ? .ours : .istio, defaultText: defaultText, meaning: meaning,
            expected: expected, apply: apply)
    }
}

extension ZtunnelConfiguration {
    typealias Field<Value> = WritableKeyPath<ZtunnelConfiguration, Value> & Sendable

    static func text(_ name: String, _ field: Field<String>, _ meaning: String) -> Variable {
        let standard = ZtunnelConfiguration()[keyPath: field]
        return Variable(name, default: standard.isEmpty ? "-" : standard, meaning, expected: "text") {
            $0[keyPath: field] = $1
            return true
        }
    }

    static func optional(_ name: String, _ field: Field<String?>, _ meaning: String) -> Variable {
        Variable(name, default: "-", meaning, expected: "text") {
            $0[keyPath: field] = $1
            return true
        }
    }

    static func flag(_ name: String, _ field: Field<Bool>, _ meaning: String) -> Variable {
        let standard = String(ZtunnelConfiguration()[keyPath: field])
        return Variable(name, default: standard, meaning, expected: "true or false") { configuration, value in
            guard let flag = Bool(value) else { return false }
            configuration[keyPath: field] = flag
            return true
        }
    }

    static func count(
        _ name: String, _ field: Field<Int>, _ range: ClosedRange<Int>, _ meaning: String
    ) -> Variable {
        Variable(
            name, default: String(ZtunnelConfiguration()[keyPath: field]), meaning,
            expected: "a number from \(range.lowerBound) to \(range.upperBound)"
        ) { configuration, value in
            guard let number = Int(value), range.contains(number) else { return false }
            configuration[keyPath: field] = number
            return true
        }
    }

    static let durationText = "a duration such as 250ms, 30s, 5m, 1h30m or 24h"

    static func duration(_ name: String, _ field: Field<Duration>, _ meaning: String) -> Variable {
        let seconds = ZtunnelConfiguration()[keyPath: field].components.seconds
        return Variable(
            name, default: seconds % 3600 == 0 ? "\(seconds / 3600)h" : "\(seconds)s", meaning, expected: durationText
        ) { configuration, value in
            guard let duration = readDuration(value) else { return false }
            configuration[keyPath: field] = duration
            return true
        }
    }

    /// A part of the keep-alive setting; without meaning when that is off.
    static func keepalive<Value>(
        _ name: String, _ standard: String, _ meaning: String, _ read: @escaping @Sendable (String) -> Value?,
        _ set: @escaping @Sendable (inout Keepalive, Value) -> Void
    ) -> Variable {
        Variable(
            name, default: standard, meaning, expected: Value.self == Int.self ? "a number from 1 to 127" : durationText
        ) { configuration, text in
            guard let value = read(text) else { return false }
            set(&configuration.keepalive, value)
            return true
        }
    }

    static func endpoint(_ name: String, _ field: Field<Endpoint>, _ meaning: String) -> Variable {
        let standard = ZtunnelConfiguration()[keyPath: field]
        let text = standard.address == .anyV4 ? "\(standard), or [::] where there is IPv6" : standard.description
        return Variable(name, default: text, meaning, expected: "an address and port such as 127.0.0.1:15000") {
            configuration, value in
            guard let endpoint = Endpoint(value) else { return false }
            configuration[keyPath: field] = endpoint
            return true
        }
    }

    /// Read elsewhere; here for the table.
    static func noted(_ name: String, _ standard: String, _ meaning: String) -> Variable {
        Variable(name, default: standard, meaning, expected: "") { _, _ in true }
    }

    /// Known, and not there; the one value that asks for nothing is accepted.
    static func refused(_ name: String, unless value: String?, _ reason: String) -> Variable {
        Variable(
            name: name, standing: .refused, defaultText: value ?? "-",
            meaning: "not there: \(reason); any other value is refused",
            expected: (value ?? "nothing") + ", since \(reason)"
        ) { $1 == value }
    }

    // MARK: Texts

    static func list(_ text: String) -> [String] {
        text.split(separator: ",").map { part in
            String(part.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
        }
    }

    /// Numbers with their units, such as `1h30m`, blanks or plus signs between; at most 30 days, above zero.
    static func readDuration(_ text: String) -> Duration? {
        let limit = Duration.seconds(2_592_000)
        var sum = Duration.zero
        var rest = text[...]
        while !rest.isEmpty {
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            rest = rest.dropFirst(digits.count).drop { $0 == " " }
            let unit = rest.prefix { $0.isLetter }
            rest = rest.dropFirst(unit.count)
            guard let number = Int64(digits), number <= 2_592_000_000_000 else { return nil }
            switch unit {
            case "ns": sum += .nanoseconds(number)
            case "us", "µs": sum += .microseconds(number)
            case "ms": sum += .milliseconds(number)
            case "s": sum += .seconds(number)
            case "m": sum += .seconds(number * 60)
            case "h": sum += .seconds(number * 3600)
            case "d": sum += .seconds(number * 86_400)
            default: return nil
            }
            guard sum <= limit else { return nil }
            if !rest.isEmpty, let next = rest.drop(while: { $0 == " " || $0 == "+" }).first, next.isNumber {
                rest = rest.drop { $0 == " " || $0 == "+" }
            }
        }
        return sum > .zero ? sum : nil
    }
}
