import Testing

@testable import Observability

@Suite("Metrics")
struct MetricsTests {
    @Test("exposition of each type, in the order of registration and of label values")
    func golden() throws {
        let registry = MetricsRegistry()
        let opened = try registry.counter(
            "istio_tcp_connections_opened_total", "Opened.", labels: ["reporter", "zone"])
        let open = try registry.gauge("sockets_open", "Open now.")
        _ = try registry.counter("never", "Without series.", labels: ["a"])
        let waits = try registry.histogram("wait_seconds", "Waits.", buckets: [0.001, 1, 5], labels: ["kind"])
        try registry.gauge("process_open_fds", "Descriptors.") { 17 }
        try registry.gauge("unreadable", "Cannot be read now.") { nil }
        opened.with(["source", "z1"]).add(2)
        opened.with(["destination", ""]).increment()
        opened.with(["source", "z1"]).increment()
        open.single.set(-3)
        for value in [0.0005, 0.001, 2, 9] { waits.with(["dns"]).observe(value) }
        #expect(
            registry.exposition() == """
                # HELP istio_tcp_connections_opened Opened.
                # TYPE istio_tcp_connections_opened counter
                istio_tcp_connections_opened_total{reporter="destination"} 1
                istio_tcp_connections_opened_total{reporter="source",zone="z1"} 3
                # HELP sockets_open Open now.
                # TYPE sockets_open gauge
                sockets_open -3
                # HELP wait_seconds Waits.
                # TYPE wait_seconds histogram
                wait_seconds_bucket{kind="dns",le="0.001"} 2
                wait_seconds_bucket{kind="dns",le="1.0"} 2
                wait_seconds_bucket{kind="dns",le="5.0"} 3
                wait_seconds_bucket{kind="dns",le="+Inf"} 4
                wait_seconds_sum{kind="dns"} 11.0015
                wait_seconds_count{kind="dns"} 4
                # HELP process_open_fds Descriptors.
                # TYPE process_open_fds gauge
                process_open_fds 17.0
                # EOF

                """)
    }

    @Test("a counter that something else keeps")
    func readCounter() throws {
        let registry = MetricsRegistry()
        try registry.counter("lost_lines", "Lines.") { 7 }
        #expect(
            registry.exposition()
                == "# HELP lost_lines Lines.\n# TYPE lost_lines counter\nlost_lines_total 7\n# EOF\n")
        #expect(registry.describe().map(\.name) == ["lost_lines_total"])
    }

    @Test("one series goes, the others stay")
    func removeOne() throws {
        let registry = MetricsRegistry()
        let family = try registry.counter("a", "A.", labels: ["l"])
        family.with(["1"]).increment()
        family.with(["2"]).increment()
        #expect(family.remove(["1"]) && !family.remove(["1"]))
        #expect(family.seriesCount == 1)
    }

    @Test("nothing registered, or nothing counted, is the end mark alone")
    func empty() throws {
        let registry = MetricsRegistry()
        #expect(registry.exposition() == "# EOF\n")
        _ = try registry.counter("a", "A", labels: ["x"])
        #expect(registry.exposition() == "# EOF\n")
    }

    @Test("quotes, backslashes and line ends are escaped; other characters stay")
    func escaping() throws {
        let registry = MetricsRegistry()
        let family = try registry.counter("a", "back\\slash \"quote\"\nline", labels: ["x"])
        family.with(["\\ \" \n é"]).add(1)
        #expect(
            registry.exposition()
                == "# HELP a back\\\\slash \\\"quote\\\"\\nline\n# TYPE a counter\n"
                + "a_total{x=\"\\\\ \\\" \\n é\"} 1\n# EOF\n")
    }

    @Test("special numbers")
    func numbers() throws {
        let registry = MetricsRegistry()
        try registry.gauge("a", "a") { .infinity }
        try registry.gauge("b", "b") { -.infinity }
        try registry.gauge("c", "c") { .nan }
        #expect(registry.exposition().contains("\na +Inf\n"))
        #expect(registry.exposition().contains("\nb -Inf\n"))
        #expect(registry.exposition().contains("\nc NaN\n"))
    }

    @Test("a name is given once, over all types and with every suffix a sample may have")
    func duplicates() throws {
        let registry = MetricsRegistry()
        _ = try registry.counter("a_total", "a")
        _ = try registry.histogram("h", "h", buckets: [1])
        func refused(_ body: () throws -> Void) {
            #expect {
                try body()
            } throws: {
                ($0 as? MetricsError)?.code == .duplicateName
            }
        }
        refused { _ = try registry.counter("a", "a") }
        refused { _ = try registry.gauge("a", "a") }
        refused { _ = try registry.gauge("a_total", "a") }
        refused { _ = try registry.gauge("h_count", "h") }
        refused { try registry.gauge("h", "h") { 1 } }
        #expect(registry.describe().map(\.name) == ["a_total", "h"])
    }

    @Test("names and labels that Prometheus would not take are refused", arguments: ["", "1a", "a-b", "a b", "é"])
    func badNames(_ name: String) throws {
        let registry = MetricsRegistry()
        #expect(throws: MetricsError.self) { try registry.counter(name, "") }
        #expect(throws: MetricsError.self) { try registry.counter("a", "", labels: [name]) }
        #expect(throws: MetricsError.self) { try registry.counter("a", "", labels: ["x", "x"]) }
        #expect(throws: MetricsError.self) { try registry.counter("a", "", labels: ["__x"]) }
        #expect(throws: MetricsError.self) { try registry.histogram("a", "", buckets: [1], labels: ["le"]) }
        #expect(throws: MetricsError.self) { try registry.histogram("a", "", buckets: [2, 1]) }
        #expect(throws: MetricsError.self) { try registry.histogram("a", "", buckets: []) }
        _ = try registry.counter("a", "")
    }

    @Test("what there is, for the reference table")
    func describe() throws {
        let registry = MetricsRegistry()
        _ = try registry.counter("c", "Counts.", labels: ["x", "y"])
        _ = try registry.gauge("g", "Gauges.")
        #expect(
            registry.describe() == [
                .init(name: "c_total", type: .counter, labels: ["x", "y"], help: "Counts."),
                .init(name: "g", type: .gauge, labels: [], help: "Gauges."),
            ])
    }

    @Test("one handle for one set of values")
    func handles() throws {
        let family = try MetricsRegistry().counter("c", "", labels: ["x"])
        #expect(family.with(["a"]) === family.with(["a"]))
        #expect(family.with(["a"]) !== family.with(["b"]))
        #expect(family.seriesCount == 2)
    }

    @Test("removed series are gone, a handle kept counts unseen, and a new one begins at zero")
    func eviction() throws {
        let registry = MetricsRegistry()
        let family = try registry.counter("c", "", labels: ["pod", "kind"])
        let index = try #require(family.index(ofLabel: "pod"))
        let kept = family.with(["gone", "x"])
        kept.add(5)
        family.with(["gone", "y"]).add(1)
        family.with(["here", "x"]).add(7)
        #expect(family.remove { $0[index] == "gone" } == 2)
        kept.add(1)
        #expect(registry.exposition().split(separator: "\n").count { $0.hasPrefix("c_total") } == 1)
        #expect(family.with(["gone", "x"]).value == 0)
        #expect(kept.value == 6)
    }

    @Test("no more series than the bound, and those refused are counted")
    func bound() throws {
        let registry = MetricsRegistry()
        let family = try registry.counter("c", "", labels: ["x"], maximumSeries: 3)
        for number in 0..<10 { family.with(["\(number)"]).add(1) }
        #expect(family.seriesCount == 3 && family.refusedSeries == 7)
        family.with(["0"]).add(1)
        #expect(family.refusedSeries == 7)
    }

    @Test("nothing is lost when many count at once, while others scrape and look up")
    func concurrency() async throws {
        let registry = MetricsRegistry()
        let counter = try registry.counter("c", "", labels: ["x"])
        let gauge = try registry.gauge("g", "")
        let histogram = try registry.histogram("h", "", buckets: [1])
        await withTaskGroup(of: Void.self) { group in
            for task in 0..<8 {
                group.addTask {
                    let own = counter.with(["\(task % 2)"])
                    for step in 0..<5000 {
                        own.add(1)
                        counter.with(["shared"]).add(2)
                        gauge.single.add(step % 2 == 0 ? 1 : -1)
                        if step % 10 == 0 { histogram.single.observe(0.5) }
                    }
                }
            }
            group.addTask {
                for _ in 0..<50 { #expect(registry.exposition().hasSuffix("# EOF\n")) }
            }
        }
        #expect(counter.with(["0"]).value == 20000 && counter.with(["1"]).value == 20000)
        #expect(counter.with(["shared"]).value == 80000)
        #expect(gauge.single.value == 0)
        #expect(registry.exposition().contains("h_count 4000\n"))
    }
}

