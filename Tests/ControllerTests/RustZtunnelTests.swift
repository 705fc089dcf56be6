import TestSupport
import Testing

/// `apus controller` as a process serving Istio's ztunnel, which Python plays (Tests/Peers/istio).
@Suite("With Istio's ztunnel", .serialized)
struct RustZtunnelTests {
    @Test(
        "what it gets, field by field, and every fault of its stream",
        .timeLimit(.minutes(5)), arguments: ["resources", "stream", "on-demand", "certificates", "faults"])
    func scene(name: String) throws {
        let (status, text) = try ForeignScene.run("controller_scenes.py", name)
        #expect(status == 0, "\(text.suffix(8000))")
    }
}
