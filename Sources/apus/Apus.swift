import ArgumentParser

/// Where the process begins. The data path gives its privileges up here, before anything that could start a thread.
@main
enum Program {
    static func main() async {
        PrivilegeDrop.ifDataPath(CommandLine.arguments)
        NodeView.ifAgent(CommandLine.arguments)
        await Apus.start(Array(CommandLine.arguments.dropFirst()))
    }
}

/// The root of the command line.
struct Apus: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apus",
        abstract: "A service mesh without sidecars: mutual TLS, L4 policy and telemetry for labelled namespaces.",
        version: Version.text,
        subcommands: [
            ReferenceCommand.self, ControllerCommand.self, AgentCommand.self, ZtunnelCommand.self, DemoCommand.self,
            LocalCommand.self, RedirectCommand.self, CheckCommand.self,
        ])
}

extension Apus {
    /// The long-running roles, which a node waits for when it comes up.
    private static let roles: [any AsyncParsableCommand.Type] = [
        AgentCommand.self, ControllerCommand.self, ZtunnelCommand.self,
    ]

    /// Runs what the command line says.
    ///
    /// A role is read by its own command alone: the root's would look at every command there is first. Whatever is not
    /// plainly a role's command line (a mistake, a question for help) goes the root's way, which has the words for it.
    static func start(_ arguments: [String]) async {
        guard let role = roles.first(where: { $0.configuration.commandName == arguments.first }),
            var command = try? role.parseAsRoot(Array(arguments.dropFirst())) as? any AsyncParsableCommand,
            type(of: command) == role
        else { return await main(arguments) }
        do { try await command.run() } catch { exit(withError: error) }
    }
}

/// The version this program was built as.
enum Version {
    static let text = "0.1.0"
}
