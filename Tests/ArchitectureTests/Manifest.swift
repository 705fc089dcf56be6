import Foundation

/// What `swift package dump-package` says about the targets.
struct Manifest: Decodable {
    let targets: [Target]

    struct Target: Decodable {
        let name: String
        let type: String
        let dependencies: [Dependency]

        var isTest: Bool { type == "test" }
        /// Names of targets of this package.
        var targetDependencies: [String] {
            dependencies.compactMap { if case .target(let name) = $0 { name } else { nil } }
        }
        /// Names of products of other packages.
        var products: [String] {
            dependencies.compactMap { if case .product(let name) = $0 { name } else { nil } }
        }
    }

    enum Dependency: Decodable {
        case target(String)
        case product(String)

        private enum Key: String, CodingKey { case byName, target, product }

        init(from decoder: any Decoder) throws {
            let box = try decoder.container(keyedBy: Key.self)
            // Each is an array of name, package and conditions, of mixed types; the name comes first.
            if box.contains(.product) {
                var values = try box.nestedUnkeyedContainer(forKey: .product)
                self = .product(try values.decode(String.self))
            } else {
                var values = try box.nestedUnkeyedContainer(forKey: box.contains(.target) ? .target : .byName)
                self = .target(try values.decode(String.self))
            }
        }
    }

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    /// Asks the package manager, with a scratch folder of its own: the usual one is locked by the test run itself.
    static func load() throws -> Manifest {
        let scratch = FileManager.default.temporaryDirectory
            .appendingPathComponent("apus-manifest-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: scratch) }  // a temporary folder; the system clears it too
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["swift", "package", "--scratch-path", scratch.path, "dump-package"]
        process.currentDirectoryURL = Repository.root
        let output = Pipe()
        let errors = Pipe()
        process.standardOutput = output
        process.standardError = errors
        try process.run()
        let text = output.fileHandleForReading.readDataToEndOfFile()
        let complaint = errors.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw Failure(description: String(decoding: complaint, as: UTF8.self))
        }
        return try JSONDecoder().decode(Manifest.self, from: text)
    }
}
