import LinuxNetwork

/// Where lines go.
public enum LogSink: Hashable, Sendable {
    case standardOutput
    case standardError
    /// Appended to; opened again when asked, for log rotation.
    case file(String)
    /// A descriptor of the caller's, which stays the caller's to close.
    case descriptor(CInt)

    func open() throws(SystemError) -> OutputFile {
        switch self {
        case .standardOutput: try OutputFile(standard: 1)
        case .standardError: try OutputFile(standard: 2)
        case .file(let path): try OutputFile(appendingTo: path)
        case .descriptor(let number): try OutputFile(standard: number)
        }
    }
}
