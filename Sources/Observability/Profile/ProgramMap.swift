import Glibc
import LinuxNetwork

/// What code a process has where: its mappings that may be run.
struct ProgramMap: Sendable {
    struct Mapping: Hashable, Sendable {
        let start: UInt64
        let end: UInt64
        /// Where in the file the mapping begins.
        let offset: UInt64
        /// Empty for memory of no file.
        let path: String
    }

    /// By their start; they do not overlap.
    let mappings: [Mapping]

    /// Reads the form of /proc/<pid>/maps; lines in another form are passed over.
    init(_ text: some StringProtocol) {
        mappings = text.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: " ", maxSplits: 5, omittingEmptySubsequences: true)
            guard fields.count >= 5, fields[1].contains("x") else { return nil }
            let ends = fields[0].split(separator: "-")
            guard ends.count == 2, let start = UInt64(ends[0], radix: 16), let end = UInt64(ends[1], radix: 16),
                start < end, let offset = UInt64(fields[2], radix: 16)
            else { return nil }
            let path = fields.count > 5 ? String(fields[5].drop { $0 == " " }) : ""
            return Mapping(start: start, end: end, offset: offset, path: path)
        }.sorted { $0.start < $1.start }
    }

    /// Empty where /proc is not to be had: the profile has addresses alone then.
    static func ofThisProcess() -> ProgramMap {
        // A kernel file tells no size: it is read to its end.
        guard let file = try? ReadOnlyFile("/proc/self/maps"), let bytes = try? file.readToEnd(limit: 4 << 20) else {
            return ProgramMap("")
        }
        return ProgramMap(String(decoding: bytes, as: UTF8.self))
    }

    func index(of address: UInt64) -> Int? {
        let after = mappings.firstIndexAfter { $0.start <= address }
        guard after > 0, address < mappings[after - 1].end else { return nil }
        return after - 1
    }
}

/// A file that is read at places.
final class ReadOnlyFile {
    private let descriptor: FileDescriptor

    init(_ path: String) throws(SystemError) { descriptor = try .open(path, flags: O_RDONLY) }

    /// Up to `count` bytes from `offset`; fewer at the end of the file.
    func read(_ count: Int, at offset: UInt64) throws(SystemError) -> [UInt8] {
        guard count > 0, let place = off_t(exactly: offset) else { return [] }
        var bytes = [UInt8](repeating: 0, count: count)
        while true {
            let got = pread(descriptor.raw, &bytes, count, place)
            if got >= 0 { return Array(bytes.prefix(got)) }
            if errno != EINTR { throw SystemError("read a file") }
        }
    }

    func readToEnd(limit: Int) throws(SystemError) -> [UInt8] {
        var all: [UInt8] = []
        while all.count < limit {
            let piece = try read(min(64 << 10, limit - all.count), at: UInt64(all.count))
            if piece.isEmpty { break }
            all += piece
        }
        return all
    }
}

extension RandomAccessCollection where Index == Int {
    /// The first place of which `isBefore` does not hold, in a collection where those of which it holds come first.
    func firstIndexAfter(_ isBefore: (Element) -> Bool) -> Int {
        var (low, high) = (startIndex, endIndex)
        while low < high {
            let middle = low + (high - low) / 2
            if isBefore(self[middle]) { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
