import Glibc

/// What whoever plays the kubelet knows of a running pod.
public struct PodRuntimeReport: Hashable, Sendable {
    public var nodeName: String
    public var phase: PodStatus.Phase
    public var podIPs: [String]
    public var isReady: Bool

    public init(nodeName: String, phase: PodStatus.Phase, podIPs: [String], isReady: Bool) {
        self.nodeName = nodeName
        self.phase = phase
        self.podIPs = podIPs
        self.isReady = isReady
    }
}

/// Writes one reporter's files in a status folder. Files appear whole: written beside, then renamed.
///
/// Two reporters never write the same file; one reporter may be used from several threads.
public struct FolderStatusWriter: PodAnnotator {
    public let folder: String
    /// `kubelet` for who plays it, `agent` for a node's agent.
    public let reporter: String
    let sweep = Sweep()

    /// - Throws: `invalidName` when the reporter's name is not made of lower-case letters, digits and `-`.
    public init(folder: String, reporter: String) throws(ObjectSourceError) {
        guard ObjectMeta.isName(reporter, limit: 63, dots: false) else {
            throw ObjectSourceError(.invalidName, "\"\(reporter)\" is no name for a reporter")
        }
        self.folder = folder
        self.reporter = reporter
    }

    /// Reports on a running pod, in place of what this reporter said before.
    public func report(_ report: PodRuntimeReport, for pod: PodReference) throws(ObjectSourceError) {
        var text = Self.head(pod, annotations: [:])
        text += "spec:\n  nodeName: \(Self.quoted(report.nodeName))\n"
        text += "status:\n  phase: \(report.phase.rawValue)\n"
        if !report.podIPs.isEmpty {
            text += "  podIPs:\n"
            for address in report.podIPs { text += "    - ip: \(Self.quoted(address))\n" }
        }
        text += "  conditions:\n    - type: Ready\n      status: \"\(report.isReady ? "True" : "False")\"\n"
        try write(text, to: path(pod.name))
    }

    /// Takes everything back that this reporter said about a pod.
    public func forget(_ pod: ObjectName) throws(ObjectSourceError) {
        let path = try self.path(pod)
        guard unlink(path) == 0 || errno == ENOENT else {
            throw ObjectSourceError(.unwritable, "cannot remove \(path)", cause: String(cString: strerror(errno)))
        }
    }

    public func annotate(
        _ pod: PodReference, with annotations: [String: String]
    ) throws(ObjectSourceError) {
        if annotations.isEmpty {
            try forget(pod.name)
        } else {
            try write(Self.head(pod, annotations: annotations), to: path(pod.name))
        }
    }

    private static func head(_ pod: PodReference, annotations: [String: String]) -> String {
        var text = "apiVersion: v1\nkind: Pod\nmetadata:\n"
        text += "  name: \(quoted(pod.name.name))\n  namespace: \(quoted(pod.name.namespace))\n"
        if !pod.uid.isEmpty { text += "  uid: \(quoted(pod.uid))\n" }
        if !annotations.isEmpty {
            text += "  annotations:\n"
            for (key, value) in annotations.sorted(by: { $0.key < $1.key }) {
                text += "    \(quoted(key)): \(quoted(value))\n"
            }
        }
        return text
    }

    /// A YAML string in double quotes.
    static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case _ where isControl(scalar.value):
                let hex = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }

    /// What YAML does not take as it is, or takes for the end of a line.
    private static func isControl(_ value: UInt32) -> Bool {
        value < 0x20 || (0x7f..<0xa0).contains(value) || value == 0x2028 || value == 0x2029
    }

    private func path(_ pod: ObjectName) throws(ObjectSourceError) -> String {
        try Self.checkName(pod)
        return "\(folder)/\(pod.namespace).\(pod.name).\(reporter).yaml"
    }

    static func checkName(_ pod: ObjectName) throws(ObjectSourceError) {
        // The names become a file's name: nothing may lead elsewhere.
        guard ObjectMeta.isName(pod.namespace, limit: 63, dots: false),
            ObjectMeta.isName(pod.name, limit: 180, dots: true)
        else { throw ObjectSourceError(.invalidName, "\"\(pod)\" is no name of a pod") }
    }

    func write(_ text: String, to path: String) throws(ObjectSourceError) {
        // Hidden, so that no reader takes it for a file of the folder.
        var template = Array("\(folder)/.\(reporter).XXXXXX".utf8CString)
        let file = mkstemp(&template)
        guard file >= 0 else {
            throw ObjectSourceError(
                .unwritable, "cannot write to \(folder)", cause: String(cString: strerror(errno)))
        }
        let temporary = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let bytes = Array(text.utf8)
        var written = 0
        var failure: CInt = 0
        while written < bytes.count, failure == 0 {
            let count = bytes.withUnsafeBytes { buffer in
                Glibc.write(file, buffer.baseAddress?.advanced(by: written), buffer.count - written)
            }
            if count >= 0 { written += count } else if errno != EINTR { failure = errno }
        }
        if failure == 0, fchmod(file, 0o644) != 0 { failure = errno }
        close(file)
        if failure == 0, rename(temporary, path) != 0 { failure = errno }
        if failure != 0 {
            unlink(temporary)
            throw ObjectSourceError(.unwritable, "cannot write \(path)", cause: String(cString: strerror(failure)))
        }
    }
}
