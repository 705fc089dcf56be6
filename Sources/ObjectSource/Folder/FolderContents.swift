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
    /// Which file each object is in, as long as every object has one definition and all of them count; `nil` when that has to
    /// be found out.
    private var places: [ObjectKey: String]?
    /// Objects whose definition was touched since this was last taken.
    private var changes: Set<ObjectKey> = []
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
            leave(name)
            enter(objects, in: name)
            file.objects = objects
            file.problems = []
        case .failure(let problems):
            file.problems = problems.list
        }
        files[name] = file
    }

    mutating func remove(_ name: String) {
        leave(name)
        files[name] = nil
    }

    private mutating func leave(_ name: String) {
        for located in files[name]?.objects ?? [] {
            let key = located.object.key
            changes.insert(key)
            places?[key] = nil
        }
    }

    private mutating func enter(_ objects: [LocatedObject], in name: String) {
        for located in objects {
            let key = located.object.key
            changes.insert(key)
            if places?.updateValue(name, forKey: key) != nil { places = nil }
        }
        if let count = places?.count, count > maximumObjects { places = nil }
    }

    /// The objects that may be others than before; `nil` when all have to be gone through.
    mutating func takeChanges() -> Set<ObjectKey>? {
        defer { changes = [] }
        return places == nil ? nil : changes
    }

    /// An object as it is defined now, as long as ``takeChanges()`` can tell.
    func object(_ key: ObjectKey) -> KubernetesObject? {
        guard let name = places?[key] else { return nil }
        return files[name]?.objects.first { $0.object.key == key }?.object
    }

    /// All objects that count, gone through.
    mutating func rebuilt() -> [KubernetesObject] {
        let objects = outcome().objects
        let defined = files.values.reduce(0) { $0 + $1.objects.count }
        places = nil
        // One definition each, and none left out.
        if objects.count == defined {
            places = Dictionary(objects.map { ($0.object.key, $0.file) }, uniquingKeysWith: { first, _ in first })
        }
        changes = []
        return objects.map(\.object)
    }

    /// What is wrong, in no particular order.
    var problems: [ObjectProblem] {
        guard places == nil else { return (folderProblem.map { [$0] } ?? []) + files.values.flatMap(\.problems) }
        return outcome().problems
    }

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
