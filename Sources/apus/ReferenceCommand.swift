import ArgumentParser
import NodeAgent
import Observability
import Ztunnel

/// Prints the reference pages that are made from the code; a test holds the files in docs/reference against them.
struct ReferenceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reference", abstract: "Print a page of docs/reference.", shouldDisplay: false)

    enum Page: String, CaseIterable, ExpressibleByArgument {
        case ztunnel, metrics, agent
    }

    @Argument(help: "ztunnel, metrics or agent")
    var page: Page

    func run() throws { print(try Self.text(page), terminator: "") }

    static func text(_ page: Page) throws -> String {
        switch page {
        case .ztunnel:
            """
            # apus ztunnel: environment

            Made by `apus reference ztunnel`. Names that begin with `APUS_` are ours; the others are Istio's.

            | variable | default | meaning |
            |---|---|---|

            """
                + ZtunnelConfiguration.variables.map { "| `\($0.name)` | \($0.defaultText) | \($0.meaning) |\n" }
                .joined()
                    + """
                    | `RUST_LOG` | info | log levels: `info`, or `target=level` separated by commas |

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

            Made by `apus reference metrics`. Every counter ends in `_total`.

            ## ztunnel, port 15020

            \(table(try ZtunnelMetricsReference.descriptions()))
            ## agent, port 15014

            \(table(try AgentMetricsReference.descriptions()))
            """
        }
    }

    private static func table(_ metrics: [MetricsRegistry.Description]) -> String {
        "| metric | type | labels | meaning |\n|---|---|---|---|\n"
            + metrics.map { metric in
                let labels = metric.labels.isEmpty ? "-" : metric.labels.map { "`\($0)`" }.joined(separator: ", ")
                return "| `\(metric.name)` | \(metric.type) | \(labels) | \(metric.help) |\n"
            }.joined()
    }
}
