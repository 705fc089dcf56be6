import Foundation
import Testing

/// The chart renders what Kubernetes takes, and refuses what cannot work.
@Suite("Chart")
struct ChartTests {
    @Test(arguments: Chart.platforms)
    func helmFindsNothingToSay(platform: String) throws {
        for values in [#"{"global":{"platform":"\#(platform)"}}"#, Chart.everything(on: platform)] {
            let run = try Chart.chart("lint", values)
            #expect(run.code == 0, "\(run.text)\(run.errors)")
        }
    }

    /// scripts/chart holds every object against the schemas of two versions of Kubernetes, strictly.
    @Test(arguments: Chart.platforms)
    func everyObjectIsOneOfKubernetes(platform: String) throws {
        for values in [#"{"global":{"platform":"\#(platform)"}}"#, Chart.everything(on: platform)] {
            let objects = try Chart.render(values)
            #expect(objects.one("DaemonSet", "ztunnel")["spec", "template", "spec", "containers"].items.count == 3)
            #expect(Set(objects.map { "\($0.kind)/\($0.name)" }).count == objects.count)
        }
    }

    @Test func whatIsNotOfKubernetesIsFound() throws {
        let run = try Chart.chart("render", #"{"node":{"tolerations":[{"opperator":"Exists"}]}}"#)
        #expect(run.code == 1)
        #expect(run.errors.contains("opperator"))
    }

    @Test(
        "a wrong value is refused by its name",
        arguments: [
            (#"{"global":{"platfrom":"gke"}}"#, "platfrom"),
            (#"{"global":{"platform":"vax"}}"#, "/global/platform"),
            (#"{"ztunnel":{"uid":0}}"#, "/ztunnel/uid"),
            (#"{"ztunnel":{"uid":65534}}"#, "/ztunnel/uid"),
            (#"{"ztunnel":{"xdsAddress":"istiod:15012"}}"#, "/ztunnel/xdsAddress"),
            (#"{"agent":{"cniBinDir":"opt/cni/bin"}}"#, "/agent/cniBinDir"),
            (#"{"agent":{"redirection":"iptables"}}"#, "/agent/redirection"),
            (#"{"agent":{"extraCapabilities":["ALL"]}}"#, "/agent/extraCapabilities"),
            (#"{"agent":{"drainDeadline":"300"}}"#, "/agent/drainDeadline"),
            (#"{"agent":{"excludeNamespaces":["Kube_System"]}}"#, "/agent/excludeNamespaces"),
            (#"{"controller":{"replicaCount":0}}"#, "/controller/replicaCount"),
            (#"{"node":{"updateStrategy":{"type":"OnDelete","rollingUpdate":{}}}}"#, "/node/updateStrategy/type"),
            (#"{"node":{"updateStrategy":{"rollingUpdate":{"maxUnavailable":1}}}}"#, "maxUnavailable must be 0"),
        ])
    func wrongValue(values: String, named: String) throws {
        let run = try Chart.chart("render", values)
        #expect(run.code == 1)
        #expect(run.errors.contains(named), "\(run.errors)")
    }

    @Test func theControllersNameIsOfOneNamespace() throws {
        let run = try Chart.chart("render", "{}", namespace: "mesh")
        #expect(run.code == 1)
        #expect(run.errors.contains("--namespace istio-system"))
        let apart = try Chart.chart(
            "render", #"{"controller":{"enabled":false},"ztunnel":{"xdsAddress":"https://istiod.x.svc:15012"}}"#,
            namespace: "mesh")
        #expect(apart.code == 0, "\(apart.errors)")
    }

    @Test func theManifestIsWhatTheChartRenders() throws {
        let run = try Chart.chart("manifest")
        #expect(run.code == 0, "\(run.errors)")
        #expect(try run.text == Chart.file("deploy/manifests/apus.yaml"), "run: make manifests")
    }

    @Test func valuesWinOverThePlatforms() throws {
        let objects = try Chart.render(#"{"global":{"platform":"k3s"},"agent":{"cniBinDir":"/srv/cni"}}"#)
        let pod = objects.one("DaemonSet", "ztunnel")["spec", "template", "spec"]
        let arguments = pod["containers"].items.named("agent")["args"].texts
        #expect(arguments.contains("--cni-bin-dir=/host/srv/cni"))
        #expect(arguments.contains("--cni-conf-dir=/var/lib/rancher/k3s/agent/etc/cni/net.d"))
        #expect(pod["volumes"].items.named("cni-bin")["hostPath", "path"].text == "/srv/cni")
    }

    @Test func theImageIsAtTheHub() throws {
        let objects = try Chart.render(#"{"global":{"hub":"mirror.example/mesh","tag":"7","imagePullSecrets":["s"]}}"#)
        for workload in [objects.one("DaemonSet", "ztunnel"), objects.one("Deployment", "apus-controller")] {
            let pod = workload["spec", "template", "spec"]
            #expect(pod["imagePullSecrets"].items.map(\.name) == ["s"])
            for container in pod["containers"].items {
                #expect(container["image"].text == "mirror.example/mesh/apus:7")
            }
        }
    }

    @Test func withoutAControllerOfItsOwnTheMeshIsIstiods() throws {
        let objects = try Chart.render(#"{"controller":{"enabled":false}}"#)
        #expect(!objects.contains { $0.name == "istiod" || $0.name.hasPrefix("apus-controller") })
    }

    @Test func uninstallingTakesThePluginOutAndKeepsTheNodeSo() throws {
        let objects = try Chart.render(#"{"node":{"uninstall":true}}"#)
        let pod = objects.one("DaemonSet", "ztunnel")["spec", "template", "spec"]
        #expect(pod["containers"].items.map(\.name) == ["sockets"])
        let first = pod["initContainers"].items.named("uninstall")
        #expect(first["args"].texts.prefix(2) == ["agent", "--uninstall"])
        #expect(first["securityContext", "capabilities", "add"].value == nil)
        #expect(first["volumeMounts"].items.map { $0["name"].text } == ["cni-bin", "cni-conf", "cni-cache"])
    }
}
