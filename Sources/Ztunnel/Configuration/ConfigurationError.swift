/// A setting that cannot be used.
public struct ConfigurationError: Error, Hashable, CustomStringConvertible {
    /// The environment variable, where it is one.
    public let variable: String?
    public let description: String

    public init(variable: String, value: String, expected: String) {
        self.variable = variable
        description = "\(variable)=\(value): expected \(expected)"
    }

    public init(variable: String? = nil, _ description: String) {
        self.variable = variable
        self.description = description
    }
}
