import Foundation
import Testing

/// The inputs in fuzz/corpus, each once through its parser: those that broke something once, and those that reach far.
@Suite("Fuzzers' corpus")
struct ReplayTests {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("fuzz")

    private static func names(_ path: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder.appendingPathComponent(path).path).sorted()
    }

    @Test("every target has a fuzzer and a corpus, and none is left without a target")
    func complete() throws {
        let targets = FuzzTargets.all.keys.sorted()
        #expect(try Self.names("corpus") == targets)
        #expect(try Self.names("").filter { $0.hasSuffix(".swift") } == targets.map { "\($0).swift" })
    }

    @Test("replay", arguments: FuzzTargets.all.keys.sorted())
    func replay(name: String) throws {
        let run = try #require(FuzzTargets.all[name])
        let files = try Self.names("corpus/\(name)")
        #expect(!files.isEmpty)
        for file in files {
            let bytes = try Data(contentsOf: Self.folder.appendingPathComponent("corpus/\(name)/\(file)"))
            let start = ContinuousClock.now
            // A parser that breaks ends the process here, with the file named above it.
            bytes.withUnsafeBytes { run($0) }
            // And one that takes for ever is as bad.
            #expect(ContinuousClock.now - start < .seconds(5), "\(name)/\(file)")
        }
    }
}
