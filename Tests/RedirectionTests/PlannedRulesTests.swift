import Netlink
import Testing

@testable import Redirection

@Suite("Rules of a plan, worked out once")
struct PlannedRulesTests {
    private static let plans: [RedirectionPlan] = [
        RedirectionPlan(), RedirectionPlan(families: [.v4], capturesDNS: true, dropsUncaptured: true),
        RedirectionPlan(capturesInbound: false, virtualInterfaces: ["vnet0"], probePorts: [80], dropsUncaptured: true),
    ]

    @Test("they are those of the plan and the phase, also when asked for again and after others", arguments: plans)
    func sameAsMade(plan: RedirectionPlan) {
        let shelf = PlannedRules.Shelf()
        for _ in 0..<2 {
            for phase in [RedirectionPhase.capturing, .leaving] {
                let rules = shelf.rules(plan, phase)
                #expect(rules.chains == RedirectionTable.chains(plan, phase))
                #expect(rules.line == SecondLine.chains(plan, phase))
            }
            for port in 1...70 { _ = shelf.rules(RedirectionPlan(probePorts: [UInt16(port)]), .capturing) }
        }
    }

    @Test("connections are looked for that passed uncaptured only where something begins to be captured")
    func beginsCapture() {
        func table(_ plan: RedirectionPlan, _ phase: RedirectionPhase = .capturing) -> Nftables.Table {
            Nftables.Table(RedirectionTable.name, chains: RedirectionTable.chains(plan, phase))
        }
        let plan = RedirectionPlan(probePorts: [80])
        let wanted = RedirectionTable.chains(plan, .capturing)
        #expect(NftablesBackend.beginsCapture(Nftables.Table(RedirectionTable.name), wanted))
        #expect(NftablesBackend.beginsCapture(table(plan, .leaving), wanted))
        #expect(!NftablesBackend.beginsCapture(table(plan), wanted))
        // Another port for probes, or DNS: TCP was captured all the time.
        #expect(!NftablesBackend.beginsCapture(table(RedirectionPlan(probePorts: [81])), wanted))
        #expect(NftablesBackend.beginsCapture(table(RedirectionPlan(families: [.v4])), wanted))
        let guest = RedirectionTable.chains(RedirectionPlan(virtualInterfaces: ["vnet0"]), .capturing)
        #expect(NftablesBackend.beginsCapture(table(RedirectionPlan()), guest))
        // One rule was taken away by hand.
        for chain in wanted {
            for index in chain.rules.indices {
                var damaged = table(plan)
                guard let place = damaged.chains.firstIndex(where: { $0.name == chain.name }) else { continue }
                let rule = damaged.chains[place].rules.remove(at: index)
                let captures = rule.expressions.contains(.redirect)
                #expect(NftablesBackend.beginsCapture(damaged, wanted) == captures, "\(rule.comment ?? "")")
            }
        }
    }
}
