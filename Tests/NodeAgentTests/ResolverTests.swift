import Addressing
import DNS
import Foundation
import Glibc
import LinuxNetwork
import ObjectSource
import Testing

@testable import NodeAgent

/// Where the agent has a pod's name servers from.
@Suite("A pod's name servers")
struct ResolverTests {
    // MARK: The file

    /// A pod's root with something at /etc/resolv.conf.
    private func withRoot(_ body: (String) throws -> Void) throws {
        let root = FileManager.default.temporaryDirectory.path + "/root-\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: root + "/etc", withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: root) }
        try body(root)
    }

    private func read(_ root: String) throws -> String {
        try PodResolverFile.text(in: FileDescriptor.open(root, flags: O_RDONLY | O_DIRECTORY))
    }

    @Test func aFileIsRead() throws {
        try withRoot { root in
            try Data("nameserver 10.96.0.10\n".utf8).write(to: URL(fileURLWithPath: root + "/etc/resolv.conf"))
            #expect(try read(root) == "nameserver 10.96.0.10\n")
        }
    }

    @Test func linksStayInsideOfTheRoot() throws {
        try withRoot { root in
            try FileManager.default.createDirectory(atPath: root + "/run", withIntermediateDirectories: true)
            try Data("inside".utf8).write(to: URL(fileURLWithPath: root + "/run/resolv.conf"))
            #expect(symlink("/run/resolv.conf", root + "/etc/resolv.conf") == 0)
            #expect(try read(root) == "inside")
            unlink(root + "/etc/resolv.conf")
            // From a root of its own there is no way up to the machine's.
            #expect(symlink("../../../../../../etc/passwd", root + "/etc/resolv.conf") == 0)
            #expect(throws: SystemError.self) { try read(root) }
        }
    }

    @Test(.timeLimit(.minutes(1))) func aFifoHoldsNobody() throws {
        try withRoot { root in
            #expect(mkfifo(root + "/etc/resolv.conf", 0o600) == 0)
            #expect(throws: SystemError.self) { try read(root) }
        }
    }

    @Test func aDeviceADirectoryAndALongFileAreRefused() throws {
        try withRoot { root in
            #expect(symlink("/etc", root + "/etc/resolv.conf") == 0)
            #expect(throws: SystemError.self) { try read(root) }
            unlink(root + "/etc/resolv.conf")
            let long = Data(repeating: 0x20, count: ResolverConfiguration.longestFile + 1)
            try long.write(to: URL(fileURLWithPath: root + "/etc/resolv.conf"))
            #expect(throws: SystemError.self) { try read(root) }
            unlink(root + "/etc/resolv.conf")
            #expect(throws: SystemError.self) { try read(root) }
        }
    }

    @Test func processesAreFoundByTheirNamespace() throws {
        let own = try NetworkNamespace.current().id
        let processes = NamespaceProcesses()
        #expect(try processes.processes(of: own).contains(getpid()))
        let other = try NetworkNamespace.make()
        #expect(try processes.processes(of: other.id).isEmpty)
        #expect(try PodResolverFile.read(in: other.id, processes) == nil)
    }

    @Test func processesAreReadOnceForAllWhoAskWithinAMoment() throws {
        try withRoot { proc in
            for (pid, namespace) in [("7", "a"), ("8", "b")] {
                try FileManager.default.createDirectory(
                    atPath: "\(proc)/\(pid)/ns", withIntermediateDirectories: true)
                for name in ["net", "mnt"] {
                    try Data().write(to: URL(fileURLWithPath: "\(proc)/\(namespace)-\(name)"))
                }
                #expect(symlink("\(proc)/\(namespace)-net", "\(proc)/\(pid)/ns/net") == 0)
                #expect(symlink("\(proc)/\(namespace)-mnt", "\(proc)/\(pid)/ns/mnt") == 0)
            }
            let first = try #require(NamespaceProcesses.identity("\(proc)/a-net"))
            let second = try #require(NamespaceProcesses.identity("\(proc)/b-net"))
            let kept = NamespaceProcesses(proc: proc, oldest: .seconds(3600))
            let fresh = NamespaceProcesses(proc: proc, oldest: .zero)
            #expect(try kept.processes(of: first) == [7] && fresh.processes(of: first) == [7])
            try FileManager.default.removeItem(atPath: proc + "/7")
            #expect(try kept.processes(of: first) == [7] && kept.processes(of: second) == [8])
            #expect(try fresh.processes(of: first).isEmpty && fresh.processes(of: second) == [8])
        }
    }

