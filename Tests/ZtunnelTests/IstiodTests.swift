import TestSupport
import Testing

/// `apus ztunnel` with an istiod in Python as processes (Tests/Peers/istio): discovery, certificates, and traffic on what
/// comes of them.
@Suite("With istiod", .serialized)
struct IstiodTests {
    @Test(
        "what istiod sees of us, and every fault of its stream, its clock and its tokens",
        .timeLimit(.minutes(5)),
        arguments: [
            "seam", "on-demand", "phases", "statuses", "bytes", "restart", "disorder", "skew", "server", "token",
        ])
    func scene(name: String) throws {
        let (status, text) = try ForeignScene.run("ztunnel_scenes.py", name)
        #expect(status == 0, "\(text.suffix(8000))")
    }
}
