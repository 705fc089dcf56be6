import Foundation
import Glibc

/// The folder with the keys of the authority and of the tokens.
enum StateDirectory {
    /// Makes the folder, for the owner alone, or checks the one that is there.
    ///
    /// - Parameter folders: Folders that others read or write; the state must not be one of them, nor inside.
    /// - Throws: ``ControllerError`` `stateDirectory`.
    static func prepare(_ path: String, apartFrom folders: [String]) throws(ControllerError) {
        // Where it would lie is told before anything is made there.
        for folder in folders {
            guard let outer = resolve(folder), let inner = resolveParent(of: path) else { continue }
            if inner == outer || inner.hasPrefix(outer == "/" ? outer : outer + "/") {
                throw ControllerError(
                    .stateDirectory, "the state directory \(path) lies inside \(folder)",
                    hint: "keys must not lie where objects are read; choose another --state")
            }
        }
        if mkdir(path, 0o700) != 0, errno != EEXIST {
            throw ControllerError(
                .stateDirectory, "cannot make the state directory \(path)", cause: String(cString: strerror(errno)))
        }
        var status = Glibc.stat()
        guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
            throw ControllerError(.stateDirectory, "\(path) is not a directory")
        }
        guard status.st_uid == geteuid(), status.st_mode & 0o777 == 0o700 else {
            let mode = String(status.st_mode & 0o7777, radix: 8)
            throw ControllerError(
                .stateDirectory, "the state directory \(path) has mode 0\(mode) and owner \(status.st_uid)",
                hint: "it must be 0700 and belong to user \(geteuid())")
        }
    }

    private static func resolve(_ path: String) -> String? {
        guard let resolved = realpath(path, nil) else { return nil }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    /// The real path of a folder that may not exist yet, whose parent does.
    private static func resolveParent(of path: String) -> String? {
        if let whole = resolve(path) { return whole }
        let url = URL(fileURLWithPath: path)
        return resolve(url.deletingLastPathComponent().path).map { $0 + "/" + url.lastPathComponent }
    }
}
