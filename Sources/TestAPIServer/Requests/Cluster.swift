import Foundation
import Kubernetes

/// What a server has to say to a request.
enum APIAnswer {
    case value(JSON, code: Int = 200, type: String = "application/json")
    case bytes([UInt8], type: String)
    case watch(WatchPlan)
}

/// A watch as it was asked for.
struct WatchPlan: Sendable {
    var kind: ResourceKind
    /// Of the path.
    var version: String
    var filter: ObjectFilter
    var representation: APIRequest.Representation
    /// As in ``ResourceTable/row(_:include:)``.
    var include = "Metadata"
    /// Told at once, in this order.
    var first: [(type: String, object: JSON)] = []
    /// The version that all of `first` is of, and after which changes are told.
    var start: Int
    /// After `first` a bookmark says that it was all.
    var endsFirstByBookmark = false
    var wantsBookmarks: Bool
    var seconds: Int
}

/// A cluster's state behind its API: requests in, answers out, without any network. Time comes in from outside.
struct Cluster: Sendable {
    var store = Store()
    var tokens = TokenAuthority()
    /// Tokens that never expire, with whose they are and for whom.
    var staticTokens: [String: (user: APIUser, audiences: [String])] = [:]
    /// Whether roles and bindings decide; otherwise everybody may do all.
    var enforcesRoles = false
    var makeUID: @Sendable () -> String = { UUID().uuidString.lowercased() }

