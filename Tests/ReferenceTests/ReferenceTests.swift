import Foundation
import Testing

/// The pages in docs/reference that are made from the code say what the code says.
@Suite("Reference pages")
struct ReferenceTests {
    @Test("a page is what the program prints", arguments: ["ztunnel", "agent", "metrics"])
    func page(name: String) throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let written = try String(contentsOf: root.appending(path: "docs/reference/\(name).md"), encoding: .utf8)
        let process = Process()
        // The programs lie beside the test bundle, which is the program that runs this.
        let bundle = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        process.executableURL = URL(fileURLWithPath: bundle).deletingLastPathComponent().appending(path: "apus")
        process.arguments = ["reference", name]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let printed = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
        #expect(printed == written, "run: apus reference \(name) > docs/reference/\(name).md")
    }
}
