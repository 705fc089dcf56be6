import Foundation
import Kubernetes

/// Objects as rows, which is how `kubectl get` asks for them.
struct ResourceTable {
    struct Column {
        var name: String
        var type = "string"
        var format = ""
        /// 0 is always shown, 1 with `-o wide`.
        var priority = 0
        var cell: @Sendable (JSON) -> JSON
    }

    private let columns: [Column]

    init(_ kind: ResourceKind, version: String, now: Date) {
        var name = Column(name: "Name", format: "name") { .string($0.name) }
        let age = Column(name: "Age") { .string(Self.age($0.at("metadata", "creationTimestamp"), now)) }
        if let own = kind.printerColumns[version] {
            columns = [name] + own.map { Self.defined($0, now) }
        } else if kind.key == "events" {
            name.priority = 1
            columns = Self.known(kind.key, now) + [name]
        } else {
            let more = Self.known(kind.key, now)
            columns = [name] + more.filter { $0.priority == 0 } + [age] + more.filter { $0.priority > 0 }
        }
    }

    var definitions: JSON {
        .list(
            columns.map {
                [
                    "name": .string($0.name), "type": .string($0.type), "format": .string($0.format),
                    "description": .string($0.name), "priority": .integer($0.priority),
                ]
            })
    }

    /// - Parameter include: `None`, `Metadata` or `Object`: what each row carries of its object.
    func row(_ object: JSON, include: String) -> JSON {
        var row: JSON = ["cells": .list(columns.map { $0.cell(object) })]
        switch include {
        case "None": break
        case "Object": row["object"] = object
        default: row["object"] = object.partialMetadata
        }
        return row
    }

    func table(_ objects: [JSON], metadata: JSON, include: String, hasColumns: Bool = true) -> JSON {
        [
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "columnDefinitions": hasColumns ? definitions : [],
            "rows": .list(objects.map { row($0, include: include) }),
        ]
    }

    // MARK: Cells

    private static func text(_ value: JSON?, _ empty: String = "<none>") -> JSON {
        switch value {
        case .string(let text): .string(text.isEmpty ? empty : text)
        case .integer(let number): .string("\(number)")
        case .bool(let flag): .string("\(flag)")
        case nil, .null: .string(empty)
        case .some(let other): .string(other.text)
        }
    }

    private static func path(_ name: String, _ path: String..., type: String = "string", priority: Int = 0) -> Column {
        Column(name: name, type: type, priority: priority) { object in
            type == "integer" ? object.at(path) ?? 0 : text(object.at(path))
        }
    }

    private static func count(_ name: String, _ path: String...) -> Column {
        Column(name: name, type: "integer") { object in
            let value = object.at(path)
            return .integer(value?.members?.count ?? value?.list?.count ?? 0)
        }
    }

    private static func known(_ key: String, _ now: Date) -> [Column] {
        switch key {
        case "pods":
            return [
                Column(name: "Ready") { pod in
                    let ready = (pod.at("status", "containerStatuses")?.list ?? []).count { $0["ready"] == true }
                    return .string("\(ready)/\(pod.at("spec", "containers")?.list?.count ?? 0)")
                },
                Column(name: "Status") { pod in
                    pod.isBeingDeleted
                        ? "Terminating" : text(pod.at("status", "reason") ?? pod.at("status", "phase"), "")
                },
                Column(name: "Restarts") { pod in
                    let statuses = pod.at("status", "containerStatuses")?.list ?? []
                    return .string("\(statuses.reduce(0) { $0 + ($1["restartCount"]?.integer ?? 0) })")
                },
                path("IP", "status", "podIP", priority: 1), path("Node", "spec", "nodeName", priority: 1),
                path("Nominated Node", "status", "nominatedNodeName", priority: 1),
                Column(name: "Readiness Gates", priority: 1) { _ in "<none>" },
            ]
        case "namespaces": return [Column(name: "Status") { text($0.at("status", "phase"), "") }]
        case "nodes":
            return [
                Column(name: "Status") { node in
                    let ready = (node.at("status", "conditions")?.list ?? []).first { $0["type"] == "Ready" }
                    let word = ready.map { $0["status"] == "True" ? "Ready" : "NotReady" } ?? "Unknown"
                    return .string(node.at("spec", "unschedulable") == true ? "\(word),SchedulingDisabled" : word)
                },
                Column(name: "Roles") { _ in "<none>" },
                Column(name: "Version") { text($0.at("status", "nodeInfo", "kubeletVersion"), "") },
            ]
        case "services":
            return [
                path("Type", "spec", "type"), path("Cluster-IP", "spec", "clusterIP"),
                Column(name: "External-IP") { _ in "<none>" },
                Column(name: "Port(s)") { service in
                    let ports = (service.at("spec", "ports")?.list ?? []).map {
                        "\($0["port"]?.integer ?? 0)/\($0["protocol"]?.string ?? "TCP")"
                    }
                    return .string(ports.isEmpty ? "<none>" : ports.joined(separator: ","))
                },
            ]
        case "configmaps", "secrets":
            let data = count("Data", "data")
            return key == "secrets" ? [path("Type", "type"), data] : [data]
        case "serviceaccounts": return [count("Secrets", "secrets")]
        case "events":
            return [
                Column(name: "Last Seen") {
                    .string(age($0["lastTimestamp"] ?? $0["eventTime"] ?? $0.at("metadata", "creationTimestamp"), now))
                },
                path("Type", "type"), path("Reason", "reason"),
                Column(name: "Object") { event in
                    let object = event["involvedObject"]
                    return .string("\(object?["kind"]?.string?.lowercased() ?? "")/\(object?["name"]?.string ?? "")")
                },
                path("Message", "message"),
            ]
        case "leases.coordination.k8s.io": return [path("Holder", "spec", "holderIdentity")]
        case "deployments.apps":
            return [
                Column(name: "Ready") {
                    .string(
                        "\($0.at("status", "readyReplicas")?.integer ?? 0)/\($0.at("spec", "replicas")?.integer ?? 0)")
                },
                path("Up-to-date", "status", "updatedReplicas", type: "integer"),
                path("Available", "status", "availableReplicas", type: "integer"),
            ]
        case "daemonsets.apps":
            return [
                path("Desired", "status", "desiredNumberScheduled", type: "integer"),
                path("Current", "status", "currentNumberScheduled", type: "integer"),
                path("Ready", "status", "numberReady", type: "integer"),
                path("Up-to-date", "status", "updatedNumberScheduled", type: "integer"),
                path("Available", "status", "numberAvailable", type: "integer"),
                Column(name: "Node Selector") { object in
                    let labels = object.at("spec", "template", "spec", "nodeSelector")?.members ?? [:]
                    let words = labels.map { "\($0.key)=\($0.value.string ?? "")" }.sorted()
                    return .string(words.isEmpty ? "<none>" : words.joined(separator: ","))
                },
            ]
        default: return []
        }
    }

