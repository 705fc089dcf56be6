import Crypto
import Foundation

@testable import LocalCluster

/// The image of the test's containers, made by hand: one static program in one layer, under two names.
enum RuntimeImage {
    /// What the runtime holds a sandbox with.
    static let sandbox = "docker.io/local/sandbox:1"
    /// What connects before it does anything else.
    static let first = "docker.io/local/first:1"

    private static let program = "/first"

    /// Compiles the program and packs it.
    /// - Parameter folder: an empty one to work in.
    /// - Returns: The path of an archive with an OCI image layout.
    static func build(in folder: String) throws -> String {
        let root = "\(folder)/root"
        let layout = Layout(folder: "\(folder)/layout")
        for path in [root, layout.blobs] { try Files.makeFolder(path) }
        guard let source = Bundle.module.path(forResource: "first", ofType: "c", inDirectory: "Resources") else {
            throw LocalClusterError(.environment, "the program of the test's image is missing from its resources")
        }
        try Command.run("gcc", "-static", "-Os", "-s", "-Wall", "-Werror", "-o", "\(root)\(program)", source)

        let archive = "\(folder)/layer.tar"
        try pack(root, into: archive)
        let bytes = try Data(contentsOf: URL(fileURLWithPath: archive))
        let layer = try layout.add(bytes, type: "application/vnd.oci.image.layer.v1.tar")
        let config = try layout.add(
            json(
                Config(
                    architecture: architecture, os: "linux", config: .init(Entrypoint: [program], WorkingDir: "/"),
                    rootfs: .init(type: "layers", diff_ids: [layer.digest]))),
            type: "application/vnd.oci.image.config.v1+json")
        let manifest = try layout.add(
            json(Manifest(schemaVersion: 2, config: config, layers: [layer])),
            type: "application/vnd.oci.image.manifest.v1+json")
        let names = [sandbox, first].map { name in
            var named = manifest
            named.annotations = ["io.containerd.image.name": name]
            return named
        }
        try layout.put("index.json", json(Index(schemaVersion: 2, manifests: names)))
        try layout.put("oci-layout", Data(#"{"imageLayoutVersion":"1.0.0"}"#.utf8))

        let image = "\(folder)/image.tar"
        try pack(layout.folder, into: image)
        return image
    }

    private static func pack(_ folder: String, into archive: String) throws {
        try Command.run("tar", "--create", "--owner=0", "--group=0", "--file", archive, "--directory", folder, ".")
    }

    private static func json(_ value: some Encodable) throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return try encoder.encode(value)
    }

    /// As the image specification names it.
    private static var architecture: String {
        #if arch(arm64)
        "arm64"
        #else
        "amd64"
        #endif
    }
}

/// A folder as the OCI image layout has it: every blob under its digest.
private struct Layout {
    let folder: String
    var blobs: String { "\(folder)/blobs/sha256" }

    func add(_ data: Data, type: String) throws -> Descriptor {
        let hash = SHA256.hash(data: data).map { byte in
            let digits = String(byte, radix: 16)
            return digits.count == 1 ? "0" + digits : digits
        }.joined()
        try data.write(to: URL(fileURLWithPath: "\(blobs)/\(hash)"))
        return Descriptor(mediaType: type, digest: "sha256:\(hash)", size: data.count)
    }

    func put(_ name: String, _ data: Data) throws { try data.write(to: URL(fileURLWithPath: "\(folder)/\(name)")) }
}

// MARK: The specification's documents, with its names

private struct Descriptor: Encodable {
    var mediaType: String
    var digest: String
    var size: Int
    var annotations: [String: String]?
}

private struct Index: Encodable {
    var schemaVersion: Int
    var manifests: [Descriptor]
}

private struct Manifest: Encodable {
    var schemaVersion: Int
    var config: Descriptor
    var layers: [Descriptor]
}

private struct Config: Encodable {
    struct Process: Encodable {
        var Entrypoint: [String]
        var WorkingDir: String
    }
    struct RootFileSystem: Encodable {
        var type: String
        var diff_ids: [String]
    }
    var architecture: String
    var os: String
    var config: Process
    var rootfs: RootFileSystem
}
