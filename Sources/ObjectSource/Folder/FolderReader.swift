import Glibc

/// The two folders and what they amount to.
struct FolderReader {
    private var sourceScanner: FolderScanner
    private var statusScanner: FolderScanner?
    private var source: FolderContents
    private var status = StatusContents()
    /// What was last worked out, to which later changes are made.
    private var last: ObjectSnapshot?

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

    /// The part of what happened that can change anything; `nil` when there is none, as with somebody's temporary files.
    func relevant(_ news: FolderWatch.News) -> FolderWatch.News? {
        var result = news
        for (folder, names) in news.touched {
            let scanner = folder == sourceScanner.path ? sourceScanner : statusScanner
            guard let scanner, scanner.path == folder else { continue }
            result.touched[folder] = names.filter(scanner.accepts)
            result.arrived[folder] = news.arrived[folder]?.filter(scanner.accepts)
            // Files may be links that lead over one of another name, as those of a mounted ConfigMap do.
            let others = names.filter { !scanner.accepts($0) }
            result.isVague = result.isVague || others.contains { Self.isLink(folder + "/" + $0) }
        }
        return result.isVague || result.touched.values.contains { !$0.isEmpty } ? result : nil
    }

    private static func isLink(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFLNK
    }

    /// Looks at all files.
    /// - Parameter arrived: files that were renamed into place, by folder.
    mutating func scan(settle: Bool, _ arrived: [String: Set<String>] = [:]) -> Outcome {
        let whole = (
            source: arrived[sourceScanner.path] ?? [], status: statusScanner.flatMap { arrived[$0.path] } ?? []
        )
        return take(
            sourceScanner.scan(settle: settle, arrived: whole.source),
            statusScanner?.scan(settle: settle, arrived: whole.status))
    }

    /// Looks at what something has happened to.
    mutating func scan(_ news: FolderWatch.News) -> Outcome {
        func names(_ list: [String: Set<String>], _ scanner: FolderScanner?) -> Set<String> {
            scanner.flatMap { list[$0.path] } ?? []
        }
        let objects = (names(news.touched, sourceScanner), names(news.arrived, sourceScanner))
        let reports = (names(news.touched, statusScanner), names(news.arrived, statusScanner))
        return take(
            sourceScanner.scan(touched: objects.0, arrived: objects.1),
            statusScanner?.scan(touched: reports.0, arrived: reports.1))
    }

    private mutating func take(_ found: FolderScanner.Outcome, _ reports: FolderScanner.Outcome?) -> Outcome {
        var result = Outcome()
        source.beginScan()
        for name in found.removed { source.remove(name) }
        for (name, reading) in found.changed { source.update(name, reading) }
        result.changed = !found.removed.isEmpty || !found.changed.isEmpty || source.folderProblem != found.folderProblem
        source.folderProblem = found.folderProblem
        result.unsettled = found.unsettled
        result.folderProblem = found.folderProblem
        guard let reports else { return result }
        for name in reports.removed { status.remove(name) }
        for (name, reading) in reports.changed { status.update(name, reading) }
        result.changed =
            result.changed || !reports.removed.isEmpty || !reports.changed.isEmpty
            || status.folderProblem != reports.folderProblem
        status.folderProblem = reports.folderProblem
        result.unsettled = result.unsettled || reports.unsettled
        result.folderProblem = result.folderProblem ?? reports.folderProblem
        return result
    }

    /// The objects as of the last look. What has not changed since the snapshot before is shared with it, and not gone
    /// through.
    mutating func snapshot() -> ObjectSnapshot {
        let reported = status.takeTouched()
        var snapshot: ObjectSnapshot
        if let last, let keys = source.takeChanges() {
            snapshot = last
            for key in keys where key.kind != .pod {
                if let object = source.object(key) { snapshot.insert(object) } else { snapshot.remove(key) }
            }
            for name in reported.union(keys.lazy.filter { $0.kind == .pod }.map(\.name)) {
                var pod: Pod?
                if case .pod(let own) = source.object(ObjectKey(kind: .pod, name: name)) {
                    pod = status.merged(onto: own)
                }
                if snapshot.pods[name] != pod { snapshot.pods[name] = pod }
            }
        } else {
            snapshot = ObjectSnapshot()
            for object in source.rebuilt() { snapshot.insert(object) }
            snapshot.pods = status.merged(onto: snapshot.pods)
        }
        snapshot.problems = (source.problems + status.allProblems()).sorted()
        last = snapshot
        return snapshot
    }
}
