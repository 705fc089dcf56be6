import Foundation
import Kubernetes
import NIOCore

/// One open watch.
final class Watcher: Sendable {
    let plan: WatchPlan
    let call: HTTPCall

    init(_ plan: WatchPlan, _ call: HTTPCall) {
        self.plan = plan
        self.call = call
    }

    /// Bytes of an event, and whether it is the first, which alone carries a table's columns.
    func line(_ type: String, _ object: JSON, isFirst: Bool, now: Date) -> ByteBuffer {
        var bytes = Array("{\"type\":\"\(type)\",\"object\":".utf8)
        bytes += shown(object, isFirst: isFirst, now: now).bytes
        bytes += "}\n".utf8
        return ByteBuffer(bytes: bytes)
    }

    private func shown(_ object: JSON, isFirst: Bool, now: Date) -> JSON {
        var object = object
        object["apiVersion"] = .string(plan.kind.apiVersion(plan.version))
        switch plan.representation {
        case .table:
            return ResourceTable(plan.kind, version: plan.version, now: now).table(
                [object], metadata: ["resourceVersion": .string(object.resourceVersion)], include: plan.include,
                hasColumns: isFirst)
        case .metadata: return object.partialMetadata
        case .objects, .discovery: return object
        }
    }

    func bookmark(_ version: Int, endsFirst: Bool = false) -> ByteBuffer {
        var metadata: JSON = ["resourceVersion": .string(String(version)), "creationTimestamp": nil]
        if endsFirst { metadata["annotations"] = ["k8s.io/initial-events-end": "true"] }
        let event: JSON = [
            "type": "BOOKMARK",
            "object": [
                "kind": .string(plan.kind.kind), "apiVersion": .string(plan.kind.apiVersion(plan.version)),
                "metadata": metadata,
            ],
        ]
        return ByteBuffer(bytes: event.bytes + [0x0a])
    }

    static func failure(_ failure: APIFailure) -> ByteBuffer {
        let event: JSON = ["type": "ERROR", "object": failure.status]
        return ByteBuffer(bytes: event.bytes + [0x0a])
    }
}
