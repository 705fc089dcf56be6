import Foundation
import Kubernetes
import Testing

@testable import TestAPIServer

/// JSON as it is written.
func json(_ text: String) throws -> JSON { try JSON(text: Array(text.utf8)) }

let podKeys = ListKeys(kind: "Pod", isBuiltIn: true)
let deploymentKeys = ListKeys(kind: "Deployment", isBuiltIn: true)

/// A cluster that is asked without a network, at a time that stands still.
struct Asked {
    var cluster = Cluster(now: Date(timeIntervalSince1970: 1_767_323_045))
    var now = Date(timeIntervalSince1970: 1_767_323_045)
    var user = APIUser.admin

    init() throws { try #require(self("POST", "/api/v1/namespaces", #"{"metadata":{"name":"shop"}}"#).code == 201) }

    /// A request whose body is written as JSON.
    @discardableResult
    mutating func callAsFunction(
        _ method: String, _ path: String, _ body: String = "", type: String = "application/json", accept: String = "",
        agent: String = "test"
    ) -> (code: Int, value: JSON) {
        let parts = path.split(separator: "?", maxSplits: 1)
        var request = APIRequest(
            method: method, path: String(parts[0]), accept: accept, contentType: type, body: Array(body.utf8),
            user: user, agent: agent)
        for item in parts.dropFirst().first?.split(separator: "&") ?? [] {
            let pair = item.split(separator: "=", maxSplits: 1)
            request.query[String(pair[0])] = pair.count > 1 ? String(pair[1]).removingPercentEncoding : ""
        }
        switch cluster.handle(request, now: now) {
        case .value(let value, let code, _): return (code, value)
        case .bytes(let bytes, _): return (200, .string(String(decoding: bytes, as: UTF8.self)))
        case .watch(let plan):
            return (
                200,
                .list(plan.first.map { ["type": .string($0.type), "name": .string($0.object.name)] })
            )
        }
    }

    static let pods = "/api/v1/namespaces/shop/pods"

    mutating func createPod(_ name: String, _ more: String = "") -> JSON {
        self(
            "POST", Self.pods,
            """
            {"metadata":{"name":"\(name)","labels":{"app":"\(name)"}},\
            "spec":{"containers":[{"name":"main","image":"i:1"}]\(more)}}
            """
        ).value
    }

    static let merge = "application/merge-patch+json"
    static let strategic = "application/strategic-merge-patch+json"
    static let steps = "application/json-patch+json"
    static let apply = "application/apply-patch+yaml"
}
