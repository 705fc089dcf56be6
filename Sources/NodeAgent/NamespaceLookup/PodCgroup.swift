/// Whose a process is, by `/proc/<pid>/cgroup`: the pod's uid and the container's ID, as kubelet and the runtimes write
/// them into the names of cgroups. Pure.
struct PodCgroup: Hashable, Sendable {
    /// In the form of a UUID with dashes, whatever the driver made of them.
    let podUID: String
    let containerID: String

    /// Reads all lines, of cgroup v1 (one for each hierarchy), of v2 (one), or of both.
    /// - Returns: `nil` for a process of no pod.
    /// - Throws: When the lines are none, or contradict one another: doubt about whose a process is is no answer.
    static func read(_ text: String) throws(AgentError) -> PodCgroup? {
        var podUIDs: Set<String> = []
        var containerIDs: Set<String> = []
        for line in text.split(separator: "\n") {
            // hierarchy-ID:controllers:path; the path may hold colons.
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3 else {
                throw AgentError(.invalidRequest, "a cgroup line must have three parts: \"\(line.prefix(200))\"")
            }
            guard let found = parse(path: parts[2]) else { continue }
            podUIDs.insert(found.podUID)
            if let containerID = found.containerID { containerIDs.insert(containerID) }
        }
        guard podUIDs.count <= 1 else {
            throw AgentError(
                .invalidRequest, "multiple pod UIDs in cgroups (\(podUIDs.sorted().joined(separator: ", ")))")
        }
        guard containerIDs.count <= 1 else {
            throw AgentError(
                .invalidRequest,
                "multiple container IDs found in cgroups (\(containerIDs.sorted().joined(separator: ", ")))")
        }
        guard let podUID = podUIDs.first, let containerID = containerIDs.first else { return nil }
        return PodCgroup(podUID: podUID, containerID: containerID)
    }

    /// The path's first pod, and the container that comes next below it. A container can make cgroups below its own and
    /// call them what it likes; what is above is kubelet's and the runtime's word.
    private static func parse(path: Substring) -> (podUID: String, containerID: String?)? {
        // containerd with a path of systemd's in the driver cgroupfs: `slice:cri-containerd:ID` in one component.
        let components = path.split { $0 == "/" || $0 == ":" }
        guard let place = components.firstIndex(where: { podUID(of: $0) != nil }),
            let uid = podUID(of: components[place])
        else { return nil }
        let id = components[(place + 1)...].lazy.compactMap(containerID(of:)).first
        return (uid, id)
    }

    /// `pod<uid>`, `kubepods-burstable-pod<uid with underscores>.slice`, `kubelet-kubepods-pod....slice`
    private static func podUID(of component: Substring) -> String? {
        var name = component
        if name.hasSuffix(".slice") { name.removeLast(6) }
        let word = "pod"
        // The last one: `kubepods` has the same letters.
        guard let start = lastRange(of: word, in: name) else { return nil }
        if let before = name[..<start].last, before != "-", before != "_" { return nil }
        let digits = name[name.index(start, offsetBy: word.count)...]
        let hex = digits.filter { $0 != "-" && $0 != "_" }
        guard hex.utf8.count == 32, digits.utf8.count == 32 || digits.utf8.count == 36, hex.allSatisfy(isHex) else {
            return nil
        }
        var groups: [Substring] = []
        var rest = hex[...]
        for length in [8, 4, 4, 4, 12] {
            groups.append(rest.prefix(length))
            rest = rest.dropFirst(length)
        }
        return groups.joined(separator: "-").lowercased()
    }

    private static func lastRange(of word: String, in text: Substring) -> Substring.Index? {
        text.indices.last { text[$0...].hasPrefix(word) }
    }

    /// `<64 hex digits>`, `cri-containerd-<id>.scope`, `crio-<id>.scope`, `docker-<id>.scope`
    private static func containerID(of component: Substring) -> String? {
        var name = component
        if name.hasSuffix(".scope") { name.removeLast(6) }
        // CRI-O's monitor of a container is no process of it.
        guard !name.hasPrefix("crio-conmon-") else { return nil }
        if let dash = name.lastIndex(of: "-") { name = name[name.index(after: dash)...] }
        guard name.utf8.count == 64, name.allSatisfy(isHex) else { return nil }
        return name.lowercased()
    }

    private static func isHex(_ character: Character) -> Bool { character.isASCII && character.isHexDigit }
}
