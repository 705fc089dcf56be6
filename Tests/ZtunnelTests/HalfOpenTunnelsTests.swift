import Testing

@testable import Ztunnel

@Suite("Half-open tunnels: the oldest goes")
struct HalfOpenTunnelsTests {
    private final class Tunnel {}

    @Test("below the limit nobody goes, beyond it the one that has waited longest")
    func oldestGoes() {
        var half = HalfOpenTunnels<Tunnel>(limit: 3)
        let tunnels = (0..<5).map { _ in Tunnel() }
        let placed = tunnels.map { half.add($0) }
        #expect(placed.prefix(3).allSatisfy { $0.evicted == nil })
        #expect(placed[3].evicted === tunnels[0] && placed[4].evicted === tunnels[1])
        #expect(half.count == 3)
    }

    @Test("one that has proved itself is not counted, and never goes for another")
    func provedStay() {
        var half = HalfOpenTunnels<Tunnel>(limit: 2)
        let first = half.add(Tunnel()).ticket
        let second = Tunnel()
        _ = half.add(second)
        half.remove(first)
        #expect(half.add(Tunnel()).evicted == nil)
        #expect(half.add(Tunnel()).evicted === second)
        half.remove(first)
        #expect(half.count == 2)
    }

    @Test("100,000 of a flood leave the limit's number, and a good peer among them proves itself in time")
    func flood() {
        var half = HalfOpenTunnels<Tunnel>()
        var lost = 0
        var good: [(tunnel: Tunnel, ticket: UInt64, at: Int)] = []
        for index in 0..<100_000 {
            let tunnel = Tunnel()
            let (ticket, evicted) = half.add(tunnel)
            if good.contains(where: { $0.tunnel === evicted }) { lost += 1 }
            // Every hundredth peer is a good one, and done 500 peers later.
            if index % 100 == 0 { good.append((tunnel, ticket, index)) }
            if let done = good.first, index - done.at >= 500 {
                half.remove(done.ticket)
                good.removeFirst()
            }
        }
        #expect(lost == 0)
        #expect(half.count <= half.limit)
    }
}
