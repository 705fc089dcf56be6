/// What a folder of object files amounts to. A value: fed with what was read, asked for the outcome.
///
/// A file that is wrong keeps its last good objects. An object that two files define stays that of the file which
/// was there first (at the start: first by name); the other definition is a problem.
struct FolderContents {
    static let maximumFiles = 10_000
    static let maximumObjects = 10_000

    /// What to call the folder in problems of its own.
    let label: String
    private let maximumObjects: Int
    private var files: [String: File] = [:]
    private var arrivals: UInt64 = 0
    /// Set while the folder as a whole cannot be read.
    var folderProblem: ObjectProblem?

    private struct File {
        /// Files read for the first time together have the same number.
        var arrival: UInt64
        var objects: [LocatedObject] = []
        var problems: [ObjectProblem] = []
    }

    init(label: String, maximumObjects: Int = FolderContents.maximumObjects) {
        self.label = label
        self.maximumObjects = maximumObjects
    }

    var fileNames: Set<String> { Set(files.keys) }

    /// To be called before the files of one scan are updated.
    mutating func beginScan() { arrivals += 1 }

    /// Takes in a file as it is now.
    mutating func update(_ name: String, _ reading: Result<[LocatedObject], DocumentReader.Problems>) {
        var file = files[name] ?? File(arrival: arrivals)
        switch reading {
        case .success(let objects):
            file.objects = objects
            file.problems = []
        case .failure(let problems):
            file.problems = problems.list
        }
        files[name] = file
    }

    mutating func remove(_ name: String) { files[name] = nil }

    /// All objects, first file first, and all problems.
    func outcome() -> (objects: [(file: String, object: KubernetesObject)], problems: [ObjectProblem]) {
        var owners: [ObjectKey: (file: String, line: Int)] = [:]
        var objects: [(file: String, object: KubernetesObject)] = []
        var problems = folderProblem.map { [$0] } ?? []
        let ordered = files.sorted { ($0.value.arrival, $0.key) < ($1.value.arrival, $1.key) }
        for (name, file) in ordered {
            problems += file.problems
            for located in file.objects {
                let key = located.object.key
                if let owner = owners[key] {
                    problems.append(
                        ObjectProblem(
                            file: name, line: located.line,
                            message: "\(key) is defined in \(owner.file):\(owner.line) already; that one counts"))
                    continue
                }
                guard objects.count < maximumObjects else {
                    problems.append(
                        ObjectProblem(
                            file: name, line: located.line,
                            message: "more than \(maximumObjects) objects in \(label); the rest is left out"))
                    return (objects, problems)
                }
                owners[key] = (name, located.line)
                objects.append((name, located.object))
            }
        }
        return (objects, problems)
    }
}
