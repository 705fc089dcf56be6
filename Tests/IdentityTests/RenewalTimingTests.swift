import Foundation
import Testing

@testable import Identity

@Suite struct RenewalTimingTests {
    let timing = RenewalTiming()
    let now = Date(timeIntervalSince1970: 1_800_000_000)

    private func certificate(from start: Double, to end: Double) -> WorkloadCertificate {
        WorkloadCertificate(
            identity: workload("client"), chainDER: [], privateKeyDER: [], rootsDER: [], notBefore: now + start,
            notAfter: now + end, serialNumber: "01")
    }

    @Test(arguments: [(1, 1.0), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 64), (8, 125), (9, 125), (1000, 125)])
    func backOffDoublesUpToItsLimit(failures: Int, middle: Double) {
        #expect(abs(timing.backOff(failures: failures, chance: 0.5) - middle) < 0.001)
        #expect(abs(timing.backOff(failures: failures, chance: 0) - middle * 0.8) < 0.001)
        #expect(abs(timing.backOff(failures: failures, chance: 1) - middle * 1.2) < 0.001)
    }

    @Test func backOffNeverPassesItsLimit() {
        for failures in 0...40 {
            for chance in [0, 0.25, 0.5, 0.75, 0.999] {
                let wait = timing.backOff(failures: failures, chance: chance)
                #expect(wait >= 0.8 && wait <= 150)
            }
        }
    }

    /// Begin, end, chance, and when it is renewed: seconds from now.
    @Test(
        arguments: [
            (-120, 86_280, 0.5, 43_080.0), (-120, 86_280, 0, 38_760), (-120, 86_280, 1, 47_400),
            // Half of this one's life was over when it came: half of what is left.
            (-120, 10, 0.5, 5), (-120, 60, 0.5, 30),
            // Never closer than a second.
            (-120, 1, 0.5, 1), (-120, 0.2, 0.5, 1),
        ] as [(Double, Double, Double, Double)])
    func renewsAtHalfLife(start: Double, end: Double, chance: Double, expected: Double) {
        let moment = timing.renewal(of: certificate(from: start, to: end), now: now, chance: chance)
        #expect(abs(moment.timeIntervalSince(now) - expected) < 0.01)
    }
}
