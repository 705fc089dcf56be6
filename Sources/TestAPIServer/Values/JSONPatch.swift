import Kubernetes

/// A JSON patch (RFC 6902): all of its steps, or none.
struct JSONPatch {
    struct Problem: Error, Hashable {
        /// The patch is none; otherwise it does not fit the object.
        var isMalformed: Bool
        var message: String
    }

    private enum Operation {
        case add(JSON), replace(JSON), test(JSON), remove, move([String]), copy([String])
    }
    private var steps: [(operation: Operation, path: [String])] = []

    /// Steps of a patch, at most, as a real server has it.
    static let maximumSteps = 10_000

    init(_ patch: JSON) throws(Problem) {
        guard let list = patch.list else { throw Problem(isMalformed: true, message: "a JSON patch is an array") }
        guard list.count <= Self.maximumSteps else {
            throw Problem(isMalformed: true, message: "a JSON patch has at most \(Self.maximumSteps) operations")
        }
        for step in list {
            guard let name = step["op"]?.string, let path = step["path"]?.string else {
                throw Problem(isMalformed: true, message: "an operation has 'op' and 'path'")
            }
            func value() throws(Problem) -> JSON {
                guard let value = step["value"] else {
                    throw Problem(isMalformed: true, message: "\(name) \(path): 'value' is missing")
                }
                return value
            }
            func from() throws(Problem) -> [String] {
                guard let from = step["from"]?.string else {
                    throw Problem(isMalformed: true, message: "\(name) \(path): 'from' is missing")
                }
                return try Self.pointer(from)
            }
            let operation: Operation
            switch name {
            case "add": operation = .add(try value())
            case "replace": operation = .replace(try value())
            // A missing value stands for null here, as in the library that servers use.
            case "test": operation = .test(step["value"] ?? .null)
            case "remove": operation = .remove
            case "move": operation = .move(try from())
            case "copy": operation = .copy(try from())
            default: throw Problem(isMalformed: true, message: "unknown operation \(name)")
            }
            steps.append((operation, try Self.pointer(path)))
        }
    }

    /// RFC 6901.
    private static func pointer(_ text: String) throws(Problem) -> [String] {
        if text.isEmpty { return [] }
        guard text.hasPrefix("/") else {
            throw Problem(isMalformed: true, message: "the path \(text) does not begin with '/'")
        }
        return text.dropFirst().split(separator: "/", omittingEmptySubsequences: false).map {
            String($0.replacing("~1", with: "/").replacing("~0", with: "~"))
        }
    }

    func apply(to value: JSON) throws(Problem) -> JSON {
        var result = value
        for (operation, path) in steps {
            switch operation {
            case .add(let new): result = try Self.change(result, path[...], .add(new))
            case .replace(let new): result = try Self.change(result, path[...], .replace(new))
            case .remove: result = try Self.change(result, path[...], .remove)
            case .test(let wanted):
                let found = Self.find(result, path) ?? .null
                guard found == wanted else {
                    throw Problem(
                        isMalformed: false, message: "testing path /\(path.joined(separator: "/")): it is not so")
                }
            case .move(let from):
                let moved = try Self.required(result, from)
                result = try Self.change(result, from[...], .remove)
                result = try Self.change(result, path[...], .add(moved))
            case .copy(let from):
                result = try Self.change(result, path[...], .add(try Self.required(result, from)))
            }
        }
        return result
    }

    private enum Change {
        case add(JSON), replace(JSON), remove

        var value: JSON? {
            switch self {
            case .add(let value), .replace(let value): value
            case .remove: JSON?.none
            }
        }
    }

    private static func find(_ value: JSON, _ path: [String]) -> JSON? {
        var value = value
        for part in path {
            if let members = value.members {
                guard let next = members[part] else { return nil }
                value = next
            } else if let list = value.list, let index = Int(part), list.indices.contains(index) {
                value = list[index]
            } else {
                return nil
            }
        }
        return value
    }

    private static func required(_ value: JSON, _ path: [String]) throws(Problem) -> JSON {
        guard let found = find(value, path) else { throw missing(path) }
        return found
    }

    private static func missing(_ path: some Sequence<String>) -> Problem {
        Problem(isMalformed: false, message: "there is nothing at /\(path.joined(separator: "/"))")
    }

    private static func change(_ value: JSON, _ path: ArraySlice<String>, _ change: Change) throws(Problem) -> JSON {
        guard let part = path.first else {
            guard let new = change.value else { throw missing([]) }
            return new
        }
        let isLast = path.count == 1
        if var members = value.members {
            if isLast {
                if case .add = change {} else if members[part] == nil { throw missing(path) }
                members[part] = change.value
            } else {
                guard let inner = members[part] else { throw missing(path) }
                members[part] = try Self.change(inner, path.dropFirst(), change)
            }
            return .object(members)
        }
        guard var list = value.list else { throw missing(path) }
        if isLast, case .add(let new) = change {
            let index = part == "-" ? list.count : Int(part) ?? -1
            guard (0...list.count).contains(index) else { throw missing(path) }
            list.insert(new, at: index)
            return .list(list)
        }
        guard let index = Int(part), list.indices.contains(index) else { throw missing(path) }
        if !isLast {
            list[index] = try Self.change(list[index], path.dropFirst(), change)
        } else if let new = change.value {
            list[index] = new
        } else {
            list.remove(at: index)
        }
        return .list(list)
    }
}