@Suite("Readiness")
struct ReadinessTests {
    @Test("ready once every task is done, each counted for itself")
    func tasks() {
        let readiness = Readiness()
        #expect(readiness.isReady)
        let proxy = readiness.pending("proxy")
        let first = readiness.pending("state manager")
        let second = readiness.pending("state manager")
        #expect(readiness.pendingTasks == ["proxy", "state manager"])
        proxy.done()
        proxy.done()
        first.done()
        first.done()
        #expect(readiness.pendingTasks == ["state manager"] && !readiness.isReady)
        second.done()
        #expect(readiness.isReady)
    }

    @Test("a task that is let go is still pending")
    func forgotten() {
        let readiness = Readiness()
        _ = readiness.pending("proxy")
        #expect(!readiness.isReady)
    }
}

@Suite("Timestamps")
struct TimestampTests {
    @Test(
        "RFC 3339 with microseconds",
        arguments: [
            (0, "1970-01-01T00:00:00.000000Z"), (1_714_816_745_028_709, "2024-05-04T09:59:05.028709Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (4_102_444_799_999_999, "2099-12-31T23:59:59.999999Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"), (-1, "1969-12-31T23:59:59.999999Z"),
            (-2_208_988_800_000_000, "1900-01-01T00:00:00.000000Z"),
        ])
    func text(microseconds: Int, text: String) {
        #expect(Timestamp(microseconds: Int64(microseconds)).description == text)
    }

    @Test("now is now")
    func now() {
        #expect(Timestamp.now > Timestamp(microseconds: 1_700_000_000_000_000))
        #expect(Timestamp.now <= Timestamp.now)
    }
}
