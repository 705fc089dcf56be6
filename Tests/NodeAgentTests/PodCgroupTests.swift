import Testing

@testable import NodeAgent

@Suite("Whose a process is, by its cgroups")
struct PodCgroupTests {
    static let uid = "2f8e1c9a-0b7d-4e55-9c1f-aa00bb11cc22"
    static let under = "2f8e1c9a_0b7d_4e55_9c1f_aa00bb11cc22"
    static let bare = "2f8e1c9a0b7d4e559c1faa00bb11cc22"
    static let id = String(repeating: "0123456789abcdef", count: 4)
    static let other = String(repeating: "fedcba9876543210", count: 4)

    static let pods: [(name: String, text: String)] = [
        ("cgroupfs, v2", "0::/kubepods/burstable/pod\(uid)/\(id)"),
        ("cgroupfs, v2, guaranteed", "0::/kubepods/pod\(uid)/\(id)\n"),
        (
            "cgroupfs, v1",
            "12:pids:/kubepods/besteffort/pod\(uid)/\(id)\n11:cpu,cpuacct:/kubepods/besteffort/pod\(uid)/\(id)"
        ),
        (
            "systemd, v2, containerd",
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod\(under).slice/cri-containerd-\(id).scope"
        ),
        (
            "systemd, v1, docker",
            "1:name=systemd:/kubepods.slice/kubepods-pod\(under).slice/docker-\(id).scope\n0::/"
        ),
        (
            "systemd, v2, CRI-O",
            "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod\(under).slice/crio-\(id).scope"
        ),
        (
            "containerd with systemd's path in cgroupfs",
            "0::/system.slice/containerd.service/kubepods-burstable-pod\(under).slice:cri-containerd:\(id)"
        ),
        (
            "kind",
            "0::/docker/\(other)/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod\(under).slice/cri-containerd-\(id).scope"
        ),
        ("seen from another cgroup namespace", "0::/../../pod\(uid)/\(id)"),
        ("the container has made more below", "0::/kubepods/pod\(uid)/\(id)/init.scope"),
        ("hybrid", "4:memory:/kubepods/pod\(uid)/\(id)\n0::/"),
        ("static pod, without separators", "0::/kubepods/pod\(bare)/\(id)"),
        (
            "a container that names a cgroup of its own after another pod",
            "0::/kubepods/pod\(uid)/\(id)/kubepods/pod99999999-0b7d-4e55-9c1f-aa00bb11cc22/\(other)"
        ),
    ]

    @Test("the pod's uid and the container's ID", arguments: pods.indices)
    func found(_ index: Int) throws {
        let found = try PodCgroup.read(Self.pods[index].text)
        #expect(found == PodCgroup(podUID: Self.uid, containerID: Self.id), "\(Self.pods[index].name)")
    }

    @Test(
        "a process of no pod",
        arguments: [
            "", "0::/", "0::/user.slice/user-1000.slice/session-2.scope", "0::/system.slice/containerd.service",
            "0::/kubepods/burstable", "0::/kubepods/pod\(uid)", "0::/docker/\(id)",
            "0::/kubepods/podcast/\(id)", "0::/machine.slice/libpod-\(id).scope",
            "0::/kubepods.slice/kubepods-pod\(under).slice/crio-conmon-\(id).scope",
            "0::/kubepods/pod\(uid)x/\(id)", "0::/kubepods/xpod\(uid)/\(id)",
        ])
    func nobody(_ text: String) throws {
        #expect(try PodCgroup.read(text) == nil)
    }

    @Test("contradictions and lines that are none are errors that say which")
    func errors() {
        func message(_ text: String) -> String? {
            #expect(throws: AgentError.self) { _ = try PodCgroup.read(text) }?.message
        }
        #expect(
            message("2:pids:/kubepods/pod\(Self.uid)/\(Self.id)\n0::/kubepods/pod\(Self.uid)/\(Self.other)")
                == "multiple container IDs found in cgroups (\(Self.id), \(Self.other))")
        let second = "99999999-0b7d-4e55-9c1f-aa00bb11cc22"
        #expect(
            message("2:pids:/kubepods/pod\(Self.uid)/\(Self.id)\n0::/kubepods/pod\(second)/\(Self.id)")
                == "multiple pod UIDs in cgroups (\(Self.uid), \(second))")
        #expect(message("no cgroup at all")?.contains("three parts") == true)
    }
}
