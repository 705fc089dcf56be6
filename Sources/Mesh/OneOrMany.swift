/// The values under one key of an index, in the order they came. Nearly always one, which then needs no array.
enum OneOrMany<Value: Sendable>: Sendable {
    case one(Value)
    case many([Value])

    var all: [Value] {
        switch self {
        case .one(let value): [value]
        case .many(let values): values
        }
    }

    var first: Value? {
        switch self {
        case .one(let value): value
        case .many(let values): values.first
        }
    }

    mutating func append(_ value: Value) {
        switch self {
        case .one(let first): self = .many([first, value])
        case .many(var values):
            self = .many([])
            values.append(value)
            self = .many(values)
        }
    }

    /// The rest without the values that match, or `nil` when none is left.
    func removing(_ matches: (Value) -> Bool) -> OneOrMany? {
        let rest = all.filter { !matches($0) }
        return rest.count > 1 ? .many(rest) : rest.first.map(OneOrMany.one)
    }
}
