/// One look at the folder of CNI configurations: is all in place, and if not, which change makes it so. Blocks.
struct InstallStep: Sendable {
    /// A file that was written this short a time ago and cannot be read may be half written.
    static let halfWritten = Duration.seconds(2)

    struct Change: Equatable, Sendable {
        let name: String
        let bytes: [UInt8]
        let mode: UInt32
        /// Files that the new one takes the place of; they go after it is there.
        var replaced: [String] = []
        /// For the log.
        let reason: String
    }

    enum Finding: Equatable, Sendable {
        /// The name of the file with our entry; what an operator should know all the same.
        case inPlace(String, warnings: [String])
        /// No other plugin has put a configuration here yet.
        case waitingForPrimary
        /// Somebody is in the middle of writing.
        case unsettled
        case needs(Change)
    }

    let folder: NetworkFolder
    let entry: ChainEntry
    let mode: NodePlatform.Mode

    init(_ configuration: InstallerConfiguration) {
        folder = NetworkFolder(path: configuration.configurationFolder)
        entry = ChainEntry(
            agentSocket: configuration.agentSocket, exemptNamespaces: configuration.exemptNamespaces)
        mode = configuration.mode
    }

    func look() throws(AgentError) -> Finding {
        let contents = try folder.read()
        if contents.unreadable.contains(where: { $0.age < Self.halfWritten }) { return .unsettled }
        switch mode {
        case .owned: return try lookAtOwned(contents)
        case .chained: return try lookAtChained(contents)
        case .multus: return try lookAtMultus(contents)
        }
    }

    func make(_ change: Change) throws(AgentError) {
        try folder.write(change.bytes, as: change.name, mode: change.mode)
        for name in change.replaced { try folder.remove(name) }
    }

    // MARK: A list of our own

    private func lookAtOwned(_ contents: NetworkFolder.Contents) throws(AgentError) -> Finding {
        let present = NetworkFolder.ownedNames.filter { contents[$0] != nil }
        guard let primary = contents.primary else {
            // At boot the primary may come later than the runtime's first pod: what is known of it stays in force.
            guard let name = present.first, let own = contents[name], own.list.hasForeignPlugins,
                entry.isComplete(in: own.list)
            else { return .waitingForPrimary }
            return .inPlace(name, warnings: ["no configuration beside \(name); it stays as the primary last had it"])
        }
        try checkVersion(of: primary)
        guard let name = NetworkFolder.ownedNames.first(where: { Self.sorts($0, before: primary.name) }) else {
            throw AgentError(
                .file, "\(folder.path)/\(primary.name) sorts before any file that Apus could write",
                hint: "rename it, or use --cni-mode chained")
        }
        let wanted = entry.appended(to: primary.list)
        let stale = present.filter { $0 != name }
        guard let own = contents[name] else {
            return .needs(change(name, wanted, primary, stale, "it is not there"))
        }
        guard own.list == wanted else {
            let reason = entry.isComplete(in: own.list) ? "\(primary.name) has changed" : "its entry is gone or changed"
            return .needs(change(name, wanted, primary, stale, reason))
        }
        guard stale.isEmpty else { return .needs(change(name, wanted, primary, stale, "an older file is left over")) }
        return .inPlace(name, warnings: warnings(contents, before: name))
    }

    private func change(
        _ name: String, _ list: NetworkList, _ primary: NetworkFolder.File, _ replaced: [String], _ reason: String
    ) -> Change {
        Change(name: name, bytes: list.bytes, mode: primary.mode, replaced: replaced, reason: reason)
    }

    // MARK: An entry in the primary's

    private func lookAtChained(_ contents: NetworkFolder.Contents) throws(AgentError) -> Finding {
        guard let primary = contents.primary else { return .waitingForPrimary }
        try checkVersion(of: primary)
        guard !primary.isLink else {
            throw AgentError(
                .file, "\(folder.path)/\(primary.name) is a symbolic link, which a rename would replace",
                hint: "use --cni-mode owned")
        }
        // A runtime takes a list only from a file with this ending.
        let ending = ".conflist"
        let stem = primary.name.split(separator: ".").dropLast().joined(separator: ".")
        let name = primary.name.hasSuffix(ending) ? primary.name : stem + ending
        var replaced = NetworkFolder.ownedNames.filter { contents[$0] != nil }
        if name != primary.name { replaced.append(primary.name) }
        guard replaced.isEmpty, entry.isComplete(in: primary.list) else {
            let reason = replaced.isEmpty ? "its entry is missing or changed" : "it takes the place of others"
            return .needs(change(name, entry.appended(to: primary.list), primary, replaced, reason))
        }
        return .inPlace(name, warnings: warnings(contents, before: name))
    }

    // MARK: Multus

    private func lookAtMultus(_ contents: NetworkFolder.Contents) throws(AgentError) -> Finding {
        let name = NetworkFolder.multusName
        let bytes = entry.standalone.lines
        if contents[name]?.list == (try NetworkList(bytes)) { return .inPlace(name, warnings: []) }
        let reason = contents[name] == nil ? "it is not there" : "it was changed"
        return .needs(Change(name: name, bytes: bytes, mode: 0o600, reason: reason))
    }

    // MARK: Both

    private func checkVersion(of primary: NetworkFolder.File) throws(AgentError) {
        do { try primary.list.checkVersion() } catch {
            throw AgentError(
                .file, "\(folder.path)/\(primary.name) cannot be chained: \(error.message)", cause: error.cause,
                hint: error.hint)
        }
    }

    private func warnings(_ contents: NetworkFolder.Contents, before name: String) -> [String] {
        contents.unreadable.filter { Self.sorts($0.name, before: name) }.map {
            "\($0.name) sorts before \(name) and cannot be read, which can make the runtime refuse all: \($0.reason)"
        }
    }

    private static func sorts(_ left: String, before right: String) -> Bool {
        left.utf8.lexicographicallyPrecedes(right.utf8)
    }
}
