import Foundation
import Glibc
import Testing

@testable import ObjectSource

@Suite("Events in the status folder")
struct FolderEventsTests {
    @Test("an event is a whole object in a file of its own; the same again replaces it, and old ones go")
    func record() throws {
        let folder = try TemporaryFolder()
        let writer = try FolderStatusWriter(folder: folder.path, reporter: "agent")
        func event(_ name: String, _ message: String) -> PodEvent {
            PodEvent(
                PodReference(name: ObjectName(namespace: "shop", name: name), uid: "u-1"),
                reason: "StartedOutsideMesh", message: message)
        }
        try writer.record(event("web", "first"))
        try writer.record(event("web", "he said \"no\"\nand left"))
        let events = folder.path + "/events"
        let path = events + "/shop.web.startedoutsidemesh.yaml"
        #expect(try FileManager.default.contentsOfDirectory(atPath: events) == ["shop.web.startedoutsidemesh.yaml"])
        let text = try String(contentsOfFile: path, encoding: .utf8)
        for line in [
            "kind: Event", "  kind: Pod", "  uid: \"u-1\"", "reason: \"StartedOutsideMesh\"", "type: Warning",
            #"message: "he said \"no\"\nand left""#, "  component: \"apus-agent\"",
        ] { #expect(text.split(separator: "\n").contains(Substring(line)), "\(line)") }

        var old = [timespec(tv_sec: 1, tv_nsec: 0), timespec(tv_sec: 1, tv_nsec: 0)]
        #expect(utimensat(AT_FDCWD, path, &old, 0) == 0)
        // Old ones are looked for once in a while, and by a writer that has just begun.
        try FolderStatusWriter(folder: folder.path, reporter: "agent").record(event("other", "x"))
        #expect(try FileManager.default.contentsOfDirectory(atPath: events) == ["shop.other.startedoutsidemesh.yaml"])
        #expect(throws: ObjectSourceError.self) { try writer.record(event("../x", "x")) }
    }
}
