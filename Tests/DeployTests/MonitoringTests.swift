import Foundation
import Testing

/// Dashboard, alerts and documents speak of metrics that there are.
@Suite("Monitoring")
struct MonitoringTests {
    /// By name, as docs/reference/metrics.md has them; ReferenceTests holds that page against the programs.
    private static func metrics() throws -> [String: String] {
        var found: [String: String] = [:]
        for line in try Chart.file("docs/reference/metrics.md").split(separator: "\n") where line.hasPrefix("| `") {
            let fields = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            found[fields[0].trimmingCharacters(in: ["`"])] = fields[2]
        }
        return found
    }

    /// The metrics that an expression or a page names, without the parts of histograms.
    private static func named(in text: String) -> Set<String> {
        let pattern = /\b(?:apus|istio|workload_manager|process)_[a-z0-9_]+[a-z0-9]\b/
        return Set(text.matches(of: pattern).map { String($0.output) })
    }

    private static func unknown(_ names: Set<String>) throws -> Set<String> {
        let metrics = try metrics()
        return names.filter { name in
            let parts = ["_bucket", "_sum", "_count"].filter { name.hasSuffix($0) }.map {
                String(name.dropLast($0.count))
            }
            return metrics[name] == nil && !parts.contains { metrics[$0] == "histogram" }
        }
    }

    @Test func theDashboardIsWhatTheProgramPrints() throws {
        let printed = try Chart.run(Chart.program("apus"), ["reference", "dashboard"])
        #expect(printed.code == 0)
        #expect(try printed.text == Chart.file("deploy/helm/apus/files/dashboard.json"), "run: make manifests")
    }

    @Test func theDashboardShowsEveryMetricAndNoOther() throws {
        let document = try JSONSerialization.jsonObject(
            with: Data(Chart.file("deploy/helm/apus/files/dashboard.json").utf8))
        let panels = Thing(document)["panels"].items.filter { $0["type"].text != "row" }
        #expect(Set(panels.compactMap { $0["title"].text }) == Set(try Self.metrics().keys))
        for panel in panels {
            for target in panel["targets"].items {
                let names = Self.named(in: target["expr"].text ?? "")
                #expect(!names.isEmpty)
                #expect(try Self.unknown(names.subtracting(["instance"])) == [])
            }
        }
        let places = panels.map { "\($0["gridPos", "x"].number ?? -1) \($0["gridPos", "y"].number ?? -1)" }
        #expect(Set(places).count == panels.count)
    }

    @Test func everyAlertWatchesMetricsThatThereAre() throws {
        let rule = try Chart.render(Chart.everything(on: "standard")).one("PrometheusRule", "apus")
        let alerts = rule["spec", "groups"].items.flatMap { $0["rules"].items }
        #expect(alerts.count > 8)
        for alert in alerts {
            let names = Self.named(in: alert["expr"].text ?? "")
            #expect(!names.isEmpty, "\(alert["alert"].text ?? "")")
            #expect(try Self.unknown(names) == [])
            for field in ["summary", "description"] { #expect(alert["annotations", field].text?.isEmpty == false) }
            #expect(["warning", "critical"].contains(alert["labels", "severity"].text))
        }
        let watched = Self.named(in: alerts.compactMap { $0["expr"].text }.joined(separator: " "))
        for name in [
            "apus_certificate_first_expiry_timestamp_seconds", "apus_agent_drift_repairs_total", "apus_agent_pods",
            "apus_xds_connected", "apus_agent_keeper_connected",
        ] { #expect(watched.contains(name)) }
    }

    @Test(arguments: ["docs/operations.md", "docs/platforms.md"])
    func documentsNameMetricsThatThereAre(page: String) throws {
        #expect(try Self.unknown(Self.named(in: Chart.file(page))) == [])
    }

    @Test func prometheusFindsWhatIsServed() throws {
        let objects = try Chart.render()
        let node = objects.one("DaemonSet", "ztunnel")["spec", "template"]
        #expect(node["metadata", "annotations", "prometheus.io/port"].text == "15020")
        #expect(node["metadata", "annotations", "prometheus.io/path"].text == "/stats/prometheus")
        let off = try Chart.render(#"{"monitoring":{"scrapeAnnotations":false}}"#).one("DaemonSet", "ztunnel")
        #expect(!off["spec", "template", "metadata", "annotations"].keys.contains("prometheus.io/scrape"))
    }
}
