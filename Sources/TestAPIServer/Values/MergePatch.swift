import Kubernetes

/// A JSON merge patch (RFC 7386).
enum MergePatch {
    static func apply(_ patch: JSON, to value: JSON?) -> JSON {
        guard let members = patch.members else { return patch }
        var result = value?.members ?? [:]
        for (name, change) in members {
            result[name] = change.isNull ? JSON?.none : apply(change, to: result[name])
        }
        return .object(result)
    }
}
