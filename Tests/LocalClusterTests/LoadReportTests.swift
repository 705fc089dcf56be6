import Foundation
import Testing

@testable import LocalCluster

@Suite("A load around a kill")
struct LoadReportTests {
    private static let first = LoadReport.Kill(signalled: 98, dead: 100)
    private static let second = LoadReport.Kill(signalled: 200, dead: 202)

    private func sample(
        _ started: UInt64, _ ended: UInt64, _ outcome: LoadReport.Outcome = .served
    ) -> LoadReport.Sample {
        .init(started: started, connected: outcome == .connectFailed ? 0 : started + 1, ended: ended, outcome: outcome)
    }

    @Test func connectionsAreCountedByWhenTheyBegan() {
        let report = LoadReport(samples: [
            sample(10, 20), sample(80, 90), sample(90, 150, .broken), sample(95, 160), sample(100, 400),
            sample(120, 130),
        ])
        let around = report.around(Self.first)
        #expect(around.inService == 2)
        #expect(around.inServiceLost == 1)
        #expect(around.after == 2)
        #expect(around.afterFailed == 0)
        #expect(around.afterSlowest == 300)
        #expect(around.held(within: .nanoseconds(300)))
        #expect(!around.held(within: .nanoseconds(299)))
    }

    @Test(
        "what must not happen",
        arguments: [
            // Nothing began after the kill, so nothing was shown.
            [(10, 20, LoadReport.Outcome.served)],
            [(110, 120, .served), (130, 140, .broken)],
            [(110, 120, .served), (130, 140, .silent)],
            [(110, 120, .served), (130, 140, .connectFailed)],
            // connect() must not fail before the kill either, nor may anything else.
            [(10, 20, .connectFailed), (110, 120, .served)],
            [(10, 20, .broken), (110, 120, .served)],
        ])
    func notHeld(samples: [(UInt64, UInt64, LoadReport.Outcome)]) {
        let report = LoadReport(samples: samples.map { sample($0.0, $0.1, $0.2) })
        #expect(!report.around(Self.first).held(within: .seconds(1)))
    }

    @Test func aSecondKillIsAnother() {
        let report = LoadReport(samples: [sample(110, 120), sample(210, 900, .broken)])
        #expect(report.around(Self.first, before: Self.second).held(within: .seconds(1)))
        #expect(!report.around(Self.second, after: Self.first).held(within: .seconds(1)))
    }

    @Test func whatTheDyingProcessHeldIsInService() {
        // Ended between the signal and the death, and begun there: neither is before, neither is after.
        let report = LoadReport(samples: [sample(90, 99, .broken), sample(99, 101, .broken), sample(110, 120)])
        let around = report.around(Self.first)
        #expect(around.inService == 2)
        #expect(around.inServiceLost == 2)
        #expect(around.held(within: .seconds(1)))
    }

    @Test func whatOneKillTookIsNotCountedAgainstTheNext() {
        let report = LoadReport(samples: [sample(90, 130, .broken), sample(110, 120), sample(210, 220)])
        #expect(report.around(Self.second, after: Self.first).held(within: .seconds(1)))
        #expect(!report.around(Self.second).held(within: .seconds(1)))
        // But what had failed before the first one is the load's own fault.
        let faulty = LoadReport(samples: [sample(10, 20, .broken), sample(110, 120)])
        #expect(!faulty.around(Self.first, before: Self.second).held(within: .seconds(1)))
    }

    @Test func samplesTravelAsNumbers() throws {
        let report = LoadReport(samples: [
            .init(started: 1, connected: 2, ended: 3, outcome: .broken, error: 104), sample(4, 5),
        ])
        let data = try JSONEncoder().encode(report)
        #expect(String(decoding: data, as: UTF8.self) == #"{"samples":[[1,2,3,2,104],[4,5,5,0,0]]}"#)
        #expect(try JSONDecoder().decode(LoadReport.self, from: data) == report)
    }

    @Test func aDemoPassesOnlyWhenEverySceneWasPlayed() {
        let scenes = Demo.titles.enumerated().map { index, title in
            DemoReport.Scene(id: index + 1, title: title, passed: true, proof: "p", seconds: 1.25)
        }
        #expect(DemoReport(scenes: scenes).allPassed)
        #expect(!DemoReport(scenes: Array(scenes.dropLast())).allPassed)
        #expect(!DemoReport().allPassed)
        var failed = scenes
        failed[3].passed = false
        #expect(!DemoReport(scenes: failed).allPassed)
        #expect(scenes[0].text == "1. \(Demo.titles[0]): passed (1.3 s)\n   p")
    }
}
