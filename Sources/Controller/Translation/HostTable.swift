import Mesh
import ObjectSource

/// Who gives a host its meaning where several objects name it.
///
/// Inside a namespace a Kubernetes service goes before service entries, and an old entry before a new one. Of the
/// namespaces that name a host one is canonical, for clients whose own namespace does not name it.
struct HostTable {
    private enum Owner: Equatable {
        case service
        case entry(String)
    }

    private var owners: [NamespacedHostname: Owner] = [:]
    private var canonical: [String: String] = [:]
    private var visibilities: [ObjectName: MeshConfiguration.EntryVisibility] = [:]

    init(_ configuration: MeshConfiguration, _ objects: ObjectSnapshot) {
        for (name, service) in objects.services where service.spec.type != .externalName {
            let key = Self.key(name, configuration)
            owners[key] = .service
            canonical[key.hostname] = key.namespace
        }
        let entries = objects.serviceEntries.values.sorted { left, right in
            let (first, second) = (left.metadata.creationTimestamp ?? .max, right.metadata.creationTimestamp ?? .max)
            return (first, left.metadata.objectName) < (second, right.metadata.objectName)
        }
        for entry in entries {
            let name = entry.metadata.objectName
            let labels = objects.namespaces[name.namespace]?.metadata.labels ?? [:]
            let visibility = configuration.visibility(ofEntriesIn: labels)
            visibilities[name] = visibility
            guard visibility != .none else { continue }
            for host in entry.hosts {
                let key = NamespacedHostname(namespace: name.namespace, hostname: host)
                guard owners[key] == nil else { continue }
                owners[key] = .entry(name.name)
                if visibility == .everywhere, canonical[host] == nil { canonical[host] = name.namespace }
            }
        }
    }

    /// Every name that something here gives a meaning.
    var keys: some Sequence<NamespacedHostname> { owners.keys }

    /// The hosts of an entry that it gives their meaning, each once.
    func hosts(of entry: ServiceEntry) -> [String] {
        let name = entry.metadata.objectName
        var seen: Set<String> = []
        return entry.hosts.filter { host in
            owners[NamespacedHostname(namespace: name.namespace, hostname: host)] == .entry(name.name)
                && seen.insert(host).inserted
        }
    }

    func isCanonical(_ key: NamespacedHostname) -> Bool { canonical[key.hostname] == key.namespace }

    func visibility(of entry: ServiceEntry) -> MeshConfiguration.EntryVisibility {
        visibilities[entry.metadata.objectName] ?? .everywhere
    }

    static func key(_ service: ObjectName, _ configuration: MeshConfiguration) -> NamespacedHostname {
        NamespacedHostname(
            namespace: service.namespace,
            hostname: "\(service.name).\(service.namespace).svc.\(configuration.domainSuffix)")
    }
}
