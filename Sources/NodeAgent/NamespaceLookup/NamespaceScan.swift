import Addressing
import Glibc
import LinuxNetwork
import Netlink

/// Finds the network namespaces of pods that run already, by the machine's processes. Blocks.
///
/// A namespace is a pod's when a process in it is in the pod's cgroup **and** an address of the pod is in it. It is never
/// the node's own, and never one that is somebody's already; of several the one whose process is oldest counts, because
/// a container may make namespaces of its own later.
struct NamespaceScan: Sendable {
    /// A pod that is looked for.
    struct Wanted: Hashable, Sendable {
        let uid: String
        /// Without any nothing can be proven, and nothing is found.
        let addresses: Set<IPAddress>
    }

    struct Found: Sendable {
        let namespace: SharedNamespace
        /// The container of the oldest process: with most runtimes the sandbox, as CNI names it.
        let containerID: String
        /// A path under which the namespace can be opened later.
        let path: String
    }

    struct Result: Sendable {
        var found: [String: Found] = [:]
        /// By the pod's uid: why none of what was seen is taken.
        var refusals: [String: String] = [:]
    }

    /// Where processes are seen, and where runtimes keep names for namespaces.
    var proc = "/proc"
    var namedFolders = ["/run/netns", "/var/run/netns"]
    let hosts: Set<NamespaceID>
    let claimed: Set<NamespaceID>

    func run(_ wanted: [Wanted]) throws(AgentError) -> Result {
        let addresses = Dictionary(wanted.map { ($0.uid.lowercased(), $0.addresses) }) { first, _ in first }
        var result = Result()
        var oldest: [String: UInt64] = [:]
        // A namespace has been looked at for a pod; its processes are many.
        var verdicts: [Key: Bool] = [:]
        let names = try FileList.names(in: proc)
        guard !names.isEmpty else { throw AgentError(.file, "no processes can be seen in \(proc)") }
        for pid in names.compactMap({ Int32($0) }) {
            // A process that has ended meanwhile, or a kernel thread: the next one.
            guard let process = try? ProcessEntry(pid, proc: proc), let id = try? process.namespaceID(),
                let text = try? process.cgroups()
            else { continue }
            guard !hosts.contains(id) else { continue }
            let owner: PodCgroup
            do throws(AgentError) {
                guard let found = try PodCgroup.read(text) else { continue }
                owner = found
            } catch {
                for (uid, _) in addresses where Self.mentions(text, uid) { result.refusals[uid] = error.message }
                continue
            }
            guard let expected = addresses[owner.podUID] else { continue }
            guard !claimed.contains(id) else {
                result.refusals[owner.podUID] = "its process \(pid) is in the namespace of another pod (\(id))"
                continue
            }
            guard let start = try? process.startTime(), start < oldest[owner.podUID] ?? .max else { continue }
            let key = Key(id: id, uid: owner.podUID)
            if verdicts[key] == false { continue }
            guard let namespace = try? process.namespace(), namespace.id == id else { continue }
            guard Self.owns(namespace, expected) else {
                verdicts[key] = false
                result.refusals[owner.podUID] =
                    expected.isEmpty
                    ? "it has no address yet" : "the namespace of its process \(pid) (\(id)) has none of its addresses"
                continue
            }
            oldest[owner.podUID] = start
            result.found[owner.podUID] = Found(
                namespace: SharedNamespace(namespace), containerID: owner.containerID, path: path(of: id, pid))
        }
        for uid in result.found.keys { result.refusals[uid] = nil }
        for uid in addresses.keys where result.found[uid] == nil && result.refusals[uid] == nil {
            result.refusals[uid] = "no process of it can be seen in \(proc)"
        }
        return result
    }

    private struct Key: Hashable {
        let id: NamespaceID
        let uid: String
    }

    private static func mentions(_ text: String, _ uid: String) -> Bool {
        text.contains(uid) || text.contains(uid.replacing("-", with: "_"))
    }

    private static func owns(_ namespace: borrowing NetworkNamespace, _ expected: Set<IPAddress>) -> Bool {
        guard !expected.isEmpty else { return false }
        // One that cannot be entered or read is not proven to be the pod's.
        let present = try? namespace.run { () throws(NetlinkError) in
            var routes = try RouteSocket()
            return Set(try routes.addresses().map(\.address.canonical))
        }
        guard let present else { return false }
        return !present.isDisjoint(with: expected)
    }

    /// The runtime's name for it, which lives as long as the sandbox; a process may end before it.
    private func path(of id: NamespaceID, _ pid: Int32) -> String {
        for folder in namedFolders {
            // A folder that cannot be read has no names for us.
            for name in (try? FileList.names(in: folder)) ?? [] {
                var info = stat()
                let path = "\(folder)/\(name)"
                guard stat(path, &info) == 0 else { continue }
                if NamespaceID(device: UInt64(info.st_dev), inode: UInt64(info.st_ino)) == id { return path }
            }
        }
        return "\(proc)/\(pid)/ns/net"
    }
}
