/// The two folders and what they amount to.
struct FolderReader {
    private var sourceScanner: FolderScanner
    private var statusScanner: FolderScanner?
    private var source: FolderContents
    private var status = StatusContents()

    struct Outcome {
        var changed = false
        var unsettled = false
        var folderProblem: ObjectProblem?
    }

    init(source: String, status: String?) {
        self.source = FolderContents(label: source)
        sourceScanner = FolderScanner(path: source, label: source, maximumFiles: FolderContents.maximumFiles) { name in
            [".yaml", ".yml", ".json"].contains { name.hasSuffix($0) }
        }
        // Several reporters for each pod.
        statusScanner = status.map {
            FolderScanner(path: $0, label: $0, maximumFiles: 4 * FolderContents.maximumFiles) { name in
                StatusContents.reporter(ofFile: name) != nil
            }
        }
    }

    /// - Parameter arrived: files that were renamed into place, by folder.
    mutating func scan(settle: Bool, arrived: FolderWatch.Arrivals = [:]) -> Outcome {
        var result = Outcome()
        let found = sourceScanner.scan(settle: settle, arrived: arrived[sourceScanner.path] ?? [])
        source.beginScan()
        for name in found.removed { source.remove(name) }
        for (name, reading) in found.changed { source.update(name, reading) }
        result.changed = !found.removed.isEmpty || !found.changed.isEmpty || source.folderProblem != found.folderProblem
        source.folderProblem = found.folderProblem
        result.unsettled = found.unsettled
        result.folderProblem = found.folderProblem

        let reported = statusScanner.flatMap { arrived[$0.path] } ?? []
        if let reports = statusScanner?.scan(settle: settle, arrived: reported) {
            for name in reports.removed { status.remove(name) }
            for (name, reading) in reports.changed { status.update(name, reading) }
            result.changed =
                result.changed || !reports.removed.isEmpty || !reports.changed.isEmpty
                || status.folderProblem != reports.folderProblem
            status.folderProblem = reports.folderProblem
            result.unsettled = result.unsettled || reports.unsettled
            result.folderProblem = result.folderProblem ?? reports.folderProblem
        }
        return result
    }

    func snapshot() -> ObjectSnapshot {
        var snapshot = ObjectSnapshot()
        let (objects, problems) = source.outcome()
        for (_, object) in objects { snapshot.insert(object) }
        snapshot.pods = status.merged(onto: snapshot.pods)
        snapshot.problems = (problems + status.allProblems()).sorted()
        return snapshot
    }
}
