import Glibc

extension AgentError {
    static let descriptorHint = "raise the limit of open files (RLIMIT_NOFILE), or look for what holds so many"

    /// What to do about a refusal of the kernel's; empty where nothing is known.
    static func hint(for code: CInt) -> String { code == EMFILE || code == ENFILE ? descriptorHint : "" }
}
