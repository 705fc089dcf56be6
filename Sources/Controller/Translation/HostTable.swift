import Mesh
import ObjectSource

/// Who gives a host its meaning where several objects name it.
///
/// Inside a namespace a Kubernetes service goes before service entries, and an old entry before a new one. Of the
/// namespaces that name a host one is canonical, for clients whose own namespace does not name it.
struct HostTable {
    /// A service's host says which service it is, so those are looked up as they are asked for: a table of them would
    /// have to be made anew, thousands of them, when one of them changes.
    private let services: ObjectTable<ServiceObject>
    private let configuration: MeshConfiguration
    /// Names of service entries.
    private var owners: [NamespacedHostname: String] = [:]
    /// Namespaces of service entries.
    private var canonical: [String: String] = [:]
    private var visibilities: [ObjectName: MeshConfiguration.EntryVisibility] = [:]

    init(_ configuration: MeshConfiguration, _ objects: ObjectSnapshot) {
        services = objects.services
        self.configuration = configuration
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
                let service = service(named: host)
                guard service?.namespace != key.namespace, owners[key] == nil else { continue }
                owners[key] = name.name
                if visibility == .everywhere, service == nil, canonical[host] == nil {
                    canonical[host] = name.namespace
                }
            }
        }
    }

    /// Every name that something here gives a meaning.
    var keys: Set<NamespacedHostname> {
        var keys = Set(owners.keys)
        for (name, service) in services where Self.hasHost(service) { keys.insert(Self.key(name, configuration)) }
        return keys
    }

    /// The hosts of an entry that it gives their meaning, each once.
    func hosts(of entry: ServiceEntry) -> [String] {
        let name = entry.metadata.objectName
        var seen: Set<String> = []
        return entry.hosts.filter { host in
            owners[NamespacedHostname(namespace: name.namespace, hostname: host)] == name.name
                && seen.insert(host).inserted
        }
    }

    func isCanonical(_ key: NamespacedHostname) -> Bool {
        (service(named: key.hostname)?.namespace ?? canonical[key.hostname]) == key.namespace
    }

    private static func hasHost(_ service: ServiceObject) -> Bool { service.spec.type != .externalName }

    /// The service whose host this is: no two have the same.
    private func service(named host: String) -> ObjectName? {
        let suffix = ".svc.\(configuration.domainSuffix)"
        guard host.hasSuffix(suffix) else { return nil }
        let both = host.dropLast(suffix.count)
        // There is no dot in a namespace.
        guard let dot = both.lastIndex(of: ".") else { return nil }
        let name = ObjectName(namespace: String(both[both.index(after: dot)...]), name: String(both[..<dot]))
        return services[name].map(Self.hasHost) == true ? name : nil
    }

    func visibility(of entry: ServiceEntry) -> MeshConfiguration.EntryVisibility {
        visibilities[entry.metadata.objectName] ?? .everywhere
    }

    static func key(_ service: ObjectName, _ configuration: MeshConfiguration) -> NamespacedHostname {
        NamespacedHostname(
            namespace: service.namespace,
            hostname: "\(service.name).\(service.namespace).svc.\(configuration.domainSuffix)")
    }
}
