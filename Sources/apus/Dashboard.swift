import Foundation
import NodeAgent
import Observability
import Ztunnel

/// A dashboard for Grafana with a panel for every metric that the programs have: made from the same tables as
/// docs/reference/metrics.md, so none is forgotten and none is invented.
struct Dashboard: Encodable {
    struct Source: Encodable {
        var type = "prometheus"
        var uid = "${datasource}"
    }

    struct Target: Encodable {
        var datasource = Source()
        let expr: String
        let legendFormat: String
        let refId: String
    }

    struct Place: Encodable { let h, w, x, y: Int }

    struct Panel: Encodable {
        struct Defaults: Encodable { let unit: String }
        struct FieldConfig: Encodable {
            let defaults: Defaults
            let overrides: [String] = []
        }

        let id: Int
        let type: String
        let title: String
        let description: String
        let gridPos: Place
        let datasource: Source?
        let targets: [Target]?
        let fieldConfig: FieldConfig?
    }

    struct Variable: Encodable {
        let name = "datasource"
        let label = "Data source"
        let type = "datasource"
        let query = "prometheus"
    }

    struct Templating: Encodable { let list = [Variable()] }
    struct Time: Encodable {
        let from = "now-1h"
        let to = "now"
    }

    let uid = "apus"
    let title = "Apus"
    let tags = ["apus", "service-mesh"]
    let schemaVersion = 39
    let editable = true
    let refresh = "30s"
    let time = Time()
    let templating = Templating()
    private(set) var panels: [Panel] = []

    private static let (width, height) = (12, 8)
    private var row = 0

    private enum CodingKeys: String, CodingKey {
        case uid, title, tags, schemaVersion, editable, refresh, time, templating, panels
    }

    init() throws {
        add("ztunnel", try ZtunnelMetricsReference.descriptions())
        add("agent", try AgentMetricsReference.descriptions())
    }

    static func text() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(Dashboard()), as: UTF8.self) + "\n"
    }

    private mutating func add(_ program: String, _ metrics: [MetricsRegistry.Description]) {
        panels.append(
            Panel(
                id: panels.count + 1, type: "row", title: program, description: "",
                gridPos: Place(h: 1, w: 2 * Self.width, x: 0, y: row), datasource: nil, targets: nil, fieldConfig: nil))
        row += 1
        for (index, metric) in metrics.enumerated() {
            let place = Place(
                h: Self.height, w: Self.width, x: index % 2 * Self.width, y: row + index / 2 * Self.height)
            panels.append(Self.panel(metric, id: panels.count + 1, place))
        }
        row += (metrics.count + 1) / 2 * Self.height
    }

    private static func panel(_ metric: MetricsRegistry.Description, id: Int, _ place: Place) -> Panel {
        // Connections have some twenty-five labels; on a page for a whole cluster the side that reports is enough.
        let labels = metric.labels.count > 3 ? metric.labels.filter { $0 == "reporter" } : metric.labels
        let by = labels.isEmpty ? ["instance"] : labels
        let sum = "sum by (\(by.joined(separator: ", ")))"
        let legend = by.map { "{{\($0)}}" }.joined(separator: " ")
        let targets: [Target]
        switch metric.type {
        case .counter:
            targets = [
                Target(expr: "\(sum) (rate(\(metric.name)[$__rate_interval]))", legendFormat: legend, refId: "A")
            ]
        case .histogram:
            targets = zip(["A", "B"], ["0.5", "0.99"]).map { letter, quantile in
                Target(
                    expr:
                        "histogram_quantile(\(quantile), sum by (le) (rate(\(metric.name)_bucket[$__rate_interval])))",
                    legendFormat: quantile, refId: letter)
            }
        default:
            // Moments are shown as the time to or since them.
            let isMoment = metric.name.hasSuffix("_timestamp_seconds")
            let expression = isMoment ? "\(metric.name) - time()" : "\(sum) (\(metric.name))"
            targets = [Target(expr: expression, legendFormat: isMoment ? "{{instance}}" : legend, refId: "A")]
        }
        return Panel(
            id: id, type: "timeseries", title: metric.name, description: metric.help, gridPos: place,
            datasource: Source(), targets: targets, fieldConfig: .init(defaults: .init(unit: unit(metric))))
    }

    private static func unit(_ metric: MetricsRegistry.Description) -> String {
        if metric.name.contains("_seconds") { return "s" }
        let isBytes = metric.name.contains("_bytes")
        if metric.type == .counter { return isBytes ? "Bps" : "cps" }
        return isBytes ? "bytes" : "short"
    }
}
