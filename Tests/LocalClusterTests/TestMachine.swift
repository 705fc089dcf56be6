import Foundation
import LocalCluster

/// Where this test runs and what was built beside it.
enum TestMachine {
    static func repository(_ path: String) -> String {
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent(path).path
    }

    /// The programs of the same build: they are in the folder of the test program.
    static func programs() throws -> Programs { try Programs() }
}
