import Testing

@testable import Ztunnel

@Suite("ZDS session")
struct ZDSSessionTests {
    @Test("10. pods that the snapshot does not name are stopped, kept and added ones are not")
    func snapshot() throws {
        var session = ZDSSession()
        #expect(try session.add("a") == .serve(uid: "a"))
        #expect(try session.keep("b") == .nothing)
        #expect(try session.add("c") == .serve(uid: "c"))
        #expect(try session.delete("c") == .nothing)
        #expect(try session.snapshotSent() == .reconcile(named: ["a", "b"]))
        #expect(session.hasSnapshot)
        #expect(try session.delete("a") == .stop(uid: "a"))
        #expect(try session.add("d") == .serve(uid: "d"))
    }

    @Test("10. ZDS framing: breaches of the protocol are named")
    func breaches() throws {
        var session = ZDSSession()
        #expect(throws: ZDSSession.Breach.noName) { _ = try session.add("") }
        _ = try session.snapshotSent()
        #expect(throws: ZDSSession.Breach.secondSnapshot) { _ = try session.snapshotSent() }
        #expect(throws: ZDSSession.Breach.keepAfterSnapshot("x")) { _ = try session.keep("x") }
    }
}
