import ArgumentParser

/// Where the process begins. The data path gives its privileges up here, before anything that could start a thread.
@main
enum Program {
    static func main() async {
        PrivilegeDrop.ifDataPath(CommandLine.arguments)
        NodeView.ifAgent(CommandLine.arguments)
        await Apus.main()
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

/// The version this program was built as.
enum Version {
    static let text = "0.1.0"
}