    @Test func aProcessWithFilesOfItsOwnComesFirst() throws {
        try withRoot { proc in
            try Data().write(to: URL(fileURLWithPath: proc + "/net"))
            try Data().write(to: URL(fileURLWithPath: proc + "/files"))
            for (pid, files) in [("1", "/proc/self/ns/mnt"), ("5", "/proc/self/ns/mnt"), ("9", proc + "/files")] {
                try FileManager.default.createDirectory(
                    atPath: "\(proc)/\(pid)/ns", withIntermediateDirectories: true)
                #expect(symlink(proc + "/net", "\(proc)/\(pid)/ns/net") == 0)
                #expect(symlink(files, "\(proc)/\(pid)/ns/mnt") == 0)
            }
            let namespace = try #require(NamespaceProcesses.identity(proc + "/net"))
            #expect(try NamespaceProcesses(proc: proc).processes(of: namespace) == [9, 1, 5])
        }
    }

    @Test func noListOfProcessesIsNotAnEmptyOne() throws {
        let namespace = try NetworkNamespace.current().id
        #expect(throws: (any Error).self) { try NamespaceProcesses(proc: "/missing").processes(of: namespace) }
    }

    // MARK: The policy

    private let node = ResolverConfiguration(servers: [IPAddress(192, 0, 2, 53)], searchDomains: ["corp.example.com"])
    private let policy = PodResolverPolicy(
        clusterServers: [IPAddress(10, 96, 0, 10)], clusterDomain: "cluster.local")

    private func resolver(
        _ dnsPolicy: DNSPolicy, _ config: PodDNSConfig? = nil, hostNetwork: Bool = false,
        by policy: PodResolverPolicy? = nil
    ) -> ResolverConfiguration {
        let pod = Pod(
            metadata: ObjectMeta(name: "p", namespace: "shop"),
            spec: PodSpec(hostNetwork: hostNetwork, dnsPolicy: dnsPolicy, dnsConfig: config))
        return (policy ?? self.policy).resolver(for: pod, node: node)
    }

    @Test func asKubeletWillWriteIt() {
        let cluster = ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example.com"]
        #expect(resolver(.clusterFirst).servers == [IPAddress(10, 96, 0, 10)])
        #expect(resolver(.clusterFirst).searchDomains == cluster)
        #expect(resolver(.clusterFirstWithHostNet, hostNetwork: true).searchDomains == cluster)
        #expect(resolver(.clusterFirst, hostNetwork: true) == node)
        #expect(resolver(.default) == node)
        // A node that has not been told of the cluster's servers does as kubelet: the node's.
        let unknowing = PodResolverPolicy(clusterServers: [], clusterDomain: "cluster.local")
        #expect(resolver(.clusterFirst, by: unknowing) == node)
    }

    @Test func dnsConfigIsAdded() {
        let config = PodDNSConfig(
            nameservers: ["1.2.3.4", "no address"], searches: ["my.domain", "corp.example.com"],
            options: ["ndots:2", "timeout:3", "attempts:4"])
        let alone = resolver(.none, config)
        #expect(alone.servers == [IPAddress(1, 2, 3, 4)])
        #expect(alone.searchDomains == ["my.domain", "corp.example.com"])
        #expect(alone.timeout == 3 && alone.attempts == 4)
        let added = resolver(.default, config)
        #expect(added.servers == [IPAddress(192, 0, 2, 53), IPAddress(1, 2, 3, 4)])
        #expect(added.searchDomains == ["corp.example.com", "my.domain"])
    }

    @Test func theAnnotationWinsOverTheNode() {
        func capture(_ value: String?) -> Bool? {
            CaptureOverrides(value.map { ["ambient.istio.io/dns-capture": $0] } ?? [:]).capturesDNS
        }
        #expect(capture("true") == true && capture("false") == false && capture(nil) == nil)
        #expect(capture("yes") == nil)
        #expect(CaptureOverrides(["ambient.istio.io/dns-capture": "yes"]).invalid.count == 1)
    }
}