    /// A column of a CustomResourceDefinition.
    private static func defined(_ column: JSON, _ now: Date) -> Column {
        let type = column["type"]?.string ?? "string"
        let path = fields(of: column["jsonPath"]?.string ?? "")
        return Column(
            name: column["name"]?.string ?? "", type: type, format: column["format"]?.string ?? "",
            priority: column["priority"]?.integer ?? 0
        ) { object in
            let value = find(object, path[...])
            if type == "date" { return .string(age(value, now)) }
            return type == "integer" || type == "number" || type == "boolean" ? value ?? .null : text(value, "")
        }
    }

    /// `.status.conditions[?(@.type=="Ready")].status` as `status`, `conditions`, `type==Ready`, `status`; the part of
    /// JSONPath that definitions use.
    private static func fields(of path: String) -> [String] {
        var (fields, rest) = ([String](), path[...])
        while let first = rest.first {
            if first == "." {
                rest = rest.dropFirst()
                let word = rest.prefix { $0 != "." && $0 != "[" }
                if !word.isEmpty { fields.append(String(word)) }
                rest = rest.dropFirst(word.count)
            } else if first == "[" {
                let inner = rest.dropFirst().prefix { $0 != "]" }
                fields.append("[" + inner.filter { !"?()@'\" ".contains($0) })
                rest = rest.dropFirst(inner.count + 2)
            } else {
                rest = rest.dropFirst()
            }
        }
        return fields
    }

    private static func find(_ value: JSON?, _ path: ArraySlice<String>) -> JSON? {
        guard let value, let part = path.first else { return value }
        let rest = path.dropFirst()
        guard part.hasPrefix("[") else { return find(value[part], rest) }
        let word = part.dropFirst()
        if let index = Int(word) { return find(value.list?.dropFirst(index).first, rest) }
        guard let range = word.firstRange(of: "==") else { return find(value[String(word)], rest) }
        let name = String(word[..<range.lowerBound].drop { $0 == "." })
        let wanted = String(word[range.upperBound...])
        return find(value.list?.first { $0[name]?.string == wanted }, rest)
    }

    /// As kubectl writes it: `5s`, `3m10s`, `4h`, `2d`.
    static func age(_ time: JSON?, _ now: Date) -> String {
        guard let text = time?.string, let date = APITime.date(text) else { return "<unknown>" }
        let seconds = max(0, Int(now.timeIntervalSince(date)))
        let (minutes, hours) = (seconds / 60, seconds / 3600)
        switch seconds {
        case ..<120: return "\(seconds)s"
        case ..<600: return seconds % 60 == 0 ? "\(minutes)m" : "\(minutes)m\(seconds % 60)s"
        case ..<10_800: return "\(minutes)m"
        case ..<28_800: return minutes % 60 == 0 ? "\(hours)h" : "\(hours)h\(minutes % 60)m"
        case ..<172_800: return "\(hours)h"
        default: return "\(hours / 24)d"
        }
    }
}

/// Times as the API writes them.
enum APITime {
    static func text(_ date: Date) -> String { date.formatted(.iso8601) }

    static func date(_ text: String) -> Date? {
        // Either form may come; neither is an error of a client.
        (try? Date(text, strategy: .iso8601))
            ?? (try? Date(
                text,
                strategy: .iso8601.year().month().day().time(includingFractionalSeconds: true).timeZone(
                    separator: .omitted)))
    }
}
