import CNI
import Glibc
import LinuxNetwork

/// One small file a pod under `<run-dir>/pods/`, so that the next agent finds what this one has done. Blocks.
///
/// Every state of a pod is a line; the last whole line counts, so an agent that dies while it writes has not written. That
/// costs no other file, no rename and no folder's change, each of which takes longer than all else about it.
struct PodRecordStore: Sendable {
    let folder: String
    /// A file that is longer is written anew, with its last line alone.
    static let longest = 32 << 10

    func prepare() throws(AgentError) {
        do throws(SystemError) {
            try AtomicFile.makeFolder(folder, mode: 0o700)
        } catch {
            throw AgentError(.file, "cannot make the folder of pod records", cause: error.description)
        }
    }

    func write(_ record: PodRecord) throws(AgentError) {
        do throws(SystemError) {
            // What it tells of, a namespace and what is in it, goes with the machine's power as well.
            let line = record.json.bytes + [Self.newline]
            let path = "\(folder)/\(record.containerID)"
            // Behind a line that was not finished begins another one.
            guard try !AtomicFile.append([Self.newline] + line, to: path, mode: 0o600, limit: Self.longest) else {
                return
            }
            try AtomicFile.write(line, to: path, mode: 0o600, survivesPowerLoss: false)
        } catch {
            throw AgentError(
                .file, "cannot write the record of \(record.podNamespace)/\(record.podName)", cause: error.description)
        }
    }

    func remove(_ containerID: String) throws(AgentError) {
        guard unlink("\(folder)/\(containerID)") == 0 || errno == ENOENT else {
            throw AgentError(
                .file, "cannot remove the record of container \(containerID)", cause: String(cString: strerror(errno)))
        }
    }

    /// All records that can be read, and the names of files that hold none.
    func load() throws(AgentError) -> (records: [PodRecord], unreadable: [String]) {
        var records: [PodRecord] = []
        var unreadable: [String] = []
        for name in try names() {
            // What a crash left half written.
            if name.hasPrefix(".") {
                unlink("\(folder)/\(name)")
                continue
            }
            do {
                guard let bytes = try AtomicFile.read("\(folder)/\(name)").map(Self.lastLine) else { continue }
                if bytes.isEmpty {
                    unlink("\(folder)/\(name)")
                    continue
                }
                guard let record = PodRecord(json: try JSONReader.read(bytes)), record.containerID == name else {
                    unreadable.append(name)
                    continue
                }
                records.append(record)
            } catch {
                unreadable.append("\(name): \(error)")
            }
        }
        return (records.sorted { $0.containerID < $1.containerID }, unreadable.sorted())
    }

    private static let newline = UInt8(ascii: "\n")

    /// The last line that is whole; empty where there is none. A file without an end of a line is one of an agent that wrote
    /// no lines.
    static func lastLine(_ bytes: [UInt8]) -> [UInt8] {
        guard let end = bytes.lastIndex(of: newline) else { return bytes }
        return bytes[..<end].split(separator: newline).last.map(Array.init) ?? []
    }

    private func names() throws(AgentError) -> [String] {
        guard let directory = opendir(folder) else {
            throw AgentError(.file, "cannot read \(folder)", cause: String(cString: strerror(errno)))
        }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }
}
