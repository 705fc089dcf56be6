import Glibc
import LinuxNetwork
import Testing

@Suite("The keeper and a ztunnel that is not ours", .serialized)
struct PlainZtunnelScenario {
    /// Tests/Peers/zds_ztunnel.py: says the hello of Istio's ztunnel, and takes namespaces.
    @Test func aPlainHelloGetsOneNamespaceAPodAndNoExtension() throws {
        let keeper = try KeeperProcess()
        let (first, second) = (try TestPod("a"), try TestPod("b"))
        let agent = try keeper.agent()
        for pod in [first, second] { #expect(try agent.add(pod).error == nil) }

        let here = #filePath.split(separator: "/").dropLast(2).reduce("") { $0 + "/" + $1 }
        let told = try run(
            "python3", here + "/Peers/zds_ztunnel.py", keeper.ztunnelSocket, in: keeper.directory
        ).split(separator: "\n")
        #expect(told.count == 3, "\(told)")
        for pod in [first, second] {
            let line = told.first { $0.contains("\"uid\": \"\(pod.uid)\"") } ?? ""
            let who = "\"name\": \"name-\(pod.uid)\", \"namespace\": \"shop\", \"sa\": \"buyer\""
            #expect(line.contains(who), "\(line)")
            #expect(line.contains("\"extra\": [], \"descriptors\": 1, \"isNetns\": true"), "\(line)")
            #expect(line.contains("\"inode\": \(pod.namespace.id.inode)}"), "\(line)")
        }
        #expect(told.last == "{\"message\": \"snapshot_sent\"}")
        for pod in [first, second] { #expect(try agent.expect(pod.uid, .served).error.isEmpty) }
    }
}
