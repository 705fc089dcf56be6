import ObjectSource

/// Which objects of a kind.
public struct ObjectSelection: Sendable, Hashable {
    /// `nil`: of all namespaces.
    public var namespace: String?
    /// As `spec.nodeName=n1`.
    public var fields: String?
    /// As `app=web,tier!=db`.
    public var labels: String?

    public init(namespace: String? = nil, fields: String? = nil, labels: String? = nil) {
        self.namespace = namespace
        self.fields = fields
        self.labels = labels
    }

    var query: [(name: String, value: String)] {
        var query: [(name: String, value: String)] = []
        if let fields { query.append(("fieldSelector", fields)) }
        if let labels { query.append(("labelSelector", labels)) }
        return query
    }
}

/// A part of a list.
public struct ListPage: Sendable {
    public var items: [DocumentNode]
    /// The version of the whole list: where a watch goes on.
    public var version: String
    /// Asks for the next page; `nil` after the last.
    public var next: String?
}

/// What a watch tells.
public struct WatchEvent: Sendable {
    public enum Kind: String, Sendable {
        case added = "ADDED"
        case modified = "MODIFIED"
        case deleted = "DELETED"
        /// Nothing happened, up to the version that its object has.
        case bookmark = "BOOKMARK"
    }
    public var kind: Kind
    public var object: DocumentNode
}

extension DocumentNode {
    /// An object's version; empty where it has none.
    public var resourceVersion: String { self["metadata"]?["resourceVersion"]?.string ?? "" }
}

extension KubernetesClient {
    /// One page of a list, as of now or, with a token, of the version that the first page was of.
    /// - Throws: `expired` when that version is no longer kept: the list begins anew then.
    public func list(
        _ resource: APIResource, _ selection: ObjectSelection = ObjectSelection(), after token: String? = nil
    ) async throws(KubernetesError) -> ListPage {
        var query = selection.query
        query.append(("limit", String(settings.pageSize)))
        if let token { query.append(("continue", token)) }
        let root = try await send(
            Request(path: resource.path(namespace: selection.namespace), query: query, what: "list \(resource)")
        ).root
        guard let metadata = root["metadata"], let version = metadata["resourceVersion"]?.string else {
            throw KubernetesError(
                .badAnswer, "the answer is no list", cause: "to list \(resource)",
                hint: "what answers at \(configuration.server) may be no API server")
        }
        let next = metadata["continue"]?.string ?? ""
        // A list of nothing may be null.
        return ListPage(items: root["items"]?.elements ?? [], version: version, next: next.isEmpty ? nil : next)
    }

    /// Hands on what changes after a version, in the server's order. Returns when the server ends the watch, as it does
    /// now and then.
    ///
    /// - Parameter limit: When the server is asked to end it, in whole seconds.
    /// - Throws: `expired` when the changes after that version are no longer kept, whether the server says so at once or
    ///   by an event; `timeout` when it is silent for longer than ``ClientSettings/watchSilence``.
    public func watch(
        _ resource: APIResource, _ selection: ObjectSelection = ObjectSelection(), from version: String,
        limit: Duration, _ body: (WatchEvent) async throws -> Void
    ) async throws(KubernetesError) {
        var query = selection.query
        query += [
            ("watch", "true"), ("allowWatchBookmarks", "true"), ("resourceVersion", version),
            ("timeoutSeconds", String(max(1, limit.components.seconds))),
        ]
        let what = "watch \(resource)"
        let request = Request(path: resource.path(namespace: selection.namespace), query: query, what: what)
        try await stream(request) { line in
            guard let type = line.root["type"]?.string, let object = line.root["object"] else {
                throw KubernetesError(.badAnswer, "an event has no type or no object", cause: "to \(what)")
            }
            if type == "ERROR" { throw KubernetesError(statusOfEvent: object, doing: what) }
            // A type of a later version cannot be about objects that were not there before.
            guard let kind = WatchEvent.Kind(rawValue: type) else { return }
            try await body(WatchEvent(kind: kind, object: object))
        }
    }
}
