/// What `apus demo run` found out.
public struct DemoReport: Codable, Sendable, Hashable {
    public struct Scene: Codable, Sendable, Hashable {
        public var id: Int
        public var title: String
        public var passed: Bool
        /// The line that proves it, or what went wrong.
        public var proof: String
        public var seconds: Double

        public init(id: Int, title: String, passed: Bool, proof: String, seconds: Double) {
            self.id = id
            self.title = title
            self.passed = passed
            self.proof = proof
            self.seconds = seconds
        }
    }

    public var scenes: [Scene]

    public init(scenes: [Scene] = []) { self.scenes = scenes }

    /// Whether every scene was played and held.
    public var allPassed: Bool { scenes.count == Demo.titles.count && scenes.allSatisfy(\.passed) }
}

extension DemoReport.Scene {
    /// Two lines for a terminal.
    public var text: String {
        let verdict = passed ? "passed" : "FAILED"
        // One decimal, without a formatter.
        let tenths = Int((seconds * 10).rounded())
        return "\(id). \(title): \(verdict) (\(tenths / 10).\(tenths % 10) s)\n   \(proof)"
    }
}
