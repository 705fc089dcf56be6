import Foundation
import Testing

/// What the pod on every node may do, see and say.
@Suite("The node's pod")
struct NodePodTests {
    private static func daemonSet(_ values: Chart.Values = "{}") throws -> Thing {
        try Chart.render(values).one("DaemonSet", "ztunnel")
    }

    @Test func aNewPodComesBeforeTheOldOneGoes() throws {
        let update = try Self.daemonSet()["spec", "updateStrategy"]
        #expect(update["type"].text == "RollingUpdate")
        #expect(update["rollingUpdate", "maxSurge"].number == 1)
        #expect(update["rollingUpdate", "maxUnavailable"].number == 0)
    }

    @Test func itHasANetworkAndProcessesOfItsOwn() throws {
        let pod = try Self.daemonSet()["spec", "template", "spec"]
        for name in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"] { #expect(pod[name].flag != true) }
        for container in pod["containers"].items {
            for port in container["ports"].items { #expect(port["hostPort"].value == nil) }
            #expect(container["securityContext", "privileged"].flag == false)
            #expect(container["securityContext", "readOnlyRootFilesystem"].flag == true)
            #expect(container["securityContext", "capabilities", "drop"].texts == ["ALL"])
            #expect(container["securityContext", "seccompProfile", "type"].text == "RuntimeDefault")
        }
        #expect(
            try Self.daemonSet()["spec", "template", "metadata", "labels", "istio.io/dataplane-mode"].text == "none")
    }

    @Test(
        "each container has these capabilities and no other",
        arguments: [
            ("agent", ["NET_ADMIN", "NET_BROADCAST", "SYS_ADMIN", "SYS_PTRACE"]),
            ("sockets", ["CHOWN", "DAC_OVERRIDE", "NET_ADMIN", "SYS_ADMIN"]), ("ztunnel", []),
        ])
    func capabilities(container: String, wanted: [String]) throws {
        let context = try Self.daemonSet()["spec", "template", "spec", "containers"].items.named(container)[
            "securityContext"]
        #expect(context["capabilities", "add"].texts == wanted)
        #expect(context["runAsUser"].number == (container == "ztunnel" ? 15000 : 0))
        #expect(context["allowPrivilegeEscalation"].flag == (container != "ztunnel"))
    }

    @Test(
        "each container sees these folders of the node and no other",
        arguments: [
            (
                "agent",
                ["/etc/cni/net.d", "/opt/cni/bin", "/proc", "/sys/fs/cgroup", "/var/run/apus", "/var/run/netns"]
            ),
            ("sockets", ["/var/run/apus"]), ("ztunnel", ["/var/run/apus/ztunnel"]),
        ])
    func folders(container: String, wanted: [String]) throws {
        let pod = try Self.daemonSet()["spec", "template", "spec"]
        let mounts = pod["containers"].items.named(container)["volumeMounts"].items
        let paths = mounts.compactMap { mount in
            pod["volumes"].items.named(mount["name"].text ?? "")["hostPath", "path"].text
        }
        #expect(paths.sorted() == wanted)
    }

    @Test func onlyTheAgentCanAskTheAPIServer() throws {
        let pod = try Self.daemonSet()["spec", "template", "spec"]
        #expect(pod["automountServiceAccountToken"].flag == false)
        let users = pod["containers"].items.filter { container in
            container["volumeMounts"].items.contains { $0["name"].text == "api-token" }
        }
        #expect(users.map(\.name) == ["agent"])
        let token = pod["volumes"].items.named("istio-token")["projected", "sources"].items.first
        #expect(token?["serviceAccountToken", "audience"].text == "istio-ca")
    }

    /// The old pod's keeper must stay ready when the new one has taken over: else Kubernetes ends the old pod at once.
    @Test func theKeeperIsAskedAtItsStartAlone() throws {
        let keeper = try Self.daemonSet()["spec", "template", "spec", "containers"].items.named("sockets")
        #expect(keeper["startupProbe", "exec", "command"].texts.last == "--serving")
        #expect(keeper["readinessProbe"].value == nil && keeper["livenessProbe"].value == nil)
        #expect(Set(keeper["args"].texts).isSuperset(of: ["--takeover", "--linger"]))
    }

