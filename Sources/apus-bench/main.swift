import Foundation

// Measures what cannot be seen from outside. Benchmarks/mesh-ingest/run drives it; docs/adr/0008 says why it exists.

let usage = """
    usage: apus-bench encode WORKLOADS SERVICES FILE   write delta responses as a control plane sends them
           apus-bench ingest FILE                      take them in as the client does; prints JSON

    """

do {
    let arguments = CommandLine.arguments.dropFirst()
    switch (arguments.first, arguments.count) {
    case ("encode", 4):
        guard let workloads = Int(arguments[2]), let services = Int(arguments[3]), services > 0, workloads > 0 else {
            throw BenchError("numbers of workloads and services are above 0")
        }
        try SyntheticMesh(workloads: workloads, services: services).write(to: arguments[4])
    case ("ingest", 2):
        print(try MeshIngest(path: arguments[2]).run())
    default:
        throw BenchError(usage)
    }
} catch {
    FileHandle.standardError.write(Data("apus-bench: \(error)\n".utf8))
    exit(1)
}

struct BenchError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
