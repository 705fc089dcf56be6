import LinuxNetwork

/// Work of a test inside a namespace.
enum NetworkSpace {
    static func run<Value>(in path: String, _ body: () throws -> Value) throws -> Value {
        try NetworkNamespace(path: path).run { () throws in try body() }
    }
}
