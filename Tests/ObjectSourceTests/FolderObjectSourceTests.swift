import Foundation
import Testing

@testable import ObjectSource

@Suite("A folder as a source of objects", .timeLimit(.minutes(2)))
struct FolderObjectSourceTests {
    let folder: TemporaryFolder
    let status: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
        status = try TemporaryFolder()
    }

    private func pod(_ name: String, labels: String = "{}") -> String {
        "apiVersion: v1\nkind: Pod\nmetadata: {name: \(name), namespace: shop, labels: \(labels)}\n"
    }

    private func name(_ name: String) -> ObjectName { ObjectName(namespace: "shop", name: name) }

    @Test("files that are there are read before init returns; edits, new files and removals are seen")
    func edits() async throws {
        try folder.write("a.yaml", pod("one"))
        try folder.write("notes.txt", "no: [yaml")
        try folder.write(".hidden.yaml", "no: [yaml")
        let source = try FolderObjectSource(source: folder.path)
        defer { source.close() }
        #expect(source.snapshot().pods.keys.map(\.name) == ["one"])
        #expect(source.snapshot().problems.isEmpty)

        try folder.write("b.json", #"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}"#)
        try await source.wait { $0.namespaces["shop"] != nil }
        try folder.write("a.yaml", pod("one", labels: "{x: y}") + "---\n" + pod("two"))
        let name = self.name("one")
        let both = try await source.wait { $0.pods.count == 2 }
        #expect(both.pods[name]?.metadata.labels == ["x": "y"])
        try folder.remove("a.yaml")
        try await source.wait { $0.pods.isEmpty && $0.namespaces.count == 1 }
    }

    @Test("a file written in place, slowly, is seen whole or not at all")
    func slowWriter() async throws {
        try folder.write("a.yaml", pod("one"))
        let source = try FolderObjectSource(source: folder.path)
        defer { source.close() }
        let stream = source.snapshots()
        let handle = try #require(FileHandle(forWritingAtPath: folder.path + "/a.yaml"))
        try handle.truncate(atOffset: 0)
        for line in pod("one", labels: "{x: y}").split(separator: "\n") {
            try handle.write(contentsOf: Data((line + "\n").utf8))
        }
        try handle.close()
        let name = self.name("one")
        for await snapshot in stream {
            #expect(snapshot.pods.count == 1, "the pod was away for a moment")
            if snapshot.pods[name]?.metadata.labels == ["x": "y"] { break }
        }
    }

    @Test("a fresh file rests before it is read, one that was renamed into place is read at once")
    func arrivals() throws {
        try folder.write("a.yaml", pod("one"))
        var scanner = FolderScanner(path: folder.path, label: folder.path, maximumFiles: 10) { $0.hasSuffix(".yaml") }
        let fresh = scanner.scan(settle: true, arrived: ["other.yaml"])
        #expect(fresh.unsettled && fresh.changed.isEmpty)
        let whole = scanner.scan(settle: true, arrived: ["a.yaml"])
        #expect(!whole.unsettled && whole.changed.map(\.name) == ["a.yaml"])
    }

    @Test("the watch tells which files were renamed into place and not written to since")
    func renamed() async throws {
        let queue = DispatchQueue(label: "watch")
        let (events, heard) = AsyncStream.makeStream(of: FolderWatch.News.self)
        let watch = try #require(FolderWatch(queue: queue) { heard.yield($0) })
        let path = folder.path
        queue.sync { _ = watch.watch(path) }
        queue.suspend()
        for name in [".a", ".b"] { try Data("x".utf8).write(to: URL(fileURLWithPath: "\(path)/\(name)")) }
        rename("\(path)/.a", "\(path)/a.yaml")
        rename("\(path)/.b", "\(path)/b.yaml")
        let handle = try #require(FileHandle(forWritingAtPath: path + "/b.yaml"))
        try handle.write(contentsOf: Data("y".utf8))
        try handle.close()
        try Data("z".utf8).write(to: URL(fileURLWithPath: "\(path)/c.yaml"))
        queue.resume()
        var news = FolderWatch.News()
        for await event in events {
            news.merge(event)
            if !event.arrived.isEmpty { break }
        }
        #expect(news.arrived == [path: ["a.yaml"]])
        #expect(news.touched == [path: [".a", ".b", "a.yaml", "b.yaml", "c.yaml"]])
        #expect(!news.isVague)
        withExtendedLifetime(watch) {}
    }

    @Test("a wrong file keeps its last good objects, others go on, and a repair is taken up")
    func lastGoodState() async throws {
        try folder.write("a.yaml", pod("one"))
        try folder.write("b.yaml", pod("two"))
        let source = try FolderObjectSource(source: folder.path)
        defer { source.close() }
        try folder.write("a.yaml", pod("renamed") + "spec: {hostNetwork: 7}\n")
        try folder.write("b.yaml", pod("three"))
        let name = self.name("three")
        let wrong = try await source.wait { !$0.problems.isEmpty && $0.pods[name] != nil }
        #expect(Set(wrong.pods.keys.map(\.name)) == ["one", "three"])
        #expect(
            wrong.problems.map(\.description) == [
                "a.yaml:4: spec.hostNetwork: expected true or false, found \"7\""
            ])
        try folder.write("a.yaml", "")
        try await source.wait { $0.problems.first?.message.contains("is empty") == true && $0.pods.count == 2 }
        try folder.write("a.yaml", pod("renamed"))
        let repaired = try await source.wait { $0.problems.isEmpty }
        #expect(Set(repaired.pods.keys.map(\.name)) == ["renamed", "three"])
    }

    @Test("of two definitions the older one counts, and both places are named")
    func duplicates() async throws {
        try folder.write("b.yaml", pod("one", labels: "{from: b}"))
        let source = try FolderObjectSource(source: folder.path)
        defer { source.close() }
        try folder.write("a.yaml", "# first\n" + pod("one", labels: "{from: a}") + "---\n" + pod("two"))
        let found = try await source.wait { $0.pods.count == 2 }
        #expect(
            found.problems.map(\.description) == [
                "a.yaml:2: Pod shop/one is defined in b.yaml:1 already; that one counts"
            ])
        #expect(found.pods[name("one")]?.metadata.labels == ["from": "b"])
        try folder.remove("b.yaml")
        let name = self.name("one")
        try await source.wait { $0.problems.isEmpty && $0.pods[name]?.metadata.labels == ["from": "a"] }
    }

    @Test("reports are laid over pods, from several reporters, and only over the instance they mean")
    func reports() async throws {
        try folder.write("a.yaml", pod("one") + "---\n" + pod("two.x"))
        let source = try FolderObjectSource(source: folder.path, status: status.path)
        defer { source.close() }
        let kubelet = try FolderStatusWriter(folder: status.path, reporter: "kubelet")
        let agent = try FolderStatusWriter(folder: status.path, reporter: "agent")
        let one = PodReference(name: name("one"), uid: "u1")
        let report = PodRuntimeReport(nodeName: "n1", phase: .running, podIPs: ["10.0.0.1", "fd00::1"], isReady: true)
        try kubelet.report(report, for: one)
        try agent.annotate(one, with: [MeshLabel.redirection: "enabled", "odd": "\"\\\n\u{7}*é"])
        try kubelet.report(report, for: PodReference(name: name("two.x"), uid: ""))
        try kubelet.report(report, for: PodReference(name: name("unknown"), uid: ""))
        let (first, second) = (name("one"), name("two.x"))
        let found = try await source.wait {
            $0.pods[first]?.metadata.annotations.isEmpty == false && $0.pods[second]?.status.isReady == true
        }
        let pod = try #require(found.pods[first])
        #expect(pod.metadata.uid == "u1")
        #expect(pod.spec.nodeName == "n1")
        #expect(pod.status == PodStatus(phase: .running, podIPs: ["10.0.0.1", "fd00::1"], isReady: true))
        #expect(pod.metadata.annotations == [MeshLabel.redirection: "enabled", "odd": "\"\\\n\u{7}*é"])
        #expect(found.pods.count == 2)
        #expect(found.problems.isEmpty)

        // The pod comes again under its name: what the agent said of the former one no longer holds.
        try kubelet.report(report, for: PodReference(name: first, uid: "u2"))
        let later = try await source.wait { $0.pods[first]?.metadata.uid == "u2" }
        #expect(later.pods[first]?.metadata.annotations == [:])
        try agent.annotate(PodReference(name: first, uid: "u2"), with: [:])
        try kubelet.forget(first)
        try kubelet.forget(first)
        try await source.wait { $0.pods[first]?.spec.nodeName == "" }
        let left = try FileManager.default.contentsOfDirectory(atPath: status.path).sorted()
        #expect(left == ["shop.two.x.kubelet.yaml", "shop.unknown.kubelet.yaml"])
    }

    @Test("a report that is garbage is named and the one before stays")
    func wrongReport() async throws {
        try folder.write("a.yaml", pod("one"))
        let kubelet = try FolderStatusWriter(folder: status.path, reporter: "kubelet")
        try kubelet.report(
            PodRuntimeReport(nodeName: "n1", phase: .running, podIPs: [], isReady: false),
            for: PodReference(name: name("one"), uid: ""))
        let source = try FolderObjectSource(source: folder.path, status: status.path)
        defer { source.close() }
        try status.write("shop.one.kubelet.yaml", "{{{")
        let found = try await source.wait { !$0.problems.isEmpty }
        #expect(found.pods[name("one")]?.spec.nodeName == "n1")
        #expect(found.problems.first?.file == "shop.one.kubelet.yaml")
    }

    @Test("names that lead out of the folder are refused")
    func names() throws {
        #expect(throws: ObjectSourceError.self) { try FolderStatusWriter(folder: status.path, reporter: "../x") }
        let writer = try FolderStatusWriter(folder: status.path, reporter: "agent")
        let bad = PodReference(name: ObjectName(namespace: "..", name: "../../x"), uid: "")
        #expect(throws: ObjectSourceError.self) { try writer.annotate(bad, with: ["a": "b"]) }
        #expect(throws: ObjectSourceError.self) { try writer.forget(bad.name) }
    }

    @Test("a folder that is not there is an error at the start, and later none that empties the mesh")
    func missingFolder() async throws {
        #expect(throws: ObjectSourceError.self) { try FolderObjectSource(source: folder.path + "/none") }
        try folder.write("a.yaml", pod("one"))
        let source = try FolderObjectSource(source: folder.path)
        defer { source.close() }
        let moved = folder.path + ".moved"
        try FileManager.default.moveItem(atPath: folder.path, toPath: moved)
        let found = try await source.wait { !$0.problems.isEmpty }
        #expect(found.pods.count == 1)
        #expect(found.problems.first?.message.contains("last good state") == true)
        try FileManager.default.moveItem(atPath: moved, toPath: folder.path)
        try await source.wait { $0.problems.isEmpty }
        // The folder is a new one for the kernel; the poll has taken up the watch again.
        try folder.write("b.yaml", pod("two"))
        try await source.wait { $0.pods.count == 2 }
    }

    @Test("streams begin with the present state and end when the source is closed")
    func streams() async throws {
        let source = try FolderObjectSource(source: folder.path)
        var iterator = source.snapshots().makeAsyncIterator()
        #expect(await iterator.next()?.version == 1)
        source.close()
        #expect(await iterator.next() == nil)
        var late = source.snapshots().makeAsyncIterator()
        #expect(await late.next() != nil)
        #expect(await late.next() == nil)
    }

    @Test("not more objects than the limit, and said so")
    func tooMany() {
        var contents = FolderContents(label: "src", maximumObjects: 2)
        contents.beginScan()
        let text = (1...3).map { pod("p\($0)") }.joined(separator: "---\n")
        contents.update("a.yaml", DocumentReader.read(Array(text.utf8), file: "a.yaml"))
        let outcome = contents.outcome()
        #expect(outcome.objects.count == 2)
        #expect(outcome.problems.first?.message.contains("more than 2 objects") == true)
    }
}