    // MARK: What the programs know

    @Test(arguments: ["agent", "controller"])
    func everyFlagIsOneOfTheProgram(role: String) throws {
        let objects = try Chart.render(Chart.everything(on: "standard")) + Chart.render(#"{"node":{"uninstall":true}}"#)
        let help = try Chart.run(Chart.program("apus"), [role, "--help"]).text
        var seen = 0
        for container in Self.containers(objects) where container["args"].texts.first == role {
            for argument in container["args"].texts.dropFirst() {
                let flag = String(argument.prefix { $0 != "=" })
                #expect(help.contains("  \(flag) "), "apus \(role) has no \(flag)")
                seen += 1
            }
        }
        #expect(seen > 3)
    }

    /// As it stands in the chart, up to where it needs the cluster that is not there.
    @Test func theAgentTakesItsCommandLine() throws {
        for values in ["{}", Chart.everything(on: "standard")] {
            let agent = Self.containers(try Chart.render(values)).named("agent")
            // It would mount over this process's /proc.
            let words = agent["args"].texts.filter { !$0.hasPrefix("--host-proc=") }
                .map { $0.replacingOccurrences(of: "$(NODE_NAME)", with: "n1") }
            let run = try Chart.run("/usr/bin/env", ["-u", "KUBERNETES_SERVICE_HOST", Chart.program("apus")] + words)
            #expect(run.code == 1, "64 is a wrong command line: \(run.errors)")
            #expect((run.text + run.errors).contains("KUBERNETES_SERVICE_HOST"), "\(run.text)\(run.errors)")
        }
    }

    @Test func nothingIsMountedOverThePrograms() throws {
        for platform in Chart.platforms {
            let containers = Self.containers(try Chart.render(#"{"global":{"platform":"\#(platform)"}}"#))
            for mount in containers.flatMap({ $0["volumeMounts"].items }) {
                let path = try #require(mount["mountPath"].text)
                let held = ["/usr/local/bin", "/lib", "/usr/lib", "/lib64", "/etc/ld.so.cache"]
                #expect(!held.contains { $0 == path || $0.hasPrefix(path + "/") }, "\(path)")
            }
        }
    }

    @Test func everyFlagOfTheKeeperIsOne() throws {
        let objects = try Chart.render()
        let help = try Chart.run(Chart.program("apus-sockets"), ["--help"]).text
        let keeper = Self.containers(objects).named("sockets")
        for argument in keeper["args"].texts + keeper["startupProbe", "exec", "command"].texts.dropFirst() {
            #expect(help.contains("  \(argument.prefix { $0 != "=" }) "), "apus-sockets has no \(argument)")
        }
    }

    @Test func everyVariableOfZtunnelIsInItsReference() throws {
        let reference = try Chart.file("docs/reference/ztunnel.md")
        let ztunnel = Self.containers(try Chart.render(Chart.everything(on: "standard"))).named("ztunnel")
        let names = ztunnel["env"].items.map(\.name)
        #expect(names.count > 10)
        for name in names { #expect(reference.contains("| `\(name)` |"), "ztunnel knows no \(name)") }
    }

    @Test func everyContainerCanLogAsJSON() throws {
        let containers = Self.containers(try Chart.render(#"{"global":{"logAsJson":true}}"#))
        for name in ["agent", "sockets", "controller"] {
            #expect(containers.named(name)["args"].texts.contains("--log-format=json"))
        }
        #expect(containers.named("ztunnel")["env"].items.named("LOG_FORMAT")["value"].text == "json")
    }

    private static func containers(_ objects: [Thing]) -> [Thing] {
        objects.flatMap { object in
            let pod = object["spec", "template", "spec"]
            return pod["containers"].items + pod["initContainers"].items
        }
    }
}
