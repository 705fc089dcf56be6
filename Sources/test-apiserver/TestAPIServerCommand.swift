import ArgumentParser
import Dispatch
import Foundation
import Glibc
import TestAPIServer

/// Serves until it is stopped.
@main
struct TestAPIServerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "test-apiserver",
        abstract: "A Kubernetes API server for tests: in memory, without controllers, scheduler or kubelets.",
        discussion: "It writes a kubeconfig, prints its URL, and serves until SIGINT or SIGTERM.")

    @Option(help: "The file to write the kubeconfig to, readable by its owner alone.")
    var kubeconfig: String

    @Option(help: "The address to listen at.")
    var host = "127.0.0.1"

    @Option(help: "The port to listen at; 0 takes a free one.")
    var port = 0

    @Option(
        name: .customLong("name"),
        help: "Another name or address for the server's certificate; may be given more than once.")
    var names: [String] = []

    @Flag(help: "The kubeconfig comes with a client certificate instead of a token.")
    var clientCertificate = false

    @Flag(help: "Roles and bindings decide what service accounts may do.")
    var roles = false

    @Option(help: "Bookmarks come so often, in milliseconds.")
    var bookmarks = 5000

    func validate() throws {
        guard (0...65_535).contains(port) else { throw ValidationError("--port \(port): expected 0 to 65535") }
        guard (10...3_600_000).contains(bookmarks) else {
            throw ValidationError("--bookmarks \(bookmarks): expected 10 to 3600000 milliseconds")
        }
    }

    func run() async throws {
        var settings = TestAPIServer.Settings()
        settings.host = host
        settings.port = port
        settings.names = names
        settings.enforcesRoles = roles
        settings.bookmarkInterval = .milliseconds(bookmarks)
        let (signals, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        signal(SIGPIPE, SIG_IGN)
        let sources = [SIGTERM, SIGINT].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { continuation.yield() }
            source.activate()
            return source
        }
        let server = try await TestAPIServer.start(settings)
        try write(server.kubeconfig(clientCertificate ? .adminCertificate : .admin))
        print("serving at \(server.url)")
        // Also into a pipe at once.
        fflush(nil)
        for await _ in signals { break }
        await server.stop()
        withExtendedLifetime(sources) {}
    }

    /// By another name and a rename, so that nobody reads half of it.
    private func write(_ text: String) throws {
        let draft = kubeconfig + ".new"
        let made = FileManager.default.createFile(
            atPath: draft, contents: Data(text.utf8), attributes: [.posixPermissions: 0o600])
        guard made, rename(draft, kubeconfig) == 0 else {
            throw ValidationError(
                "--kubeconfig \(kubeconfig): the file cannot be written: \(String(cString: strerror(errno)))")
        }
    }
}
