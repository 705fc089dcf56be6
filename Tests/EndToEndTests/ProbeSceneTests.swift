import Foundation
import Glibc
import LinuxNetwork
import Testing

@testable import LocalCluster

extension EndToEnd {
    /// A whole mesh whose server has a probe, with a process on its node that the agent takes for kubelet.
    @Suite("Probes of kubelet", .serialized)
    struct ProbeSceneTests {
        @Test func aStrictPodAnswersKubeletAloneAndOnlyWhileAProbeNamesThePort() throws {
            try TestMesh.run { stage in
                let server = "\(try stage.server.address(.v4))"
                let node = stage.server.node.namespace
                let kubelet = try Kubelet(in: node)
                func other(_ port: UInt16) throws -> Int? {
                    try HTTPProbe.status(of: server, port: port, path: "/ready", in: node)
                }
                try stage.cluster.source.put(
                    "strict.yaml",
                    """
                    apiVersion: security.istio.io/v1
                    kind: PeerAuthentication
                    metadata: {name: strict, namespace: shop}
                    spec: {mtls: {mode: STRICT}}
                    """)
                try Waiting.untilTrue("plain text to be refused", within: .seconds(20)) {
                    try other(Stage.httpPort) == nil
                }
                // Without a probe that names the port kubelet is nobody.
                #expect(try kubelet.status(of: server, port: Stage.httpPort, path: "/ready") == nil)

                let manifest = try #require(Files.text(TestMesh.repository("examples/shop/server.yaml")))
                let probed = manifest.replacing(
                    "      ports:\n        - containerPort: 8080",
                    with: "      readinessProbe: {httpGet: {path: /ready, port: http}}\n"
                        + "      ports:\n        - containerPort: 8080")
                try #require(probed != manifest)
                try stage.cluster.source.put("server.yaml", probed)
                try Waiting.untilTrue("kubelet to be answered", within: .seconds(20)) {
                    try kubelet.status(of: server, port: Stage.httpPort, path: "/ready") == 200
                }
                #expect(try other(Stage.httpPort) == nil)
                try stage.expectServed()

                // Its probe is gone, and so is the way.
                try stage.cluster.source.put("server.yaml", manifest)
                try Waiting.untilTrue("kubelet to be refused again", within: .seconds(20)) {
                    try kubelet.status(of: server, port: Stage.httpPort, path: "/ready") == nil
                }
            }
        }
    }
}

/// A process called kubelet in a node's namespace and in a cgroup of its own, and requests from that cgroup.
private final class Kubelet {
    private let namespace: String
    private let cgroup: String
    private let folder: String
    private var process: pid_t = 0

    init(in namespace: String) throws {
        let hybrid = "/sys/fs/cgroup/unified"
        let root = access(hybrid + "/cgroup.procs", F_OK) == 0 ? hybrid : "/sys/fs/cgroup"
        let name = "apus-test-\(getpid())-kubelet"
        cgroup = "\(root)/\(name)"
        folder = "/tmp/\(name)"
        self.namespace = namespace
        try FileManager.default.createDirectory(atPath: cgroup, withIntermediateDirectories: false)
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
        try FileManager.default.createSymbolicLink(
            atPath: folder + "/kubelet", withDestinationPath: "/usr/bin/sleep")
        process = try spawn(["\(folder)/kubelet", "600"])
    }

    /// The status of a plain request from kubelet's cgroup; `nil` when there is no answer.
    func status(of host: String, port: UInt16, path: String) throws -> Int? {
        let program = """
            import http.client, sys
            try:
                peer = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=2)
                peer.request("GET", sys.argv[3])
                open(sys.argv[4], "w").write(str(peer.getresponse().status))
            except (OSError, http.client.HTTPException):
                pass
            """
        let answer = folder + "/answer"
        let request = try spawn(["/usr/bin/python3", "-c", program, host, "\(port)", path, answer])
        #expect(Self.wait(request) == 0)
        defer { unlink(answer) }
        return Files.text(answer).flatMap { Int($0) }
    }

    private func spawn(_ arguments: [String]) throws -> pid_t {
        let enter = #"echo $$ > "$0/cgroup.procs" && exec "$@""#
        let all = ["nsenter", "--net=\(namespace)", "/bin/sh", "-c", enter, cgroup] + arguments
        var words: [UnsafeMutablePointer<CChar>?] = all.map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        var child: pid_t = 0
        let result = posix_spawn(&child, "/usr/bin/nsenter", nil, nil, &words, environ)
        guard result == 0 else { throw SystemError("spawn nsenter", code: result) }
        return child
    }

    private static func wait(_ child: pid_t) -> CInt {
        var status: CInt = 0
        while waitpid(child, &status, 0) < 0, errno == EINTR {}
        return status
    }

    deinit {
        if process > 0 {
            kill(process, SIGKILL)
            _ = Self.wait(process)
        }
        unlink(folder + "/kubelet")
        rmdir(folder)
        // A process that has just ended still counts for a moment.
        for _ in 0..<1000 where rmdir(cgroup) != 0 && errno == EBUSY { poll(nil, 0, 5) }
    }
}
