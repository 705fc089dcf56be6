import Foundation

// Measures what cannot be seen from outside. Benchmarks/mesh-ingest/run drives it; docs/adr/0008 says why it exists.

let usage = """
    usage: apus-bench encode WORKLOADS SERVICES FILE   write delta responses as a control plane sends them
           apus-bench ingest FILE                      take them in as the client does; prints JSON
           apus-bench controller PODS SERVICES FOLDER  a controller over a made-up cluster; reads commands
           apus-bench subscribers ADDRESS ROOT TOKEN COUNT   so many ztunnels that connect to it; reads commands

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
    case ("controller", 4):
        guard let pods = Int(arguments[2]), let services = Int(arguments[3]), services > 0, pods > 0 else {
            throw BenchError("numbers of pods and services are above 0")
        }
        try await ControllerLoad(pods: pods, services: services, folder: arguments[4]).run()
    case ("subscribers", 5):
        guard let count = Int(arguments[5]), count > 0 else {
            throw BenchError("the number of subscribers is above 0")
        }
        try await Subscribers(address: arguments[2], root: arguments[3], token: arguments[4], count: count).run()
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
