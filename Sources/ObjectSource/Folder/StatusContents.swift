/// What the reporters of a node say about pods, laid over the pods of the source.
///
/// Each reporter has its own file for a pod, `<namespace>.<pod>.<reporter>.yaml`, that holds a Pod with the fields it
/// knows: the kubelet's part uid, node, phase, addresses and readiness, an agent annotations.
struct StatusContents {
    /// The reporter that tells which instance of a pod is running.
    static let kubelet = "kubelet"

    private var reports: [String: (reporter: String, pod: Pod)] = [:]
    private var problems: [String: [ObjectProblem]] = [:]
    /// Which files are about a pod.
    private var byPod: [ObjectName: Set<String>] = [:]
    /// Pods about which something else is reported than when this was last taken.
    private var touched: Set<ObjectName> = []
    var folderProblem: ObjectProblem?

    var fileNames: Set<String> { Set(reports.keys).union(problems.keys) }

    /// The reporter's name of a file, `nil` when the file is not one of theirs.
    static func reporter(ofFile name: String) -> String? {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count >= 4, parts.last == "yaml", let first = parts.first, !first.isEmpty else { return nil }
        return String(parts[parts.count - 2])
    }

    mutating func update(_ name: String, _ reading: Result<[LocatedObject], DocumentReader.Problems>) {
        problems[name] = nil
        switch reading {
        case .failure(let found):
            problems[name] = found.list
        case .success(let objects):
            guard let reporter = Self.reporter(ofFile: name), objects.count == 1, case .pod(let pod) = objects[0].object
            else {
                problems[name] = [ObjectProblem(file: name, message: "is no report on one pod")]
                return
            }
            forget(name)
            reports[name] = (reporter, pod)
            byPod[pod.name, default: []].insert(name)
            touched.insert(pod.name)
        }
    }

    mutating func remove(_ name: String) {
        forget(name)
        problems[name] = nil
    }

    private mutating func forget(_ name: String) {
        guard let pod = reports.removeValue(forKey: name)?.pod.name else { return }
        byPod[pod]?.remove(name)
        if byPod[pod]?.isEmpty == true { byPod[pod] = nil }
        touched.insert(pod)
    }

    mutating func takeTouched() -> Set<ObjectName> {
        defer { touched = [] }
        return touched
    }

    func allProblems() -> [ObjectProblem] {
        (folderProblem.map { [$0] } ?? []) + problems.keys.sorted().flatMap { problems[$0] ?? [] }
    }

    /// The pods with everything that is reported on them.
    func merged(onto pods: PodTable) -> PodTable {
        var result = pods
        for name in byPod.keys {
            guard let pod = pods[name] else { continue }
            let merged = merged(onto: pod)
            if merged != pod { result[name] = merged }
        }
        return result
    }

    /// A pod with everything that is reported on it.
    func merged(onto pod: Pod) -> Pod {
        var result = pod
        func rank(_ file: String) -> (Int, String) { (reports[file]?.reporter == Self.kubelet ? 0 : 1, file) }
        // The kubelet's first: it says which instance the others must mean.
        for file in (byPod[pod.name] ?? []).sorted(by: { rank($0) < rank($1) }) {
            if let report = reports[file]?.pod { Self.lay(report, over: &result) }
        }
        return result
    }

    /// Unless the report is about another pod of that name.
    private static func lay(_ report: Pod, over pod: inout Pod) {
        if !report.metadata.uid.isEmpty {
            if pod.metadata.uid.isEmpty { pod.metadata.uid = report.metadata.uid }
            guard pod.metadata.uid == report.metadata.uid else { return }
        }
        pod.metadata.annotations.merge(report.metadata.annotations) { _, reported in reported }
        if let deletion = report.metadata.deletionTimestamp { pod.metadata.deletionTimestamp = deletion }
        if !report.spec.nodeName.isEmpty { pod.spec.nodeName = report.spec.nodeName }
        if let phase = report.status.phase {
            pod.status.phase = phase
            pod.status.isReady = report.status.isReady
        }
        if !report.status.podIPs.isEmpty { pod.status.podIPs = report.status.podIPs }
    }
}
