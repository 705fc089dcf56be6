/// Something wrong in a source of objects, said so that whoever wrote it finds the place.
public struct ObjectProblem: Error, Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The file's name inside the folder.
    public var file: String
    /// From 1; 0 when it concerns the file as a whole.
    public var line: Int
    /// The path of the field inside its document, as `spec.rules[0].from`; empty where no field is meant.
    public var field: String
    public var message: String

    public init(file: String, line: Int = 0, field: String = "", message: String) {
        self.file = file
        self.line = line
        self.field = field
        self.message = message
    }

    public var description: String {
        (line > 0 ? "\(file):\(line): " : "\(file): ") + (field.isEmpty ? message : "\(field): \(message)")
    }

    public static func < (left: ObjectProblem, right: ObjectProblem) -> Bool {
        (left.file, left.line, left.field, left.message) < (right.file, right.line, right.field, right.message)
    }
}

/// Why a source cannot be opened or a report cannot be written.
public struct ObjectSourceError: Error, Sendable, CustomStringConvertible {
    public enum Code: String, Sendable { case unreadable, unwritable, invalidName }

    public var code: Code
    public var message: String
    /// The system's reason.
    public var cause: String

    public init(_ code: Code, _ message: String, cause: String = "") {
        self.code = code
        self.message = message
        self.cause = cause
    }

    public var description: String { cause.isEmpty ? message : "\(message): \(cause)" }
}
