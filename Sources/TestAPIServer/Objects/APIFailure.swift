import Kubernetes

/// An answer that is no success: what the API calls a Status.
struct APIFailure: Error, Hashable {
    var code: Int
    var reason: String
    var message: String
    var details: JSON?
    /// Seconds after which to try again.
    var retryAfter: Int?

    init(_ code: Int, _ reason: String, _ message: String, details: JSON? = nil, retryAfter: Int? = nil) {
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.retryAfter = retryAfter
    }

    var status: JSON {
        var status: JSON = [
            "kind": "Status", "apiVersion": "v1", "metadata": [:], "status": "Failure", "code": .integer(code),
            "reason": .string(reason), "message": .string(message),
        ]
        var details = details
        if let retryAfter {
            details = details ?? [:]
            details?["retryAfterSeconds"] = .integer(retryAfter)
        }
        status["details"] = details
        return status
    }

    static func badRequest(_ message: String) -> APIFailure { APIFailure(400, "BadRequest", message) }

    static func notFound(_ kind: ResourceKind, _ name: String) -> APIFailure {
        APIFailure(404, "NotFound", "\(kind.qualified) \"\(name)\" not found", details: kind.details(name))
    }

    static let noSuchPath = APIFailure(
        404, "NotFound", "the server could not find the requested resource", details: [:])

    static func exists(_ kind: ResourceKind, _ name: String) -> APIFailure {
        APIFailure(409, "AlreadyExists", "\(kind.qualified) \"\(name)\" already exists", details: kind.details(name))
    }

    static func conflict(_ kind: ResourceKind, _ name: String, _ why: String) -> APIFailure {
        APIFailure(
            409, "Conflict", "Operation cannot be fulfilled on \(kind.qualified) \"\(name)\": \(why)",
            details: kind.details(name))
    }

    static func modified(_ kind: ResourceKind, _ name: String) -> APIFailure {
        conflict(
            kind, name,
            "the object has been modified; please apply your changes to the latest version and try again")
    }

    /// - Parameter causes: A field and what is wrong with it.
    static func invalid(_ kind: ResourceKind, _ name: String, _ causes: [(field: String, message: String)])
        -> APIFailure
    {
        let texts = causes.map { "\($0.field): \($0.message)" }
        let all = texts.count == 1 ? texts[0] : "[\(texts.joined(separator: ", "))]"
        let group = kind.group.isEmpty ? "" : ".\(kind.group)"
        var details: JSON = ["name": .string(name), "kind": .string(kind.kind)]
        if !kind.group.isEmpty { details["group"] = .string(kind.group) }
        details["causes"] = .list(
            causes.map { ["reason": "FieldValueInvalid", "field": .string($0.field), "message": .string($0.message)] })
        return APIFailure(422, "Invalid", "\(kind.kind)\(group) \"\(name)\" is invalid: \(all)", details: details)
    }

    static func expired(_ message: String) -> APIFailure { APIFailure(410, "Expired", message) }
}
