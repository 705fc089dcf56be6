import Kubernetes

/// A request as it came over HTTP.
struct APIRequest: Sendable {
    var method: String
    var path: String
    var query: [String: String] = [:]
    var accept = ""
    var contentType = ""
    var body: [UInt8] = []
    var user = APIUser.admin
    /// The first word of the client's name for itself: who writes, unless the request says it.
    var agent = "unknown"

    /// What the path is about.
    enum Target: Hashable {
        case version, health, coreVersions, groups
        case group(String)
        case resources(group: String, version: String)
        case openAPI, openAPI2
        case openAPIDocument(group: String, version: String)
        case tokenKeys, tokenIssuer
        case objects(Place)
    }

    struct Place: Hashable {
        var group = ""
        var version = ""
        var plural = ""
        /// Empty: none, or all of them.
        var namespace = ""
        /// Empty: all of them.
        var name = ""
        var subresource = ""
    }

    /// - Throws: 404 when there is no such path.
    func target() throws(APIFailure) -> Target {
        let parts = path.split(separator: "/").map(String.init)
        switch (parts.first, parts.count) {
        case ("version", 1): return .version
        case ("healthz", _), ("livez", _), ("readyz", _): return .health
        case ("api", 1): return .coreVersions
        case ("apis", 1): return .groups
        case ("api", 2) where parts[1] == "v1": return .resources(group: "", version: "v1")
        case ("apis", 2): return .group(parts[1])
        case ("apis", 3): return .resources(group: parts[1], version: parts[2])
        case ("openapi", 2) where parts[1] == "v3": return .openAPI
        case ("openapi", 2) where parts[1] == "v2": return .openAPI2
        case ("openapi", 4) where parts[1] == "v3" && parts[2] == "api":
            return .openAPIDocument(group: "", version: parts[3])
        case ("openapi", 5) where parts[1] == "v3" && parts[2] == "apis":
            return .openAPIDocument(group: parts[3], version: parts[4])
        case ("openid", 3) where parts[1...] == ["v1", "jwks"]: return .tokenKeys
        case (".well-known", 2) where parts[1] == "openid-configuration": return .tokenIssuer
        case ("api", 3...): return .objects(try Self.place(parts[2...], group: "", version: parts[1]))
        case ("apis", 4...): return .objects(try Self.place(parts[3...], group: parts[1], version: parts[2]))
        default: throw .noSuchPath
        }
    }

    private static func place(
        _ parts: ArraySlice<String>, group: String, version: String
    ) throws(APIFailure) -> Place {
        var parts = Array(parts)
        var place = Place(group: group, version: version)
        let ofNamespace = parts.count == 3 && ["status", "finalize"].contains(parts[2])
        if parts[0] == "namespaces", parts.count > 2, !ofNamespace {
            place.namespace = parts[1]
            parts.removeFirst(2)
        }
        guard parts.count <= 3 else { throw .noSuchPath }
        place.plural = parts[0]
        if parts.count > 1 { place.name = parts[1] }
        if parts.count > 2 { place.subresource = parts[2] }
        return place
    }

    // MARK: Body

    var mediaType: String {
        String(contentType.split(separator: ";").first ?? "").split(separator: " ").joined().lowercased()
    }

    /// The body as a value; an object of nothing when there is none.
    func value() throws(APIFailure) -> JSON {
        if body.isEmpty { return [:] }
        do {
            if mediaType == "application/vnd.kubernetes.protobuf" { return try ProtobufBody.json(body) }
            if mediaType.hasSuffix("yaml"), body.first != UInt8(ascii: "{") {
                return try JSON(yaml: body)
            }
            guard mediaType.isEmpty || mediaType.hasSuffix("json") || mediaType.hasSuffix("yaml") else {
                throw APIFailure(
                    415, "UnsupportedMediaType", "the body's type \(mediaType) is not known: send JSON or YAML")
            }
            return try JSON(text: body)
        } catch let error as APIFailure {
            throw error
        } catch {
            throw .badRequest("the body cannot be read: \(error)")
        }
    }

    func patch() throws(APIFailure) -> PatchBody {
        switch mediaType {
        case "application/json-patch+json": return .json(try value())
        case "application/merge-patch+json": return .merge(try value())
        case "application/strategic-merge-patch+json": return .strategic(try value())
        case "application/apply-patch+yaml": return .apply(try value())
        default:
            throw APIFailure(
                415, "UnsupportedMediaType",
                "a patch of type \(mediaType) is not known - accepted media types include: "
                    + "application/json-patch+json, application/merge-patch+json, "
                    + "application/strategic-merge-patch+json, application/apply-patch+yaml")
        }
    }

    func isTrue(_ name: String) -> Bool { ["true", "1", "True"].contains(query[name] ?? "") }

    /// - Throws: 400 when a value is neither absent nor `All`.
    func isDryRun() throws(APIFailure) -> Bool {
        switch query["dryRun"] {
        case nil: return false
        case "All": return true
        case .some(let word): throw .badRequest("dryRun: Unsupported value: \"\(word)\": supported values: \"All\"")
        }
    }

    // MARK: Answer

    /// How an answer shows objects.
    enum Representation: Hashable { case objects, table, metadata, discovery(String) }

    /// The first of what the client accepts that can be had.
    func representation() throws(APIFailure) -> Representation {
        if accept.allSatisfy(\.isWhitespace) { return .objects }
        for choice in accept.split(separator: ",") {
            let parts = choice.split(separator: ";").map { $0.split(separator: " ").joined().lowercased() }
            guard let type = parts.first, ["application/json", "*/*", "application/*"].contains(type) else { continue }
            switch parts.dropFirst().first(where: { $0.hasPrefix("as=") }) {
            case nil: return .objects
            case "as=table" where parts.contains("v=v1"): return .table
            case "as=partialobjectmetadata", "as=partialobjectmetadatalist": return .metadata
            case "as=apigroupdiscoverylist":
                if let version = parts.first(where: { $0 == "v=v2" || $0 == "v=v2beta1" }) {
                    return .discovery(String(version.dropFirst(2)))
                }
            default: continue
            }
        }
        throw APIFailure(
            406, "NotAcceptable", "only the following media types are accepted: application/json; asked for: \(accept)")
    }
}

/// Who asks.
struct APIUser: Hashable, Sendable {
    var name: String
    var uid = ""
    var groups: [String] = []
    var extra: [String: [String]] = [:]

    static let admin = APIUser(name: "test-admin", groups: ["system:masters", "system:authenticated"])

    var json: JSON {
        var user: JSON = ["username": .string(name), "groups": .list(groups.map { .string($0) })]
        if !uid.isEmpty { user["uid"] = .string(uid) }
        if !extra.isEmpty { user["extra"] = .object(extra.mapValues { .list($0.map { .string($0) }) }) }
        return user
    }
}
