import Foundation
import Glibc
import LinuxNetwork

/// Files as other processes must find them: whole or not at all.
enum Files {
    static func makeFolder(_ path: String, mode: mode_t = 0o755) throws {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try check("chmod \(path)") { chmod(path, mode) }
    }

    /// Writes beside the target and renames, so that a watcher sees the old text or the new.
    static func replace(_ path: String, with text: String, mode: mode_t = 0o644) throws {
        let slash = path.lastIndex(of: "/").map { path.index(after: $0) } ?? path.startIndex
        let temporary = "\(path[..<slash]).\(path[slash...]).tmp"
        let file = FileDescriptor(
            owning: try check("open \(temporary)") { open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode) })
        let raw = file.raw
        // The process's mask does not apply: the mode is what was asked for.
        try check("chmod \(temporary)") { fchmod(raw, mode) }
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            rest = rest.dropFirst(
                try check("write \(temporary)") { rest.withUnsafeBytes { write(raw, $0.baseAddress, $0.count) } })
        }
        try check("rename \(temporary)") { rename(temporary, path) }
    }

    /// Removes a file or a folder with what is in it. That it is not there is no error.
    static func remove(_ path: String) throws {
        do { try FileManager.default.removeItem(atPath: path) } catch {
            if FileManager.default.fileExists(atPath: path) { throw error }
        }
    }

    static func names(in folder: String) -> [String] {
        // A folder that is not there holds nothing.
        ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).sorted()
    }

    static func text(_ path: String) -> String? {
        FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) }
    }
}
