import ArgumentParser
import NodeAgent
import Observability
import Ztunnel

/// Prints the reference pages that are made from the code; a test holds the files in docs/reference against them.
struct ReferenceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reference", abstract: "Print a page of docs/reference.", shouldDisplay: false)

    enum Page: String, CaseIterable, ExpressibleByArgument {
        case ztunnel, metrics, agent, dashboard
    }

    @Argument(help: "ztunnel, metrics, agent or dashboard")
    var page: Page

    func run() throws { print(try Self.text(page), terminator: "") }

    static func text(_ page: Page) throws -> String {
        switch page {
        case .dashboard: try Dashboard.text()
        case .ztunnel:
            """
            # apus ztunnel: environment

            Made by `apus reference ztunnel`. The environment wins over `PROXY_CONFIG`, that over the mesh file
            `./etc/istio/config/mesh`, that over the defaults. An empty value counts as not set. Flags are `true` or
            `false`. What cannot be used ends the start with an error that names the variable.

            | variable | default | whose | meaning |
            |---|---|---|---|

            """
                + ZtunnelConfiguration.variables.map {
                    "| `\($0.name)` | \($0.defaultText) | \($0.standing.rawValue) | \($0.meaning) |\n"
                }
                .joined()
                    + """

                    ## Flags

                    ```
                    \(ZtunnelCommand.helpMessage(columns: 100))
                    ```

                    """
        case .agent:
            """
            # apus agent: flags

            Made by `apus reference agent`.

            ```
            \(AgentCommand.helpMessage(columns: 100))
            ```

            """
        case .metrics:
            """
            # Metrics

            Made by `apus reference metrics`. Every counter ends in `_total`. Of Istio's ztunnel metrics those of its runtime
            (`tokio_*`) and of its heap are left out. A connection's opened, closed and byte counters carry the same labels,
            so that `opened - closed` is what is open; how it failed is in `response_flags` of the failed counter. Series of
            pods that are gone go after five minutes ([decision 13](../adr/0013-telemetry-and-own-sockets.md)).

            ## ztunnel, port 15020

            \(table(try ZtunnelMetricsReference.descriptions()))
            ## agent, port 15014

            \(table(try AgentMetricsReference.descriptions()))
            """
        }
    }

    private static func table(_ metrics: [MetricsRegistry.Description]) -> String {
        "| metric | whose | type | labels | meaning |\n|---|---|---|---|---|\n"
            + metrics.map { metric in
                let whose = metric.name.hasPrefix("apus_") ? "ours" : "Istio's"
                let labels = metric.labels.isEmpty ? "-" : metric.labels.map { "`\($0)`" }.joined(separator: ", ")
                return "| `\(metric.name)` | \(whose) | \(metric.type) | \(labels) | \(metric.help) |\n"
            }.joined()
    }
}
