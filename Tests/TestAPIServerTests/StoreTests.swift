import Foundation
import Kubernetes
import Testing

@testable import TestAPIServer

@Suite("Lists and watches over the history")
struct StoreTests {
    @Test("pages are of one version, whatever happens between them")
    func pages() throws {
        var api = try Asked()
        for index in 0..<7 { _ = api.createPod("p\(index)") }
        let first = api("GET", "\(Asked.pods)?limit=3").value
        let version = first.at("metadata", "resourceVersion")
        #expect(first.at("metadata", "remainingItemCount") == 4)
        let token = first.at("metadata", "continue")?.string ?? ""
        _ = api.createPod("p35")
        api("DELETE", "\(Asked.pods)/p5")
        api("PATCH", "\(Asked.pods)/p4", #"{"metadata":{"labels":{"late":"1"}}}"#, type: Asked.merge)
        let second = api("GET", "\(Asked.pods)?limit=10&continue=\(token)").value
        #expect(second["items"]?.list?.map(\.name) == ["p3", "p4", "p5", "p6"])
        #expect(second["items"]?.list?[1].labels["late"] == nil)
        #expect(second.at("metadata", "resourceVersion") == version)
        #expect(second.at("metadata", "continue") == nil)
        api.cluster.store.compact()
        let late = api("GET", "\(Asked.pods)?continue=\(token)")
        #expect(late.code == 410 && late.value["reason"] == "Expired")
        #expect(api("GET", "\(Asked.pods)?continue=rubbish").code == 400)
    }

    @Test("a list of an exact version is as it was then; of one to come it is refused")
    func exact() throws {
        var api = try Asked()
        _ = api.createPod("a")
        let version = api.cluster.store.version
        _ = api.createPod("b")
        let old = api("GET", "\(Asked.pods)?resourceVersion=\(version)&resourceVersionMatch=Exact").value
        #expect(old["items"]?.list?.map(\.name) == ["a"])
        #expect(api("GET", "\(Asked.pods)?resourceVersion=\(version)").value["items"]?.list?.count == 2)
        #expect(api("GET", "\(Asked.pods)?resourceVersion=9999").code == 504)
        #expect(api("GET", "\(Asked.pods)?resourceVersion=x").code == 400)
        #expect(api("GET", "\(Asked.pods)?limit=x").code == 400)
    }

    @Test("a watch goes on after a version, begins with everything, or is told that it comes too late")
    func watches() throws {
        var api = try Asked()
        _ = api.createPod("a")
        let version = api.cluster.store.version
        _ = api.createPod("b")
        api("DELETE", "\(Asked.pods)/a")
        func told(_ query: String) -> (code: Int, events: [String]) {
            let answer = api("GET", "\(Asked.pods)?watch=1\(query)")
            return (
                answer.code,
                answer.value.list?.map { "\($0["type"]?.string ?? "") \($0["name"]?.string ?? "")" } ?? []
            )
        }
        #expect(told("&resourceVersion=\(version)").events == ["ADDED b", "DELETED a"])
        #expect(told("").events == ["ADDED b"])
        #expect(told("&resourceVersion=0").events == ["ADDED b"])
        let initial = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        #expect(told("\(initial)&allowWatchBookmarks=true").events == ["ADDED b"])
        #expect(told(initial).code == 400)
        api.cluster.store.compact(to: version + 1)
        #expect(told("&resourceVersion=\(version)").code == 410)
        #expect(told("&resourceVersion=\(version + 1)").code == 200)
    }

    @Test("an object that begins or ends to be selected comes and goes")
    func selection() throws {
        var api = try Asked()
        _ = api.createPod("a")
        let version = api.cluster.store.version
        for value in ["1", "2"] {
            api("PATCH", "\(Asked.pods)/a", #"{"metadata":{"labels":{"v":"\#(value)"}}}"#, type: Asked.merge)
        }
        let events = api("GET", "\(Asked.pods)?watch=1&resourceVersion=\(version)&labelSelector=v%3D1").value.list
        #expect(events?.compactMap { $0["type"]?.string } == ["ADDED", "DELETED"])
        let change = try #require(api.cluster.store.changes(after: version).last)
        var filter = ObjectFilter()
        filter.labels = try QueryLabelSelector("v=1")
        let last = try #require(Store.event(change, filter))
        // As it was when it was selected, with the version of the change.
        #expect(last.object.labels["v"] == "1" && last.object.resourceVersion == String(change.version))
    }

    @Test("the history is bounded")
    func bounded() throws {
        var api = try Asked()
        api.cluster.store.historyLimit = 10
        for index in 0..<50 { _ = api.createPod("p\(index)") }
        #expect((10...20).contains(api.cluster.store.history.count))
        #expect(api("GET", "\(Asked.pods)?watch=1&resourceVersion=3").code == 410)
    }

    @Test("versions of a kind show the same objects")
    func versions() throws {
        var api = try Asked()
        let path = "/apis/security.istio.io/v1beta1/namespaces/shop/peerauthentications"
        #expect(
            api(
                "POST", path,
                #"{"apiVersion":"security.istio.io/v1beta1","kind":"PeerAuthentication","metadata":{"name":"p"}}"#
            ).code == 201)
        let other = api("GET", "/apis/security.istio.io/v1/namespaces/shop/peerauthentications/p").value
        #expect(other["apiVersion"] == "security.istio.io/v1")
        #expect(api("GET", "/apis/security.istio.io/v1alpha9/peerauthentications").code == 404)
    }
}
