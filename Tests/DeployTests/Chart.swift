import Foundation

/// A run of scripts/chart, in the environment that scripts/deploy-python makes.
struct Chart {
    struct Run {
        let code: Int32
        let output: Data
        let errors: String
        var text: String { String(decoding: output, as: UTF8.self) }
    }

    /// Values as JSON; an empty object for the chart's own.
    typealias Values = String

    static let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    static let platforms = [
        "standard", "gke", "eks", "aks", "openshift", "k3s", "k3d", "microk8s", "minikube", "kind", "cilium", "calico",
    ]

    /// Everything that can be switched on.
    static func everything(on platform: String) -> Values {
        """
        {"global":{"platform":"\(platform)","networkPolicy":{"enabled":true},"logAsJson":true,"clusterDns":["10.96.0.10"]},
         "crds":{"install":true},"ztunnel":{"peerCaCrl":{"enabled":true}},"agent":{"failClosed":true,"removeTaint":true,
         "ambient":{"enablementSelectors":[{"podSelector":{"matchLabels":{"mesh":"on"}}}]}},
         "resourceQuotas":{"enabled":true},"network":"n1","multiCluster":{"clusterName":"east","enabled":true},
         "meshConfig":{"trustDomainAliases":["old.example","older.example"]},"monitoring":{"podMonitor":{"enabled":true},
         "prometheusRule":{"enabled":true},"dashboard":{"enabled":true}}}
        """
    }

    static func file(_ path: String) throws -> String {
        try String(contentsOf: repository.appending(path: path), encoding: .utf8)
    }

    /// Another program; both its outputs are read to the end, so neither fills up.
    static func run(_ program: String, _ arguments: [String]) throws -> Run {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        process.currentDirectoryURL = repository
        let folder = FileManager.default.temporaryDirectory.appending(path: "apus-chart-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }  // In the machine's temporary files otherwise.
        func open(_ name: String) throws -> FileHandle {
            let file = folder.appending(path: name)
            _ = FileManager.default.createFile(atPath: file.path, contents: nil)
            return try FileHandle(forUpdating: file)
        }
        let (output, errors) = (try open("out"), try open("err"))
        process.standardOutput = output
        process.standardError = errors
        try process.run()
        process.waitUntilExit()
        func read(_ name: String) throws -> Data { try Data(contentsOf: folder.appending(path: name)) }
        return Run(
            code: process.terminationStatus, output: try read("out"),
            errors: String(decoding: try read("err"), as: UTF8.self))
    }

    private static let python: Result<String, any Error> = Result {
        let run = try Chart.run(repository.appending(path: "scripts/deploy-python").path, [])
        guard run.code == 0 else { throw Unusable(description: run.errors) }
        return run.text.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// A program that lies beside that Python.
    static func beside(_ name: String) throws -> String {
        URL(fileURLWithPath: try python.get()).deletingLastPathComponent().appending(path: name).path
    }

    struct Unusable: Error, CustomStringConvertible { let description: String }

    static func chart(_ verb: String, _ values: Values = "{}", namespace: String = "istio-system") throws -> Run {
        try run(python.get(), [repository.appending(path: "scripts/chart").path, verb, values, namespace])
    }

    /// What is rendered.
    /// - Throws: What Helm or a schema says against it.
    static func render(_ values: Values = "{}") throws -> [Thing] {
        let run = try chart("render", values)
        guard run.code == 0 else { throw Unusable(description: run.errors) }
        guard let top = try JSONSerialization.jsonObject(with: run.output) as? [String: Any],
            let objects = top["objects"] as? [Any]
        else { throw Unusable(description: "no list of objects") }
        return objects.map(Thing.init)
    }

    /// The program that lies beside the test bundle.
    static func program(_ name: String) throws -> String {
        let bundle = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        return URL(fileURLWithPath: bundle).deletingLastPathComponent().appending(path: name).path
    }
}

/// A place in a tree of JSON; what is not there is empty.
struct Thing {
    let value: Any?

    init(_ value: Any?) { self.value = value }

    subscript(_ path: String...) -> Thing {
        path.reduce(self) { Thing(($0.value as? [String: Any])?[$1]) }
    }

    var text: String? { value as? String }
    var number: Int? { value as? Int }
    var flag: Bool? { value as? Bool }
    var items: [Thing] { (value as? [Any])?.map(Thing.init) ?? [] }
    var texts: [String] { items.compactMap(\.text) }
    var keys: Set<String> { Set((value as? [String: Any])?.keys.map { $0 } ?? []) }
    var kind: String { self["kind"].text ?? "" }
    var name: String { self["metadata", "name"].text ?? self["name"].text ?? "" }
}

extension [Thing] {
    func named(_ name: String) -> Thing { first { $0.name == name } ?? Thing(nil) }
    func one(_ kind: String, _ name: String) -> Thing { first { $0.kind == kind && $0.name == name } ?? Thing(nil) }
}
