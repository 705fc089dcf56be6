import Glibc

/// A system call that failed: what was tried and the kernel's answer.
public struct SystemError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What was tried, for an operator: `connect to 10.0.0.1:80`.
    public let operation: String
    /// The errno value.
    public let code: CInt

    public init(_ operation: String, code: CInt) {
        self.operation = operation
        self.code = code
    }

    /// Takes errno as the call that just failed left it.
    public init(_ operation: String) { self.init(operation, code: errno) }

    public var reason: String { strerror(code).map { String(cString: $0) } ?? "error \(code)" }
    public var description: String { "\(operation): \(reason) (errno \(code))" }
}

/// Repeats a call that a signal interrupted, and turns -1 into an error.
@inlinable
@discardableResult
public func check<Result: SignedInteger>(
    _ operation: @autoclosure () -> String, _ call: () -> Result
) throws(SystemError) -> Result {
    while true {
        let result = call()
        if result != -1 { return result }
        if errno != EINTR { throw SystemError(operation()) }
    }
}
