/// What the reporters of a node say about pods, laid over the pods of the source.
///
/// Each reporter has its own file for a pod, `<namespace>.<pod>.<reporter>.yaml`, that holds a Pod with the fields it
/// knows: the kubelet's part uid, node, phase, addresses and readiness, an agent annotations.
struct StatusContents {
    /// The reporter that tells which instance of a pod is running.
    static let kubelet = "kubelet"

    private var reports: [String: (reporter: String, pod: Pod)] = [:]
    private var problems: [String: [ObjectProblem]] = [:]
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
            reports[name] = (reporter, pod)
        }
    }

    mutating func remove(_ name: String) {
        reports[name] = nil
        problems[name] = nil
    }

    func allProblems() -> [ObjectProblem] {
        (folderProblem.map { [$0] } ?? []) + problems.keys.sorted().flatMap { problems[$0] ?? [] }
    }

    /// The pods with everything that is reported on them.
    func merged(onto pods: PodTable) -> PodTable {
        var result = pods
        let ordered = reports.sorted {
            // The kubelet's first: it says which instance the others must mean.
            ($0.value.reporter == Self.kubelet ? 0 : 1, $0.key) < ($1.value.reporter == Self.kubelet ? 0 : 1, $1.key)
        }
        for (_, report) in ordered {
            guard var pod = result[report.pod.name] else { continue }
            guard Self.lay(report.pod, over: &pod) else { continue }
            result[report.pod.name] = pod
        }
        return result
    }

    /// Whether the report is about this very pod.
    private static func lay(_ report: Pod, over pod: inout Pod) -> Bool {
        if !report.metadata.uid.isEmpty {
            if pod.metadata.uid.isEmpty { pod.metadata.uid = report.metadata.uid }
            guard pod.metadata.uid == report.metadata.uid else { return false }
        }
        pod.metadata.annotations.merge(report.metadata.annotations) { _, reported in reported }
        if let deletion = report.metadata.deletionTimestamp { pod.metadata.deletionTimestamp = deletion }
        if !report.spec.nodeName.isEmpty { pod.spec.nodeName = report.spec.nodeName }
        if let phase = report.status.phase {
            pod.status.phase = phase
            pod.status.isReady = report.status.isReady
        }
        if !report.status.podIPs.isEmpty { pod.status.podIPs = report.status.podIPs }
        return true
    }
}
