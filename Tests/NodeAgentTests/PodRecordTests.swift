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
}
