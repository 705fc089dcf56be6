import Testing

@testable import LocalCluster

@Suite("The soak")
struct SoakTests {
    @Test("the same seed does the same things, another one others")
    func seeds() {
        func numbers(_ seed: UInt64) -> [Int] {
            var dice = Dice(state: seed)
            return (0..<64).map { _ in dice.below(1000) }
        }
        #expect(numbers(7) == numbers(7))
        #expect(numbers(7) != numbers(8))
        #expect(numbers(0).allSatisfy { (0..<1000).contains($0) })
        #expect(Set(numbers(1)).count > 50)
    }

    @Test("the report names the seed and every failure")
    func report() {
        var report = Soak.Report()
        report.seed = 42
        report.failures = ["flip: 1 of 9 connections were lost", "killAgent: wrong bytes"]
        #expect(report.text.contains("seed 42"))
        #expect(report.text.contains("failures: 2\n    flip: 1 of 9 connections were lost\n    killAgent: wrong bytes"))
    }
}
