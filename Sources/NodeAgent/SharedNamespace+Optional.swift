import LinuxNetwork

extension SharedNamespace? {
    /// Runs `body` with the calling thread in the namespace, or where it is when there is none.
    func within<Value: ~Copyable>(_ body: () throws -> Value) throws -> Value {
        guard let self else { return try body() }
        return try self.value.run(body)
    }
}