    /// A cluster as it is when it is new: four namespaces and the node-less rest.
    init(authority: String? = nil, now: Date) {
        store.authority = authority
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            let request = APIRequest(
                method: "POST", path: "/api/v1/namespaces", contentType: "application/json",
                body: (["metadata": ["name": .string(name)]] as JSON).bytes)
            _ = handle(request, now: now)
        }
    }

    /// Answers a request, and changes what it changes. Failures are answers, too.
    mutating func handle(_ request: APIRequest, now: Date) -> APIAnswer {
        do {
            return try answer(request, now)
        } catch {
            return .value(error.status, code: error.code)
        }
    }

    private mutating func answer(_ request: APIRequest, _ now: Date) throws(APIFailure) -> APIAnswer {
        let target = try request.target()
        let discovery = Discovery(kinds: store.kinds)
        if case .objects(let place) = target { return try objects(request, place, now) }
        guard request.method == "GET" else {
            throw APIFailure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        }
        switch target {
        case .objects: throw .noSuchPath
        case .version: return .value(Discovery.version)
        case .health: return .bytes(Array("ok".utf8), type: "text/plain")
        case .coreVersions, .groups:
            let isCore = target == .coreVersions
            if case .discovery(let version) = try request.representation() {
                return .value(
                    discovery.aggregated(isCore: isCore, version: version),
                    type: "application/json;g=apidiscovery.k8s.io;v=\(version);as=APIGroupDiscoveryList")
            }
            return .value(isCore ? Discovery.coreVersions : discovery.groups)
        case .group(let name): return .value(try discovery.group(name))
        case .resources(let group, let version): return .value(try discovery.resources(group: group, version: version))
        case .openAPI: return .value(discovery.openAPI)
        case .openAPI2:
            return .bytes(Discovery.openAPI2, type: "application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
        case .openAPIDocument(let group, let version):
            return .value(try discovery.openAPI(group: group, version: version))
        case .tokenKeys: return .value(tokens.keys, type: "application/jwk-set+json")
        case .tokenIssuer: return .value(TokenAuthority.configuration)
        }
    }

    // MARK: Objects

    private mutating func objects(
        _ request: APIRequest, _ place: APIRequest.Place, _ now: Date
    ) throws(APIFailure) -> APIAnswer {
        if let answer = try review(request, place, now) { return answer }
        guard let kind = store.kinds.find(group: place.group, version: place.version, plural: place.plural) else {
            throw .noSuchPath
        }
        guard kind.isNamespaced || place.namespace.isEmpty else { throw .noSuchPath }
        try authorize(request, place)
        if !place.subresource.isEmpty {
            let isToken = kind.key == "serviceaccounts" && place.subresource == "token"
            guard isToken || place.subresource == "status" && kind.hasStatus else { throw .noSuchPath }
            if isToken {
                guard request.method == "POST" else { throw Self.badMethod }
                let body = try request.value()
                let id = Store.ID(namespace: place.namespace, name: place.name)
                return .value(try issueToken(body, id, now: now), code: 201)
            }
        }
        if place.name.isEmpty { return try collection(request, place, kind, now) }
        guard !kind.isNamespaced || !place.namespace.isEmpty else { throw .noSuchPath }
        return try single(request, place, kind, now)
    }

    private static let badMethod = APIFailure(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource")

    private func authorize(_ request: APIRequest, _ place: APIRequest.Place) throws(APIFailure) {
        guard enforcesRoles else { return }
        let verb =
            switch request.method {
            case "POST": "create"
            case "PUT": "update"
            case "PATCH": "patch"
            case "DELETE": place.name.isEmpty ? "deletecollection" : "delete"
            default: request.isTrue("watch") ? "watch" : place.name.isEmpty ? "list" : "get"
            }
        let resource = place.subresource.isEmpty ? place.plural : "\(place.plural)/\(place.subresource)"
        // A namespace is in itself, as far as rights go.
        let namespace = place.namespace.isEmpty && place.plural == "namespaces" ? place.name : place.namespace
        // A list or watch of one name, by its field selector, is held against rights to that name.
        let selected = place.name.isEmpty ? request.query["fieldSelector"] ?? "" : ""
        let prefix = "metadata.name="
        let isOfOne = selected.hasPrefix(prefix) && !selected.contains(",") && verb != "create"
        let name = isOfOne ? String(selected.dropFirst(prefix.count)) : place.name
        try Roles(store: store).check(
            request.user,
            Roles.Action(verb: verb, group: place.group, resource: resource, namespace: namespace, name: name))
    }

    private mutating func collection(
        _ request: APIRequest, _ place: APIRequest.Place, _ kind: ResourceKind, _ now: Date
    ) throws(APIFailure) -> APIAnswer {
        switch request.method {
        case "GET":
            let filter = try filter(request, place, kind)
            if request.isTrue("watch") { return .watch(try watch(request, place, kind, filter)) }
            return try list(request, place, kind, filter, now)
        case "POST":
            guard !kind.isNamespaced || !place.namespace.isEmpty else {
                throw .badRequest("an object of a namespace is made in one: the path names none")
            }
            let (body, options) = (try request.value(), try options(request, place, now))
            let made = try change(options) { (store) throws(APIFailure) in
                try store.create(body, kind, namespace: place.namespace, options)
            }
            return try show(made, request, place, kind, now, code: 201)
        case "DELETE":
            let (filter, options) = (try filter(request, place, kind), try deleteOptions(request, now))
            let all = try change(try self.options(request, place, now)) { (store) throws(APIFailure) in
                try store.deleteAll(kind, filter, options)
            }
            return .value(list(all, kind, place, metadata: ["resourceVersion": .string(String(store.version))]))
        default: throw Self.badMethod
        }
    }

    private mutating func single(
        _ request: APIRequest, _ place: APIRequest.Place, _ kind: ResourceKind, _ now: Date
    ) throws(APIFailure) -> APIAnswer {
        let id = Store.ID(namespace: place.namespace, name: place.name)
        switch request.method {
        case "GET":
            if request.isTrue("watch") {
                var filter = try filter(request, place, kind)
                filter.fields = try Self.selector("metadata.name=\(place.name)", kind)
                return .watch(try watch(request, place, kind, filter))
            }
            guard let object = store.get(kind, id) else { throw .notFound(kind, id.name) }
            return try show(object, request, place, kind, now)
        case "PUT":
            let (body, options) = (try request.value(), try options(request, place, now))
            let object = try change(options) { (store) throws(APIFailure) in
                try store.update(body, kind, id, options)
            }
            return try show(object, request, place, kind, now)
        case "PATCH":
            let (patch, options) = (try request.patch(), try options(request, place, now))
            if case .apply = patch, request.query["fieldManager"] ?? "" == "" {
                throw .badRequest("fieldManager is required for apply patch")
            }
            let (object, isNew) = try change(options) { (store) throws(APIFailure) in
                try store.patch(patch, kind, id, options)
            }
            return try show(object, request, place, kind, now, code: isNew ? 201 : 200)
        case "DELETE":
            guard place.subresource.isEmpty else { throw Self.badMethod }
            let options = try deleteOptions(request, now)
            let (object, isGone) = try change(try self.options(request, place, now)) { (store) throws(APIFailure) in
                try store.delete(kind, id, options)
            }
            if !isGone { return try show(object, request, place, kind, now) }
            var details = kind.details(id.name)
            details["uid"] = .string(object.uid)
            return .value([
                "kind": "Status", "apiVersion": "v1", "metadata": [:], "status": "Success", "details": details,
            ])
        default: throw Self.badMethod
        }
    }

    /// Works on a copy when it is only to be tried.
    private mutating func change<Result>(
        _ options: WriteOptions, _ body: (inout Store) throws(APIFailure) -> Result
    ) throws(APIFailure) -> Result {
        guard options.isDryRun else {
            let result = try body(&store)
            store.sweepNamespaces()
            return result
        }
        var copy = store
        return try body(&copy)
    }

    // MARK: Parameters

    private func options(
        _ request: APIRequest, _ place: APIRequest.Place, _ now: Date
    ) throws(APIFailure) -> WriteOptions {
        var options = WriteOptions()
        options.isDryRun = try request.isDryRun()
        let agent = request.user.name == APIUser.admin.name ? request.agent : request.user.name
        options.fieldManager = request.query["fieldManager"].flatMap { $0.isEmpty ? nil : $0 } ?? agent
        options.isForced = request.isTrue("force")
        options.time = APITime.text(now)
        options.subresource = place.subresource
        options.version = place.version
        options.makeUID = makeUID
        options.makeSuffix = {
            String((0..<5).map { _ in "bcdfghjklmnpqrstvwxz2456789".randomElement() ?? "x" })
        }
        return options
    }

    private func deleteOptions(_ request: APIRequest, _ now: Date) throws(APIFailure) -> DeleteOptions {
        let conditions = try request.value()["preconditions"]
        return DeleteOptions(
            uid: conditions?["uid"]?.string, resourceVersion: conditions?["resourceVersion"]?.string,
            time: APITime.text(now))
    }

    private func filter(
        _ request: APIRequest, _ place: APIRequest.Place, _ kind: ResourceKind
    ) throws(APIFailure) -> ObjectFilter {
        var filter = ObjectFilter(namespace: place.namespace)
        if let text = request.query["labelSelector"], !text.isEmpty {
            do { filter.labels = try QueryLabelSelector(text) } catch { throw .badRequest(error.message) }
        }
        if let text = request.query["fieldSelector"], !text.isEmpty { filter.fields = try Self.selector(text, kind) }
        return filter
    }

    private static func selector(_ text: String, _ kind: ResourceKind) throws(APIFailure) -> QueryFieldSelector {
        do { return try QueryFieldSelector(text, kind: kind.kind) } catch { throw .badRequest(error.message) }
    }

    private func number(_ request: APIRequest, _ name: String) throws(APIFailure) -> Int {
        guard let text = request.query[name], !text.isEmpty else { return 0 }
        guard let number = Int(text), number >= 0 else {
            throw .badRequest("\(name): Invalid value: \"\(text)\": expected a number, 0 or more")
        }
        return number
    }

    // MARK: Reading

    private func list(
        _ request: APIRequest, _ place: APIRequest.Place, _ kind: ResourceKind, _ filter: ObjectFilter, _ now: Date
    ) throws(APIFailure) -> APIAnswer {
        var asked = Store.ListRequest(filter: filter)
        asked.limit = try number(request, "limit")
        asked.token = request.query["continue"].flatMap { $0.isEmpty ? nil : $0 }
        asked.version = request.query["resourceVersion"]
        asked.match = request.query["resourceVersionMatch"]
        let page = try store.list(kind, asked)
        var metadata: JSON = ["resourceVersion": .string(String(page.version))]
        if let next = page.next { metadata["continue"] = .string(next) }
        if let remaining = page.remaining { metadata["remainingItemCount"] = .integer(remaining) }
        switch try request.representation() {
        case .table:
            let table = ResourceTable(kind, version: place.version, now: now)
            let items = page.items.map { converted($0, kind, place.version) }
            return .value(table.table(items, metadata: metadata, include: request.query["includeObject"] ?? "Metadata"))
        case .metadata:
            return .value([
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                "items": .list(page.items.map(\.partialMetadata)),
            ])
        case .objects, .discovery: return .value(list(page.items, kind, place, metadata: metadata))
        }
    }

    private func list(_ items: [JSON], _ kind: ResourceKind, _ place: APIRequest.Place, metadata: JSON) -> JSON {
        [
            "kind": .string("\(kind.kind)List"), "apiVersion": .string(kind.apiVersion(place.version)),
            "metadata": metadata, "items": .list(items.map { converted($0, kind, place.version) }),
        ]
    }

    private func show(
        _ object: JSON, _ request: APIRequest, _ place: APIRequest.Place, _ kind: ResourceKind, _ now: Date,
        code: Int = 200
    ) throws(APIFailure) -> APIAnswer {
        let object = converted(object, kind, place.version)
        switch try request.representation() {
        case .table:
            let table = ResourceTable(kind, version: place.version, now: now)
            return .value(
                table.table(
                    [object], metadata: ["resourceVersion": .string(object.resourceVersion)],
                    include: request.query["includeObject"] ?? "Metadata"), code: code)
        case .metadata: return .value(object.partialMetadata, code: code)
        case .objects, .discovery: return .value(object, code: code)
        }
    }

    /// Kinds with several versions have the same fields in all of them.
    private func converted(_ object: JSON, _ kind: ResourceKind, _ version: String) -> JSON {
        var object = object
        object["apiVersion"] = .string(kind.apiVersion(version))
        return object
    }

    private func watch(
        _ request: APIRequest, _ place: APIRequest.Place, _ kind: ResourceKind, _ filter: ObjectFilter
    ) throws(APIFailure) -> WatchPlan {
        let text = request.query["resourceVersion"] ?? ""
        guard let from = text.isEmpty ? 0 : Int(text), from >= 0 else {
            throw .badRequest("resourceVersion: Invalid value: \"\(text)\": expected a number")
        }
        var plan = WatchPlan(
            kind: kind, version: place.version, filter: filter, representation: try request.representation(),
            include: request.query["includeObject"] ?? "Metadata", start: from,
            wantsBookmarks: request.isTrue("allowWatchBookmarks"), seconds: try number(request, "timeoutSeconds"))
        if plan.seconds == 0 { plan.seconds = 1800 }
        let all: () -> [(type: String, object: JSON)] = {
            (store.objects[kind.key] ?? [:]).sorted { $0.key < $1.key }.map(\.value).filter(filter.matches)
                .map { ("ADDED", $0) }
        }
        if request.isTrue("sendInitialEvents") {
            guard request.query["resourceVersionMatch"] == "NotOlderThan" else {
                throw .badRequest("sendInitialEvents: Forbidden: resourceVersionMatch must be NotOlderThan")
            }
            guard plan.wantsBookmarks else {
                throw .badRequest("sendInitialEvents: Forbidden: allowWatchBookmarks must be true")
            }
            if from > store.version { try store.check(from) }
            (plan.first, plan.start, plan.endsFirstByBookmark) = (all(), store.version, true)
        } else if from == 0 {
            (plan.first, plan.start) = (all(), store.version)
        } else {
            guard from >= store.compacted else {
                throw .expired("too old resource version: \(from) (\(store.compacted))")
            }
            plan.first = store.changes(after: from).filter { $0.kind == kind.key }
                .compactMap { Store.event($0, filter) }
            plan.start = max(from, store.version)
        }
        return plan
    }

    // MARK: Questions

    /// Kinds that are asked and never stored.
    private func review(
        _ request: APIRequest, _ place: APIRequest.Place, _ now: Date
    ) throws(APIFailure) -> APIAnswer? {
        guard place.version == "v1", place.name.isEmpty, request.method == "POST" else { return nil }
        switch (place.group, place.plural) {
        case ("authentication.k8s.io", "tokenreviews"):
            try authorize(request, place)
            return .value(reviewToken(try request.value(), now: now), code: 201)
        case ("authentication.k8s.io", "selfsubjectreviews"):
            return .value(
                [
                    "kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1", "metadata": [:],
                    "status": ["userInfo": request.user.json],
                ], code: 201)
        case ("authorization.k8s.io", "selfsubjectaccessreviews"), ("authorization.k8s.io", "subjectaccessreviews"):
            var body = try request.value()
            var user = request.user
            if place.plural == "subjectaccessreviews" {
                try authorize(request, place)
                user = APIUser(
                    name: body.at("spec", "user")?.string ?? "",
                    groups: body.at("spec", "groups")?.list?.compactMap(\.string) ?? [])
            }
            let attributes = body.at("spec", "resourceAttributes")
            func word(_ name: String) -> String { attributes?[name]?.string ?? "" }
            let resource = word("subresource").isEmpty ? word("resource") : "\(word("resource"))/\(word("subresource"))"
            let action = Roles.Action(
                verb: word("verb"), group: word("group"), resource: resource, namespace: word("namespace"),
                name: word("name"))
            body["status"] = ["allowed": .bool(!enforcesRoles || Roles(store: store).allows(user, action))]
            return .value(body, code: 201)
        default: return nil
        }
    }
}
