import Testing

@testable import Ztunnel

@Suite("Ports for dials in a client's name")
struct SourcePortsTests {
    @Test func portsStayBelowTheRangeThatClientsUseAndComeInTurn() {
        let ports = SourcePorts(start: .max - 2)
        let taken = (0..<SourcePorts.range.count).compactMap { _ in ports.take() }
        #expect(taken.count == SourcePorts.range.count)
        #expect(taken.allSatisfy { SourcePorts.range.contains($0) && $0 < 32768 })
        #expect(taken.contains(14999) && taken.contains(15100))
        #expect(!taken.contains { (15000...15099).contains($0) })
        // Where the counter itself goes around the order jumps, and a part of the range comes twice in that round.
        let ordered = SourcePorts(start: 7)
        let whole = SourcePorts.range.count - SourcePorts.meshPorts.count
        #expect(Set((0..<whole).compactMap { _ in ordered.take() }).count == whole)
    }

    @Test func whenPortsAreInUseTheKernelChoosesForAWhile() {
        let ports = SourcePorts(start: 0)
        #expect(ports.take() == SourcePorts.range.lowerBound)
        ports.wasInUse()
        for _ in 0..<SourcePorts.pause { #expect(ports.take() == nil) }
        #expect(ports.take() == SourcePorts.range.lowerBound + 1)
    }
}
