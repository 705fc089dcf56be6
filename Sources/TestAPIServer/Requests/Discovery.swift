import Kubernetes

/// What the server says of itself: kinds, versions, and of its schemas as much as clients ask for before they write.
struct Discovery {
    let kinds: ResourceKinds

    static let version: JSON = [
        "major": "1", "minor": "37", "gitVersion": "v1.37.0-apus-test", "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "swiftc", "platform": "linux",
    ]

    static let coreVersions: JSON = [
        "kind": "APIVersions", "apiVersion": "v1", "versions": ["v1"], "serverAddressByClientCIDRs": [],
    ]

    /// Groups whose kinds are asked and never stored.
    private static let reviews: [(group: String, plural: String, kind: String)] = [
        ("authentication.k8s.io", "tokenreviews", "TokenReview"),
        ("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
        ("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
        ("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview"),
    ]

    private var groupVersions: [(name: String, versions: [String])] {
        let stored = kinds.groups
        let more = Set(Self.reviews.map(\.group)).subtracting(stored.map(\.name)).sorted().map { ($0, ["v1"]) }
        return stored + more
    }

    private func group(_ name: String, _ versions: [String]) -> JSON {
        let list = versions.map { version -> JSON in
            ["groupVersion": .string("\(name)/\(version)"), "version": .string(version)]
        }
        return ["name": .string(name), "versions": .list(list), "preferredVersion": list[0]]
    }

    var groups: JSON {
        [
            "kind": "APIGroupList", "apiVersion": "v1",
            "groups": .list(groupVersions.map { group($0.name, $0.versions) }),
        ]
    }

    func group(_ name: String) throws(APIFailure) -> JSON {
        guard let found = groupVersions.first(where: { $0.name == name }) else { throw .noSuchPath }
        var result = group(found.name, found.versions)
        result["kind"] = "APIGroup"
        result["apiVersion"] = "v1"
        return result
    }

    func resources(group: String, version: String) throws(APIFailure) -> JSON {
        var resources: [JSON] = []
        for kind in kinds.kinds(group: group, version: version) {
            var resource: JSON = [
                "name": .string(kind.plural), "singularName": .string(kind.singular), "kind": .string(kind.kind),
                "namespaced": .bool(kind.isNamespaced), "verbs": .list(kind.verbs.map { .string($0) }),
            ]
            if !kind.shortNames.isEmpty { resource["shortNames"] = .list(kind.shortNames.map { .string($0) }) }
            if !kind.categories.isEmpty { resource["categories"] = .list(kind.categories.map { .string($0) }) }
            resources.append(resource)
            if kind.hasStatus {
                resources.append([
                    "name": .string("\(kind.plural)/status"), "singularName": "", "kind": .string(kind.kind),
                    "namespaced": .bool(kind.isNamespaced), "verbs": ["get", "patch", "update"],
                ])
            }
            if kind.key == "serviceaccounts" {
                resources.append([
                    "name": "serviceaccounts/token", "singularName": "", "kind": "TokenRequest", "namespaced": true,
                    "group": "authentication.k8s.io", "version": "v1", "verbs": ["create"],
                ])
            }
        }
        for review in Self.reviews where review.group == group && version == "v1" {
            resources.append([
                "name": .string(review.plural), "singularName": .string(review.kind.lowercased()),
                "kind": .string(review.kind), "namespaced": false, "verbs": ["create"],
            ])
        }
        guard !resources.isEmpty else { throw .noSuchPath }
        return [
            "kind": "APIResourceList", "apiVersion": "v1",
            "groupVersion": .string(group.isEmpty ? version : "\(group)/\(version)"), "resources": .list(resources),
        ]
    }

    /// All of it in one answer, for the core group or for all others.
    func aggregated(isCore: Bool, version: String) -> JSON {
        let groups = isCore ? [("", ["v1"])] : groupVersions.map { ($0.name, $0.versions) }
        return [
            "kind": "APIGroupDiscoveryList", "apiVersion": .string("apidiscovery.k8s.io/\(version)"), "metadata": [:],
            "items": .list(
                groups.map { name, versions in
                    [
                        "metadata": name.isEmpty ? [:] : ["name": .string(name)],
                        "versions": .list(versions.map { aggregated(group: name, version: $0) }),
                    ]
                }),
        ]
    }

    private func aggregated(group: String, version: String) -> JSON {
        // A version without kinds is in no list of groups.
        let list = (try? resources(group: group, version: version))?["resources"]?.list ?? []
        var resources: [JSON] = []
        for item in list {
            let name = item["name"]?.string ?? ""
            let kind: JSON = [
                "group": item["group"] ?? .string(group), "version": item["version"] ?? .string(version),
                "kind": item["kind"] ?? "",
            ]
            if let slash = name.firstIndex(of: "/"), var last = resources.last {
                last["subresources"] = .list(
                    (last["subresources"]?.list ?? []) + [
                        [
                            "subresource": .string(String(name[name.index(after: slash)...])), "responseKind": kind,
                            "verbs": item["verbs"] ?? [],
                        ]
                    ])
                resources[resources.count - 1] = last
                continue
            }
            var resource: JSON = [
                "resource": .string(name), "responseKind": kind, "singularResource": item["singularName"] ?? "",
                "scope": item["namespaced"] == true ? "Namespaced" : "Cluster", "verbs": item["verbs"] ?? [],
            ]
            resource["shortNames"] = item["shortNames"]
            resource["categories"] = item["categories"]
            resources.append(resource)
        }
        return ["version": .string(version), "resources": .list(resources), "freshness": "Current"]
    }

    // MARK: OpenAPI

    /// The second version's document, in its protobuf form, without a schema: `swagger` (1) and `info` (2). Where it has
    /// no schema of a kind, kubectl passes the kind.
    static let openAPI2: [UInt8] = {
        func field(_ number: UInt8, _ bytes: [UInt8]) -> [UInt8] { [number << 3 | 2, UInt8(bytes.count)] + bytes }
        return field(1, Array("2.0".utf8))
            + field(2, field(1, Array("Apus's test API server".utf8)) + field(2, Array("v1".utf8)))
    }()

    var openAPI: JSON {
        var paths: [String: JSON] = [:]
        for (name, versions) in [("", ["v1"])] + groupVersions {
            for version in versions {
                let path = name.isEmpty ? "api/\(version)" : "apis/\(name)/\(version)"
                paths[path] = ["serverRelativeURL": .string("/openapi/v3/\(path)")]
            }
        }
        return ["paths": .object(paths)]
    }

    /// The paths of a version's kinds with the parameters of a write: clients look there for `dryRun` and
    /// `fieldValidation`. Schemas say only which kind they are of; everything is allowed in them.
    func openAPI(group: String, version: String) throws(APIFailure) -> JSON {
        let found = kinds.kinds(group: group, version: version)
        guard !found.isEmpty else { throw .noSuchPath }
        let parameters: JSON = .list(
            ["dryRun", "fieldManager", "fieldValidation", "force"].map { name -> JSON in
                [
                    "name": .string(name), "in": "query",
                    "schema": ["type": name == "force" ? "boolean" : "string", "uniqueItems": true],
                ]
            })
        var (paths, schemas): ([String: JSON], [String: JSON]) = ([:], [:])
        for kind in found {
            let word: JSON = [
                "group": .string(group), "version": .string(version), "kind": .string(kind.kind),
            ]
            let schema = "apus.\(group.isEmpty ? "core" : group).\(version).\(kind.kind)"
            schemas[schema] = [
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "x-kubernetes-group-version-kind": [word],
            ]
            let base = group.isEmpty ? "/api/\(version)" : "/apis/\(group)/\(version)"
            let path = "\(base)\(kind.isNamespaced ? "/namespaces/{namespace}" : "")/\(kind.plural)/{name}"
            let media: JSON = ["schema": ["$ref": .string("#/components/schemas/\(schema)")]]
            func operation(_ action: String) -> JSON {
                [
                    "parameters": parameters, "x-kubernetes-action": .string(action),
                    "x-kubernetes-group-version-kind": word,
                    "responses": ["200": ["description": "OK", "content": ["application/json": media]]],
                ]
            }
            paths[path] = ["get": operation("get"), "put": operation("put"), "patch": operation("patch")]
        }
        return [
            "openapi": "3.0.0", "info": ["title": "Apus's test API server", "version": "v1"],
            "paths": .object(paths), "components": ["schemas": .object(schemas)],
        ]
    }
}
