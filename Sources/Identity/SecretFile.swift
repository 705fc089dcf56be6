// The only file here that calls the system directly: permissions have to be those of the very descriptor that is
// read, and a key has to appear complete, under its own name and never over another one. Foundation offers neither.
import Glibc

/// Files of keys and certificates: read with limits and with a look at who else may read or write them.
enum SecretFile {
    static let maximumSize = 1 << 20

    enum Protection {
        /// A private key: owner only.
        case secret
        /// A certificate: everyone may read, only the owner may write.
        case `public`

        var forbidden: mode_t { self == .secret ? 0o077 : 0o022 }
        var mode: mode_t { self == .secret ? 0o600 : 0o644 }
    }

    /// The content of a file; `nil` when there is none.
    static func read(_ path: String, _ protection: Protection) throws(IdentityError) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard descriptor >= 0 else {
            if errno == ENOENT { return nil }
            throw unreadable(path, errno)
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw unreadable(path, errno) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw IdentityError(.fileUnreadable, "\(path) is not a regular file")
        }
        try check(path, status, protection.forbidden, fix: protection == .secret ? "chmod 600" : "chmod go-w")
        return try contents(path, descriptor)
    }

    /// The content of a file that someone else keeps (a mounted bundle or token): links are followed, and
    /// permissions are the keeper's affair.
    static func readMounted(_ path: String) throws(IdentityError) -> String {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw unreadable(path, errno) }
        defer { close(descriptor) }
        return try contents(path, descriptor)
    }

    /// Makes a file with all of its content, or leaves an existing one as it is.
    ///
    /// - Returns: Whether this call made the file.
    @discardableResult
    static func create(_ path: String, _ content: String, _ protection: Protection) throws(IdentityError) -> Bool {
        let temporary = path + ".new-\(UInt64.random(in: .min ... .max))"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, protection.mode)
        guard descriptor >= 0 else { throw unwritable(path, errno) }
        defer {
            close(descriptor)
            unlink(temporary)
        }
        // The umask may have taken bits away, never added any.
        guard fchmod(descriptor, protection.mode) == 0 else { throw unwritable(path, errno) }
        var rest = Array(content.utf8)[...]
        while !rest.isEmpty {
            let written = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
            if written < 0 {
                if errno == EINTR { continue }
                throw unwritable(path, errno)
            }
            rest = rest.dropFirst(written)
        }
        guard fsync(descriptor) == 0 else { throw unwritable(path, errno) }
        // link(2) publishes the complete file and refuses to replace another one: of two starters one wins.
        if link(temporary, path) == 0 { return true }
        if errno == EEXIST { return false }
        throw unwritable(path, errno)
    }

    /// Makes a directory for secrets, or checks that an existing one is the owner's alone.
    static func prepareDirectory(_ path: String) throws(IdentityError) {
        if mkdir(path, 0o700) != 0, errno != EEXIST {
            throw IdentityError(.fileUnreadable, "cannot make the directory \(path): \(reason(errno))")
        }
        var status = stat()
        guard lstat(path, &status) == 0 else { throw unreadable(path, errno) }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            throw IdentityError(.fileUnreadable, "\(path) is not a directory")
        }
        try check(path, status, 0o077, fix: "chmod 700")
    }

    private static func check(
        _ path: String, _ status: stat, _ forbidden: mode_t, fix: String
    ) throws(IdentityError) {
        guard status.st_uid == geteuid() else {
            throw IdentityError(
                .filePermissions, "\(path) belongs to user \(status.st_uid), not to user \(geteuid())",
                hint: "it must belong to the user that runs this process")
        }
        guard status.st_mode & forbidden == 0 else {
            let mode = String(status.st_mode & 0o7777, radix: 8)
            throw IdentityError(
                .filePermissions, "\(path) has mode 0\(mode), which is open to others",
                hint: "try: \(fix) \(path); if others may have read a key, replace it")
        }
    }

    private static func contents(_ path: String, _ descriptor: CInt) throws(IdentityError) -> String {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16 << 10)
        while true {
            let count = chunk.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress, $0.count) }
            if count < 0 {
                if errno == EINTR { continue }
                throw unreadable(path, errno)
            }
            if count == 0 { break }
            guard bytes.count + count <= maximumSize else {
                throw IdentityError(.fileMalformed, "\(path) is larger than \(maximumSize) bytes")
            }
            bytes += chunk[..<count]
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw IdentityError(.fileMalformed, "\(path) is not UTF-8 text")
        }
        return text
    }

    private static func reason(_ code: CInt) -> String { String(cString: strerror(code)) }

    private static func unreadable(_ path: String, _ code: CInt) -> IdentityError {
        IdentityError(.fileUnreadable, "cannot read \(path): \(reason(code))")
    }

    private static func unwritable(_ path: String, _ code: CInt) -> IdentityError {
        IdentityError(.fileUnreadable, "cannot write \(path): \(reason(code))")
    }
}

/// A file that somebody else keeps, as a mounted Secret.
public enum MountedFile {
    /// Its content, up to 1 MiB of text.
    /// - Throws: ``IdentityError``: `fileUnreadable`, `fileMalformed`.
    public static func read(_ path: String) throws(IdentityError) -> String { try SecretFile.readMounted(path) }
}
