import Addressing
import ArgumentParser
import Controller
import Glibc
import LinuxNetwork
import Logging
import Observability

/// The control plane.
struct ControllerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "controller",
        abstract: "The control plane: turns objects into mesh resources, serves them and certificates to ztunnels.",
        discussion: """
            Serves delta xDS and Istio's certificate service on one TLS port. Keeps the mesh's root key, the key of node \
            tokens and token.sock, where agents get tokens, in the state directory.
            """)

    @Option(help: "Folder with the objects a user writes.")
    var source: String

    @Option(help: "Folder with what nodes report.")
    var status: String

    @Option(help: "Directory for keys and token.sock; made with mode 0700, refused inside the source.")
    var state: String

    @Option(help: "Where discovery and certificates are served.")
    var listen = "127.0.0.1:15012"

    @Option(help: "Where metrics, readiness and /debug/resources are served; nowhere when not given.")
    var adminAddress: String?

    @Option(help: "The mesh's trust domain.")
    var trustDomain = "cluster.local"

    @Flag(help: "A deny rule that asks for HTTP attributes denies all that the rest of it says, not nothing.")
    var strictL7Deny = false

    @Flag(help: "Workloads and services with a waypoint take connections from it alone.")
    var allowWaypointsOnly = false

    @Option(help: "Configuration labelled istio.io/rev with another revision is not read.")
    var revision = "default"

    @Option(help: "text or json")
    var logFormat = "text"

    func validate() throws {
        guard Endpoint(listen) != nil else {
            throw ValidationError("--listen \(listen): expected an address and port")
        }
        if let adminAddress, Endpoint(adminAddress) == nil {
            throw ValidationError("--admin-address \(adminAddress): expected an address and port")
        }
        guard LogFormat(rawValue: logFormat) != nil else {
            throw ValidationError("--log-format \(logFormat): expected text or json")
        }
    }

    func run() async throws {
        let logs = try LogOutput.bootstrap(format: LogFormat(rawValue: logFormat) ?? .text, sink: .standardOutput)
        let logger = Logger(label: "controller")
        raiseDescriptorLimit()
        do {
            try await serve(logger)
        } catch is CancellationError {
            // The way out that a signal asks for.
        } catch {
            logger.critical("the controller cannot run", metadata: ["error": "\(error)"])
            logs.close()
            throw ExitCode(1)
        }
        logs.close()
    }

    private func serve(_ logger: Logger) async throws {
        guard let listen = Endpoint(listen) else { return }
        var settings = ControllerSettings(
            source: source, status: status, state: state, listen: listen, admin: adminAddress.flatMap { Endpoint($0) })
        settings.mesh.trustDomain = trustDomain
        settings.mesh.strictL7Deny = strictL7Deny
        settings.mesh.allowsWaypointsOnly = allowWaypointsOnly
        settings.mesh.revision = revision
        let (signals, continuation) = AsyncStream.makeStream(of: CInt.self, bufferingPolicy: .bufferingNewest(4))
        let sources = Signals.deliver([SIGTERM, SIGINT]) { continuation.yield($0) }
        let controller = try await ControllerServer(settings, logger: logger)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await controller.run() }
            group.addTask {
                for await _ in signals { throw CancellationError() }
            }
            defer { group.cancelAll() }
            _ = try await group.next()
        }
        withExtendedLifetime(sources) {}
    }
}
