import CNI
import Glibc
import LinuxNetwork
import Redirection
import Testing

@testable import NodeAgent

@Suite("Records of pods")
struct PodRecordTests {
    static func sample(_ containerID: String = "c1") -> PodRecord {
        PodRecord(
            containerID: containerID, networkName: "mesh", interfaces: ["eth0", "net1"],
            netnsPath: "/run/netns/a \"b\"\n", namespaceID: NamespaceID(device: 4, inode: .max), uid: "u",
            objectUID: "", podName: "p", podNamespace: "n", serviceAccount: "s", addresses: ["10.0.0.1/24", "::1"],
            phase: .leaving,
            plan: RedirectionPlan(
                families: [.v4], capturesInbound: false, virtualInterfaces: ["tap0", "k6t-net1"],
                probePorts: [80, 8080], exemptsEveryProbePort: true, dropsUncaptured: true, requiresSeal: true))
    }

    @Test("what is written is read back", arguments: [PodRecord.Phase.attached, .capturing, .leaving, .gone])
    func roundTrip(phase: PodRecord.Phase) throws {
        var record = Self.sample()
        record.phase = phase
        #expect(PodRecord(json: try JSONReader.read(record.json.bytes)) == record)
    }

    @Test(
        "what is no record is none",
        arguments: [
            "{}", "[]", "null", #"{"version":2}"#, #"{"version":1,"containerID":"../x"}"#,
            #"{"version":1,"containerID":"c1"}"#,
        ])
    func noRecord(text: String) throws {
        #expect(PodRecord(json: try JSONReader.read(Array(text.utf8))) == nil)
    }

    @Test("each member is needed")
    func members() throws {
        guard case .object(let whole) = Self.sample().json else {
            Issue.record("not an object")
            return
        }
        for member in whole.members {
            var part = whole
            part[member.name] = nil
            // Records of earlier agents have no word on these.
            let mayLack = [
                "capturesDNS", "connectionLimit", "connectionRate", "terminating", "virtualInterfaces", "probePorts",
                "exemptsEveryProbePort", "dropsUncaptured", "requiresSeal",
            ].contains(member.name)
            #expect((PodRecord(json: .object(part)) != nil) == mayLack, "without \(member.name)")
            part[member.name] = .object(JSONObject())
            #expect(PodRecord(json: .object(part)) == nil, "\(member.name) of another type")
        }
    }

    @Test(
        "container IDs that may be a file's name",
        arguments: [
            ("abc", true), ("A-b_c.9", true), ("", false), (".", false), ("..", false), ("a/b", false), ("-a", false),
            ("a b", false), ("ä", false), (String(repeating: "a", count: 200), true),
            (String(repeating: "a", count: 201), false),
        ])
    func containerIDs(text: String, isValid: Bool) {
        #expect(PodRecord.isContainerID(text) == isValid)
    }

    @Test("the folder holds what was written, less what was removed, and survives rubbish")
    func store() throws {
        let folder = try TemporaryFolder()
        let store = PodRecordStore(folder: folder.path + "/pods")
        try store.prepare()
        try store.prepare()
        for id in ["c2", "c1", "c3"] { try store.write(Self.sample(id)) }
        var changed = Self.sample("c2")
        changed.phase = .attached
        try store.write(changed)
        try store.remove("c3")
        try store.remove("c3")
        for (name, text) in [("c9", "rubbish"), (".c8.new", "half"), ("c7", #"{"version":1}"#)] {
            try AtomicFile.write(Array(text.utf8), to: store.folder + "/" + name, mode: 0o600)
        }
        // A record under another's name is not taken for it.
        try AtomicFile.write(Self.sample("c1").json.bytes, to: store.folder + "/c6", mode: 0o600)
        let (records, unreadable) = try store.load()
        #expect(records == [Self.sample("c1"), changed])
        #expect(unreadable.count == 3)
        #expect(access(store.folder + "/.c8.new", F_OK) != 0)
    }

    @Test("an agent that dies while it writes has not written: the last whole line counts")
    func halfWritten() throws {
        let folder = try TemporaryFolder()
        let store = PodRecordStore(folder: folder.path + "/pods")
        try store.prepare()
        let path = store.folder + "/c1"
        let first = Self.sample("c1")
        var second = first
        second.phase = .attached
        try store.write(first)
        try store.write(second)
        let whole = try #require(try AtomicFile.read(path))
        try store.remove("c1")
        try store.write(first)
        let one = try #require(try AtomicFile.read(path)).count
        // Wherever the second writing was cut off, the file is as after the first; and the next writing is not harmed.
        for length in [one, one + 1, one + 2, whole.count / 2 + 20, whole.count - 2, whole.count - 1] {
            try AtomicFile.write(Array(whole[..<length]), to: path, mode: 0o600)
            #expect(try store.load().records == [first], "\(length) of \(whole.count) bytes")
            try store.write(second)
            #expect(try store.load().records == [second], "\(length) of \(whole.count) bytes")
        }
        // The very first writing was cut off: there is no such pod, and nothing to warn of.
        try AtomicFile.write(Array(whole[..<(one / 2)]), to: path, mode: 0o600)
        let (records, unreadable) = try store.load()
        #expect(records.isEmpty && unreadable.isEmpty)
        #expect(access(path, F_OK) != 0)
    }

    @Test("a record of an agent that wrote no lines is read, and goes on in lines")
    func withoutLines() throws {
        let folder = try TemporaryFolder()
        let store = PodRecordStore(folder: folder.path + "/pods")
        try store.prepare()
        let old = Self.sample("c1")
        try AtomicFile.write(old.json.bytes, to: store.folder + "/c1", mode: 0o600)
        #expect(try store.load().records == [old])
        var changed = old
        changed.phase = .leaving
        try store.write(changed)
        #expect(try store.load().records == [changed])
    }

    @Test("a pod that changes often does not fill its file for ever")
    func bounded() throws {
        let folder = try TemporaryFolder()
        let store = PodRecordStore(folder: folder.path + "/pods")
        try store.prepare()
        var record = Self.sample("c1")
        for turn in 0..<200 {
            record.phase = turn.isMultiple(of: 2) ? .capturing : .attached
            try store.write(record)
        }
        #expect(try store.load().records == [record])
        var info = stat()
        #expect(stat(store.folder + "/c1", &info) == 0)
        #expect(info.st_size <= PodRecordStore.longest)
    }
}
