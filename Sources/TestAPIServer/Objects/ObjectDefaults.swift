import Kubernetes

/// What a server adds to objects that do not say it: the part of Kubernetes's defaults that clients and Apus look at.
enum ObjectDefaults {
    static func fill(_ object: inout JSON, _ kind: ResourceKind, _ store: Store) {
        switch kind.key {
        case "namespaces":
            object.set(.string(object.name), at: "metadata", "labels", "kubernetes.io/metadata.name")
            object.setDefault(["kubernetes"], at: "spec", "finalizers")
            object.setDefault("Active", at: "status", "phase")
        case "pods":
            if var spec = object["spec"] {
                pod(&spec)
                spec.setDefault("default", at: "serviceAccountName")
                spec.setDefault(spec["serviceAccountName"] ?? "default", at: "serviceAccount")
                object["spec"] = spec
            }
            object.setDefault("Pending", at: "status", "phase")
        case "services": service(&object, store)
        case "deployments.apps", "daemonsets.apps", "statefulsets.apps", "replicasets.apps", "jobs.batch":
            if var spec = object.at("spec", "template", "spec") {
                pod(&spec)
                object.set(spec, at: "spec", "template", "spec")
            }
            if kind.kind == "Deployment" || kind.kind == "StatefulSet" || kind.kind == "ReplicaSet" {
                object.setDefault(1, at: "spec", "replicas")
            }
            if kind.kind == "Deployment" || kind.kind == "DaemonSet" || kind.kind == "StatefulSet" {
                object.setDefault(10, at: "spec", "revisionHistoryLimit")
            }
        case "secrets": object.setDefault("Opaque", at: "type")
        default: break
        }
    }

    private static func pod(_ spec: inout JSON) {
        spec.setDefault("Always", at: "restartPolicy")
        spec.setDefault("ClusterFirst", at: "dnsPolicy")
        spec.setDefault(30, at: "terminationGracePeriodSeconds")
        spec.setDefault("default-scheduler", at: "schedulerName")
        spec.setDefault([:], at: "securityContext")
        for name in ["containers", "initContainers"] {
            guard let containers = spec[name]?.list else { continue }
            spec[name] = .list(
                containers.map { container in
                    guard container.members != nil else { return container }
                    var container = container
                    let image = container["image"]?.string ?? ""
                    let isLatest =
                        !image.contains("@")
                        && (image.hasSuffix(":latest")
                            || !image.split(separator: "/").last.map { $0.contains(":") }.isTrue)
                    container.setDefault(isLatest ? "Always" : "IfNotPresent", at: "imagePullPolicy")
                    container.setDefault([:], at: "resources")
                    container.setDefault("/dev/termination-log", at: "terminationMessagePath")
                    container.setDefault("File", at: "terminationMessagePolicy")
                    if let ports = container["ports"]?.list { container["ports"] = .list(ports.map(withProtocol)) }
                    return container
                })
        }
    }

    private static func withProtocol(_ port: JSON) -> JSON {
        guard port.members != nil else { return port }
        var port = port
        port.setDefault("TCP", at: "protocol")
        return port
    }

    private static func service(_ object: inout JSON, _ store: Store) {
        object.setDefault("ClusterIP", at: "spec", "type")
        object.setDefault("None", at: "spec", "sessionAffinity")
        object.setDefault("Cluster", at: "spec", "internalTrafficPolicy")
        object.setDefault([:], at: "status", "loadBalancer")
        if let ports = object.at("spec", "ports")?.list {
            object.set(
                .list(
                    ports.map { port in
                        var port = withProtocol(port)
                        if let number = port["port"] { port.setDefault(number, at: "targetPort") }
                        return port
                    }), at: "spec", "ports")
        }
        guard object.at("spec", "type") != "ExternalName" else { return }
        if object.at("spec", "clusterIP") == nil {
            let taken = Set((store.objects["services"] ?? [:]).values.compactMap { $0.at("spec", "clusterIP")?.string })
            let free = (1...65_000).lazy.map { "10.96.\($0 / 250).\($0 % 250 + 1)" }.first { !taken.contains($0) }
            if let free { object.set(.string(free), at: "spec", "clusterIP") }
        }
        if let address = object.at("spec", "clusterIP"), object.at("spec", "clusterIPs") == nil {
            object.set([address], at: "spec", "clusterIPs")
            let isSix = address.string?.contains(":") ?? false
            object.setDefault([isSix ? "IPv6" : "IPv4"], at: "spec", "ipFamilies")
            object.setDefault("SingleStack", at: "spec", "ipFamilyPolicy")
        }
    }
}

extension Bool? {
    fileprivate var isTrue: Bool { self ?? false }
}
