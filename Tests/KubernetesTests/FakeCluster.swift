import Foundation
import ObjectSource
import Synchronization

@testable import Kubernetes

/// Lists and watches over a history that a test writes, with the faults that a test wants.
final class FakeCluster: Sendable {
    struct Faults: Sendable {
        /// What comes before this version is no longer kept.
        var compactedTo = 0
        /// By an event in a stream that began well, as opposed to a status.
        var refusesByEvent = false
        /// Tokens of earlier pages are no longer good.
        var expiresTokens = false
        /// Watches are answered and silent ever after.
        var isSilent = false
        /// Watches end as soon as they begin.
        var endsAtOnce = false
        /// Every event comes so many times.
        var copies = 1
        /// Events are not told.
        var losesEvents = false
        /// By path: the status of the answer.
        var refusals: [String: Int] = [:]
        /// What a token must be.
        var token: String?
        /// Objects a page, at most.
        var pageSize = Int.max
    }

    private struct Event {
        var version: Int
        var path: String
        var type: String
        var object: String
    }

    private struct State {
        var version = 100
        var objects: [String: [String: String]] = [:]
        var history: [Event] = []
        var watchers: [(path: String, call: ScriptedServer.Call)] = []
        var faults = Faults()
        var counts: [String: Int] = [:]
    }

    private let state = Mutex(State())
    static let pods = "/api/v1/pods"
    static let namespaces = "/api/v1/namespaces"
    static let peerAuthentications = "/apis/security.istio.io/v1/peerauthentications"

    /// How often a kind of request came: `list`, `watch`.
    func count(_ what: String) -> Int { state.withLock { $0.counts[what] ?? 0 } }
    func set(_ body: @Sendable (inout Faults) -> Void) { state.withLock { body(&$0.faults) } }
    var version: Int { state.withLock { $0.version } }
    var watchers: Int { state.withLock { $0.watchers.count { $0.call.channel.isActive } } }

    // MARK: Changes

    static func pod(_ name: String, version: Int, label: String = "") -> String {
        """
        {"metadata":{"name":"\(name)","namespace":"shop","uid":"u-\(name)","resourceVersion":"\(version)",\
        "labels":{"v":"\(label)"}},"spec":{"nodeName":"n1"},"status":{"phase":"Running"}}
        """
    }

    func put(_ name: String, label: String = "") {
        state.withLock { state in
            state.version += 1
            let isNew = state.objects[Self.pods]?[name] == nil
            let object = Self.pod(name, version: state.version, label: label)
            state.objects[Self.pods, default: [:]][name] = object
            record(&state, Self.pods, isNew ? "ADDED" : "MODIFIED", object)
        }
    }

    func delete(_ name: String) {
        state.withLock { state in
            state.version += 1
            state.objects[Self.pods]?[name] = nil
            record(&state, Self.pods, "DELETED", Self.pod(name, version: state.version))
        }
    }

    func putNamespace(_ name: String) {
        state.withLock { state in
            state.version += 1
            let object = #"{"metadata":{"name":"\#(name)","resourceVersion":"\#(state.version)"}}"#
            state.objects[Self.namespaces, default: [:]][name] = object
            record(&state, Self.namespaces, "ADDED", object)
        }
    }

    /// Sends an event as it is to all who watch pods.
    func tell(_ type: String, _ object: String) {
        let watchers = state.withLock { $0.watchers.filter { $0.path == Self.pods } }
        for watcher in watchers { watcher.call.send(Self.line(type, object)) }
    }

    func cutWatches() {
        let watchers = state.withLock { state in
            defer { state.watchers = [] }
            return state.watchers
        }
        for watcher in watchers { watcher.call.cut() }
    }

    private func record(_ state: inout State, _ path: String, _ type: String, _ object: String) {
        let event = Event(version: state.version, path: path, type: type, object: object)
        guard !state.faults.losesEvents else { return }
        state.history.append(event)
        guard !state.faults.isSilent else { return }
        for watcher in state.watchers where watcher.path == path {
            for _ in 0..<state.faults.copies { watcher.call.send(Self.line(type, object)) }
        }
    }

    private static func line(_ type: String, _ object: String) -> String {
        "{\"type\":\"\(type)\",\"object\":\(object)}\n"
    }

    // MARK: Requests

    func handle(_ call: ScriptedServer.Call) {
        state.withLock { state in
            let kind = call.query["watch"] == "true" ? "watch" : "list"
            state.counts[kind, default: 0] += 1
            if let token = state.faults.token, call.headers["Authorization"].first != "Bearer \(token)" {
                return call.answer(401, Self.status(401, "Unauthorized"))
            }
            if let status = state.faults.refusals[call.path] {
                return call.answer(status, Self.status(status, "Refused"))
            }
            if kind == "watch" { watch(call, &state) } else { list(call, &state) }
        }
    }

    static func status(_ code: Int, _ reason: String) -> String {
        #"{"kind":"Status","status":"Failure","code":\#(code),"reason":"\#(reason)","message":"\#(reason) by a test"}"#
    }

    private func list(_ call: ScriptedServer.Call, _ state: inout State) {
        let limit = min(Int(call.query["limit"] ?? "") ?? .max, state.faults.pageSize)
        var (version, start) = (state.version, 0)
        if let token = call.query["continue"] {
            guard !state.faults.expiresTokens else { return call.answer(410, Self.status(410, "Expired")) }
            let parts = token.split(separator: ".").compactMap { Int($0) }
            (version, start) = (parts[0], parts[1])
        }
        let all = (state.objects[call.path] ?? [:]).sorted { $0.key < $1.key }.map(\.value)
        let page = all.dropFirst(start).prefix(limit)
        let rest = start + page.count < all.count ? "\(version).\(start + page.count)" : ""
        call.answer(
            #"{"metadata":{"resourceVersion":"\#(version)","continue":"\#(rest)"},"items":[\#(page.joined(separator: ","))]}"#
        )
    }

    private func watch(_ call: ScriptedServer.Call, _ state: inout State) {
        let from = Int(call.query["resourceVersion"] ?? "") ?? 0
        if from < state.faults.compactedTo {
            guard state.faults.refusesByEvent else { return call.answer(410, Self.status(410, "Expired")) }
            call.begin()
            call.send(Self.line("ERROR", Self.status(410, "Expired")))
            return call.end()
        }
        call.begin()
        if state.faults.endsAtOnce { return call.end() }
        state.watchers.append((call.path, call))
        guard !state.faults.isSilent else { return }
        for event in state.history where event.path == call.path && event.version > from {
            for _ in 0..<state.faults.copies { call.send(Self.line(event.type, event.object)) }
        }
    }
}

extension ScriptedServer.Call {
    func answer(_ json: String) { answer(200, json) }
}
