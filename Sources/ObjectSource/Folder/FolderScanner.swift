import Glibc

/// Reads the files of a folder that have changed since the last time. Not recursive; hidden files are passed over.
struct FolderScanner {
    /// A file that was written a moment ago may be half a file: it must have rested this long.
    static let restNanoseconds: Int64 = 30_000_000
    /// A file that is written without a pause is read in the end as it is.
    private static let patience = 60

    struct Outcome {
        var changed: [(name: String, reading: Result<[LocatedObject], DocumentReader.Problems>)] = []
        var removed: [String] = []
        /// Files that wait to come to rest: scan again soon.
        var unsettled = false
        var folderProblem: ObjectProblem?
    }

    let path: String
    /// Which file names count.
    let accepts: @Sendable (String) -> Bool
    private let label: String
    private let maximumFiles: Int
    private var known: [String: Fingerprint] = [:]
    private var waiting: [String: Int] = [:]
    /// Those that had not come to rest at the last look.
    private var restless: Set<String> = []
    private var folderProblem: ObjectProblem?

    private struct Fingerprint: Equatable {
        var device: UInt64
        var inode: UInt64
        var size: Int64
        var modified: Int64
        var changed: Int64

        init(_ status: stat) {
            device = UInt64(status.st_dev)
            inode = UInt64(status.st_ino)
            size = Int64(status.st_size)
            modified = Int64(status.st_mtim.tv_sec) * 1_000_000_000 + Int64(status.st_mtim.tv_nsec)
            changed = Int64(status.st_ctim.tv_sec) * 1_000_000_000 + Int64(status.st_ctim.tv_nsec)
        }
    }

    /// - Parameters:
    ///   - label: What to call the folder in problems.
    ///   - accepts: Which file names count.
    init(path: String, label: String, maximumFiles: Int, accepts: @escaping @Sendable (String) -> Bool) {
        self.path = path
        self.label = label
        self.maximumFiles = maximumFiles
        self.accepts = accepts
    }

    /// Looks at all files.
    ///
    /// - Parameters:
    ///   - settle: `false` reads files as they are, however fresh.
    ///   - arrived: names of files that are known to be whole, because they were renamed into place.
    mutating func scan(settle: Bool, arrived: Set<String> = []) -> Outcome {
        folderProblem = nil
        var names: [String]
        switch Self.list(path) {
        case .failure(let reason): return unseen(reason)
        case .success(let all): names = all.filter(accepts).sorted()
        }
        if names.count > maximumFiles {
            folderProblem = ObjectProblem(
                file: label, message: "holds \(names.count) files; only the first \(maximumFiles) are read")
            names.removeLast(names.count - maximumFiles)
        }
        let present = Set(names)
        restless.formIntersection(present)
        waiting = waiting.filter { present.contains($0.key) }
        let lost = known.keys.filter { !present.contains($0) }.sorted()
        for name in lost { known[name] = nil }
        var outcome = look(at: names, settle: settle, arrived)
        outcome.removed = lost + outcome.removed
        return outcome
    }

    /// Looks at those files alone that something has happened to, and those that had not come to rest.
    mutating func scan(touched: Set<String>, arrived: Set<String>) -> Outcome {
        let names = touched.filter(accepts).union(restless)
        // With too many files it depends on the others which are read.
        guard folderProblem == nil, known.count + names.count <= maximumFiles else {
            return scan(settle: true, arrived: arrived)
        }
        let mayBeLost = names.contains { known[$0] != nil && access(path + "/" + $0, F_OK) != 0 }
        if mayBeLost, case .failure(let reason) = Self.list(path) { return unseen(reason) }
        return look(at: names.sorted(), settle: true, arrived)
    }

    /// Not an empty folder, but one that cannot be seen: what is known of it stays.
    private mutating func unseen(_ reason: Reason) -> Outcome {
        folderProblem = ObjectProblem(
            file: label, message: "the folder cannot be read (\(reason.text)); the last good state stays in force")
        return Outcome(folderProblem: folderProblem)
    }

    private mutating func look(at names: [String], settle: Bool, _ arrived: Set<String>) -> Outcome {
        var outcome = Outcome(folderProblem: folderProblem)
        var clock = timespec()
        clock_gettime(CLOCK_REALTIME, &clock)
        let now = Int64(clock.tv_sec) * 1_000_000_000 + Int64(clock.tv_nsec)
        for name in names {
            restless.remove(name)
            switch look(name, settle: settle && !arrived.contains(name) ? now : nil) {
            case .gone:
                waiting[name] = nil
                if known.removeValue(forKey: name) != nil { outcome.removed.append(name) }
            case .same: break
            case .unsettled: restless.insert(name)
            case .changed(let reading): outcome.changed.append((name, reading))
            }
        }
        outcome.unsettled = !restless.isEmpty
        return outcome
    }

    private enum Look {
        case gone
        case same
        case unsettled
        case changed(Result<[LocatedObject], DocumentReader.Problems>)
    }

    private mutating func look(_ name: String, settle now: Int64?) -> Look {
        let path = path + "/" + name
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return .gone }
        let before = Fingerprint(status)
        if known[name] == before { return .same }
        if let now, (0..<Self.restNanoseconds).contains(now - max(before.modified, before.changed)), mayWait(name) {
            return .unsettled
        }
        // An editor that empties a file before it writes must not take a mesh away.
        if status.st_size == 0 {
            known[name] = before
            return .changed(.failure(.init(name, 0, "is empty; remove the file to remove its objects")))
        }
        // Non-blocking, should a pipe have come in the file's place.
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
        guard file >= 0 else {
            known[name] = before
            return .changed(.failure(.init(name, 0, "cannot be read: \(Reason(errno: errno).text)")))
        }
        defer { close(file) }
        switch Self.read(file, limit: DocumentReader.maximumFileSize) {
        case .failure(let reason):
            known[name] = before
            return .changed(.failure(.init(name, 0, "cannot be read: \(reason.text)")))
        case .success(let bytes):
            guard fstat(file, &status) == 0, Fingerprint(status) == before || !mayWait(name) else { return .unsettled }
            known[name] = before
            waiting[name] = nil
            return .changed(DocumentReader.read(bytes, file: name))
        }
    }

    private mutating func mayWait(_ name: String) -> Bool {
        waiting[name, default: 0] += 1
        return waiting[name, default: 0] <= Self.patience
    }

    struct Reason: Error {
        let text: String
        init(errno code: CInt) { text = String(cString: strerror(code)) }
    }

    /// At most `limit` bytes and one more, by which too large a file is known.
    private static func read(_ file: CInt, limit: Int) -> Result<[UInt8], Reason> {
        // One piece of memory for all of a file, never cleared first: there are many files, and most are small.
        withUnsafeTemporaryAllocation(byteCount: 16 << 10, alignment: 1) { chunk in
            var bytes: [UInt8] = []
            while bytes.count <= limit {
                let count = Glibc.read(file, chunk.baseAddress, min(chunk.count, limit + 1 - bytes.count))
                if count > 0 { bytes.append(contentsOf: UnsafeRawBufferPointer(rebasing: chunk[..<count])) }
                if count == 0 { break }
                if count < 0 && errno != EINTR { return .failure(Reason(errno: errno)) }
            }
            return .success(bytes)
        }
    }

    private static func list(_ path: String) -> Result<[String], Reason> {
        guard let directory = opendir(path) else { return .failure(Reason(errno: errno)) }
        defer { closedir(directory) }
        var names: [String] = []
        while true {
            errno = 0
            guard let entry = readdir(directory) else { break }
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return errno == 0 ? .success(names) : .failure(Reason(errno: errno))
    }
}
