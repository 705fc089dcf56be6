import Foundation
import Glibc
import Testing

@testable import ObjectSource

/// A folder is read by what has changed in it; what comes out must be what a look at everything comes to.
@Suite("Changes of folders")
struct FolderChangesTests {
    private let source = try? TemporaryFolder()
    private let status = try? TemporaryFolder()

    private static func pod(_ name: String, _ label: Int) -> String {
        "apiVersion: v1\nkind: Pod\nmetadata: {name: \(name), namespace: shop, uid: u-\(name), labels: {turn: \"\(label)\"}}\n"
    }

    private static func report(_ name: String, _ turn: Int) -> String {
        let annotations = "annotations: {turn: \"\(turn)\"}"
        return "apiVersion: v1\nkind: Pod\nmetadata: {name: \(name), namespace: shop, uid: u-\(name), \(annotations)}\n"
    }

    @Test("after any change the snapshot is that of a look at everything", arguments: 0..<8)
    func sameAsEverything(seed: Int) throws {
        let (source, status) = (try #require(source), try #require(status))
        var random = SplitMix(state: UInt64(seed))
        var reader = FolderReader(source: source.path, status: status.path)
        _ = reader.scan(settle: false)
        _ = reader.snapshot()
        for turn in 0..<60 {
            var news = FolderWatch.News()
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let pod = "p\(Int.random(in: 0..<6, using: &random))"
                let (folder, name, text) = try #require(
                    [
                        (source, "\(pod).yaml", Self.pod(pod, turn)),
                        (source, "\(pod).yaml", "kind: [\n"),
                        (source, "\(pod).yaml", nil),
                        (source, "all.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: ns\(turn % 3)}\n"),
                        (source, "\(pod).yaml", Self.pod(pod, turn)),
                        (status, "shop.\(pod).agent.yaml", Self.report(pod, turn)),
                        (status, "shop.\(pod).kubelet.yaml", Self.report(pod, turn)),
                        (status, "shop.\(pod).agent.yaml", nil),
                    ].randomElement(using: &random))
                if let text {
                    try folder.write(name, text)
                } else {
                    // It need not be there.
                    unlink("\(folder.path)/\(name)")
                }
                news.touched[folder.path, default: []].insert(name)
                news.arrived[folder.path, default: []].insert(name)
            }
            let outcome = reader.scan(news)
            #expect(!outcome.unsettled)
            let snapshot = reader.snapshot()
            var fresh = FolderReader(source: source.path, status: status.path)
            _ = fresh.scan(settle: false)
            // A wrong file keeps its last good objects, which a reader that has just begun has never seen.
            guard snapshot.problems.isEmpty else { continue }
            let everything = fresh.snapshot()
            #expect(snapshot.hasSameContent(as: everything), "turn \(turn)")
        }
    }

    @Test("an object that two files define is found out, and again when one of them lets it go")
    func twoDefinitions() throws {
        let source = try #require(source)
        var reader = FolderReader(source: source.path, status: nil)
        func look(_ names: Set<String>) -> ObjectSnapshot {
            _ = reader.scan(FolderWatch.News(arrived: [source.path: names], touched: [source.path: names]))
            return reader.snapshot()
        }
        try source.write("a.yaml", Self.pod("one", 1))
        #expect(look(["a.yaml"]).problems.isEmpty)
        try source.write("b.yaml", Self.pod("one", 2))
        let both = look(["b.yaml"])
        let name = ObjectName(namespace: "shop", name: "one")
        #expect(both.problems.count == 1 && both.pods[name]?.metadata.labels == ["turn": "1"])
        unlink(source.path + "/a.yaml")
        let second = look(["a.yaml"])
        #expect(second.problems.isEmpty && second.pods[name]?.metadata.labels == ["turn": "2"])
        try source.write("b.yaml", Self.pod("one", 3))
        #expect(look(["b.yaml"]).pods[name]?.metadata.labels == ["turn": "3"])
    }

    @Test("what nobody reads is no change; a link that files may lead over is")
    func relevance() throws {
        let (source, status) = (try #require(source), try #require(status))
        let reader = FolderReader(source: source.path, status: status.path)
        func relevant(_ folder: TemporaryFolder, _ name: String) -> FolderWatch.News? {
            reader.relevant(FolderWatch.News(touched: [folder.path: [name]]))
        }
        try source.write(".a.yaml.swp", "x")
        try source.write("a.yaml.new", "x")
        symlink("/nowhere", source.path + "/..data")
        #expect(relevant(source, "a.yaml.new") == nil)
        #expect(relevant(source, "gone.new") == nil)
        #expect(relevant(status, ".agent.XyZ123") == nil)
        #expect(relevant(source, "a.yaml")?.touched == [source.path: ["a.yaml"]])
        #expect(relevant(status, "shop.web.agent.yaml")?.isVague == false)
        #expect(relevant(source, "..data")?.isVague == true)
        #expect(reader.relevant(FolderWatch.News(isVague: true))?.isVague == true)
    }

    @Test("files that are gone are gone, unless it is the folder that is")
    func folderGone() throws {
        let source = try #require(source)
        var scanner = FolderScanner(path: source.path, label: "src", maximumFiles: 10) { $0.hasSuffix(".yaml") }
        for name in ["a.yaml", "b.yaml"] { try source.write(name, Self.pod("p", 1)) }
        #expect(scanner.scan(settle: false).changed.count == 2)
        try source.remove("a.yaml")
        #expect(scanner.scan(touched: ["a.yaml"], arrived: []).removed == ["a.yaml"])
        try FileManager.default.removeItem(atPath: source.path)
        let gone = scanner.scan(touched: ["b.yaml"], arrived: [])
        #expect(gone.removed.isEmpty && gone.folderProblem != nil)
    }

    @Test("a link that is led elsewhere, as a mounted ConfigMap's, is seen as soon as a file's change")
    func linked() async throws {
        let folder = try #require(source)
        for (version, turn) in [("v1", 1), ("v2", 2)] {
            mkdir("\(folder.path)/..\(version)", 0o755)
            try folder.write("..\(version)/a.yaml", Self.pod("one", turn))
        }
        symlink("..v1", folder.path + "/..data")
        symlink("..data/a.yaml", folder.path + "/a.yaml")
        let source = try FolderObjectSource(source: folder.path)
        defer { source.close() }
        let name = ObjectName(namespace: "shop", name: "one")
        #expect(source.snapshot().pods[name]?.metadata.labels == ["turn": "1"])
        symlink("..v2", folder.path + "/..next")
        rename(folder.path + "/..next", folder.path + "/..data")
        try await source.wait { $0.pods[name]?.metadata.labels == ["turn": "2"] }
    }
}

/// The same numbers for the same seed (splitmix64).
private struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
