import Mesh
import ObjectSource

/// Which services a workload is an endpoint of, and on which of its ports.
struct Memberships {
    private enum Target {
        case service(ServiceObject, key: NamespacedHostname)
        case entry(ServiceEntry, hosts: [String])
    }

    /// A class, since a copy of a service for every pod that it is held against would cost more than all else.
    private final class Selecting: Sendable {
        let selector: [String: String]
        let target: Target

        init(_ selector: [String: String], _ target: Target) {
            self.selector = selector
            self.target = target
        }
    }

    private let surroundings: Surroundings
    private struct Label: Hashable {
        let name: String
        let value: String
    }

    /// By namespace, and there by one label of the selector: a namespace with thousands of services is not walked for each
    /// of its pods.
    private let selecting: [String: [Label: [Selecting]]]
    private typealias Naming = [ObjectName: [(uid: String, service: ServiceObject)]]
    /// By pod: services without a selector whose slices name it.
    private let naming: Naming
    /// The same by the slices' namespace.
    private let namingIn: [String: Naming]

    /// - Parameter last: Of earlier surroundings, and the namespaces in which services, service entries, slices or the
    ///   namespace itself have changed since. `nil`: everything is looked at.
    init(_ surroundings: Surroundings, reusing last: (Memberships, changed: Set<String>)? = nil) {
        self.surroundings = surroundings
        let objects = surroundings.objects
        let changed = last?.changed
        var selecting = last?.0.selecting ?? [:]
        var naming = last?.0.namingIn ?? [:]
        for namespace in last?.changed ?? [] {
            selecting[namespace] = nil
            naming[namespace] = nil
        }
        for name in objects.services.names(in: changed) {
            guard let service = objects.services[name], service.spec.type != .externalName,
                let label = Self.label(of: service.spec.selector)
            else { continue }
            selecting[name.namespace, default: [:]][label, default: []].append(
                Selecting(service.spec.selector, .service(service, key: surroundings.key(name))))
        }
        for (name, entry) in objects.serviceEntries
        where changed?.contains(name.namespace) ?? true {
            guard let label = Self.label(of: entry.selector) else { continue }
            let hosts = surroundings.hosts.hosts(of: entry)
            guard !hosts.isEmpty else { continue }
            selecting[name.namespace, default: [:]][label, default: []].append(
                Selecting(entry.selector, .entry(entry, hosts: hosts)))
        }
        self.selecting = selecting
        for name in objects.endpointSlices.names(in: changed) {
            guard let slice = objects.endpointSlices[name],
                let service = EndpointSliceTranslation.service(of: slice, in: objects), service.spec.selector.isEmpty
            else { continue }
            for endpoint in slice.endpoints {
                guard let target = endpoint.target, target.kind == "Pod" else { continue }
                let pod = ObjectName(namespace: target.namespace, name: target.name)
                naming[name.namespace, default: [:]][pod, default: []].append((target.uid, service))
            }
        }
        namingIn = naming
        self.naming = naming.values.reduce(into: [:]) { $0.merge($1, uniquingKeysWith: +) }
    }

    // MARK: Pods

    /// Pods that slices name otherwise than before; those that are selected are not looked at.
    func podsNamedOtherwise(than before: Memberships) -> [ObjectName] {
        Set(naming.keys).union(before.naming.keys).filter { name in
            let (new, old) = (naming[name] ?? [], before.naming[name] ?? [])
            return !new.elementsEqual(old) { $0.uid == $1.uid && $0.service == $1.service }
        }
    }

    func services(of pod: Pod) -> [NamespacedHostname: PortMap] {
        var result: [NamespacedHostname: PortMap] = [:]
        for found in matching(pod.metadata.labels, in: pod.metadata.namespace) {
            switch found.target {
            case .service(let service, let key):
                result[key] = Self.ports(service, pod)
            case .entry(let entry, let hosts):
                let ports = PortMap(
                    entry.ports.map { port in
                        (port.number, Self.containerPort(port.name, pod) ?? port.target ?? port.number)
                    })
                for host in hosts { result[Self.key(entry, host)] = ports }
            }
        }
        for (uid, service) in naming[pod.name] ?? []
        where uid.isEmpty || pod.metadata.uid.isEmpty || uid == pod.metadata.uid {
            result[surroundings.key(service.metadata.objectName)] = Self.ports(service, pod)
        }
        return result
    }

    /// A port whose name the pod does not have is left out: there is nowhere to send its traffic.
    private static func ports(_ service: ServiceObject, _ pod: Pod) -> PortMap {
        var map = PortMap()
        for port in service.spec.ports {
            switch port.target {
            case .number(let number): map[port.port] = number
            case .name(let name): map[port.port] = containerPort(name, pod)
            }
        }
        return map
    }

    /// Of a container or of an init container that runs beside them.
    private static func containerPort(_ name: String, _ pod: Pod) -> UInt16? {
        let containers = pod.spec.containers + pod.spec.initContainers.filter { $0.restartPolicy == "Always" }
        return containers.lazy.flatMap(\.ports).first { $0.name == name && $0.transport == .tcp }?.port
    }

    // MARK: Workload entries

    func services(of object: WorkloadEntry) -> [NamespacedHostname: PortMap] {
        var result: [NamespacedHostname: PortMap] = [:]
        for found in matching(object.labels, in: object.metadata.namespace) {
            switch found.target {
            case .service(let service, let key):
                result[key] = Self.ports(service, object.spec)
            case .entry(let entry, let hosts):
                for host in hosts { result[Self.key(entry, host)] = Self.ports(entry, object.spec) }
            }
        }
        return result
    }

    /// The entry's own port for a name goes before what the service says.
    private static func ports(_ service: ServiceObject, _ endpoint: WorkloadEntrySpec) -> PortMap {
        var map = PortMap()
        for port in service.spec.ports {
            switch port.target {
            case .number(let number): map[port.port] = endpoint.ports[port.name] ?? number
            case .name(let name): map[port.port] = endpoint.ports[port.name] ?? endpoint.ports[name]
            }
        }
        return map
    }

    static func ports(_ entry: ServiceEntry, _ endpoint: WorkloadEntrySpec) -> PortMap {
        PortMap(entry.ports.map { ($0.number, endpoint.ports[$0.name] ?? $0.target ?? $0.number) })
    }

    static func key(_ entry: ServiceEntry, _ host: String) -> NamespacedHostname {
        NamespacedHostname(namespace: entry.metadata.namespace, hostname: host)
    }

    private func matching(_ labels: [String: String], in namespace: String) -> [Selecting] {
        guard let selecting = selecting[namespace] else { return [] }
        return labels.flatMap { name, value in
            (selecting[Label(name: name, value: value)] ?? []).filter { labels.isMatched(by: $0.selector) }
        }
    }

    /// The one that a selector is found by; `nil` for one that selects nothing.
    private static func label(of selector: [String: String]) -> Label? {
        selector.min { $0.key < $1.key }.map { Label(name: $0.key, value: $0.value) }
    }
}
