import Addressing
import CNI
import Handover
import LinuxNetwork
import Redirection

/// What the agent must remember of a pod beyond its own life.
struct PodRecord: Hashable, Sendable {
    enum Phase: String, Hashable, Sendable {
        /// Known, its namespace kept, not captured.
        case attached
        /// Captured, or about to be.
        case capturing
        /// On the way from captured to attached.
        case leaving
        /// Over; the keeper has not been told yet.
        case gone
    }

    var containerID: String
    var networkName: String
    /// The interfaces the runtime asked about; the pod is forgotten with the last one.
    var interfaces: [String]
    var netnsPath: String
    var namespaceID: NamespaceID
    /// Names the pod to the keeper and to ztunnel.
    var uid: String
    /// The object's own uid; empty where it has none.
    var objectUID: String
    var podName: String
    var podNamespace: String
    var serviceAccount: String
    var addresses: [String]
    var phase = Phase.attached
    var plan = RedirectionPlan()
    /// What the keeper was last told of the pod beside its sockets.
    var settings = PodSettings.none

    /// The specification's form of a container ID, which is also safe as the name of a file.
    static func isContainerID(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        func isAlphanumeric(_ byte: UInt8) -> Bool {
            (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
        }
        guard let first = bytes.first, isAlphanumeric(first), bytes.count <= 200 else { return false }
        let others = Array("_.-".utf8)
        return bytes.allSatisfy { isAlphanumeric($0) || others.contains($0) }
    }
}

// MARK: - As JSON

extension PodRecord {
    private static let version = 1

    var json: JSONValue {
        func strings(_ values: [String]) -> JSONValue { .array(values.map { .string($0) }) }
        let families = plan.families.map { Int($0.rawValue) }.sorted()
        return .object(
            JSONObject([
                .init("version", .number(JSONNumber(Self.version))),
                .init("containerID", .string(containerID)),
                .init("network", .string(networkName)),
                .init("interfaces", strings(interfaces)),
                .init("netns", .string(netnsPath)),
                .init("netnsDevice", .string(String(namespaceID.device))),
                .init("netnsInode", .string(String(namespaceID.inode))),
                .init("uid", .string(uid)),
                .init("objectUID", .string(objectUID)),
                .init("pod", .string(podName)),
                .init("namespace", .string(podNamespace)),
                .init("serviceAccount", .string(serviceAccount)),
                .init("addresses", strings(addresses)),
                .init("phase", .string(phase.rawValue)),
                .init("families", .array(families.map { .number(JSONNumber($0)) })),
                .init("capturesInbound", .bool(plan.capturesInbound)),
                .init("capturesDNS", .bool(plan.capturesDNS)),
                .init("virtualInterfaces", strings(plan.virtualInterfaces)),
                .init("probePorts", .array(plan.probePorts.map { .number(JSONNumber(Int($0))) })),
                .init("exemptsEveryProbePort", .bool(plan.exemptsEveryProbePort)),
                .init("dropsUncaptured", .bool(plan.dropsUncaptured)),
                .init("requiresSeal", .bool(plan.requiresSeal)),
                .init("connectionLimit", .number(JSONNumber(Int(settings.connectionLimit)))),
                .init("connectionRate", .number(JSONNumber(Int(settings.connectionRate)))),
                .init("terminating", .bool(settings.isTerminating)),
            ]))
    }

    /// Reads a record back; `nil` when it is none, or of a version that is not known here.
    init?(json: JSONValue) {
        guard case .object(let object) = json, case .number(let version) = object["version"],
            version.integer == Self.version
        else { return nil }
        func text(_ name: String) -> String? {
            if case .string(let value) = object[name] { value } else { nil }
        }
        func list(_ name: String) -> [JSONValue]? {
            if case .array(let values) = object[name] { values } else { nil }
        }
        // Absent in records of earlier versions; what is there must be one.
        func count(_ name: String) -> UInt32? {
            switch object[name] {
            case nil: 0
            case .number(let value): value.integer.flatMap { UInt32(exactly: $0) }
            default: nil
            }
        }
        func flag(_ name: String) -> Bool? {
            switch object[name] {
            case nil: false
            case .bool(let value): value
            default: nil
            }
        }
        func ports(_ name: String) -> [UInt16]? {
            guard object[name] != nil else { return [] }
            let values = list(name)
            let ports = values?.compactMap { value in
                if case .number(let number) = value { number.integer.flatMap { UInt16(exactly: $0) } } else { nil }
            }
            return ports?.count == values?.count ? ports : nil
        }
        func strings(_ name: String) -> [String]? {
            list(name)?.compactMap { if case .string(let value) = $0 { value } else { nil } }
        }
        guard let containerID = text("containerID"), Self.isContainerID(containerID),
            let networkName = text("network"), let interfaces = strings("interfaces"),
            let netnsPath = text("netns"), let device = text("netnsDevice").flatMap(UInt64.init),
            let inode = text("netnsInode").flatMap(UInt64.init), let uid = text("uid"), !uid.isEmpty,
            let objectUID = text("objectUID"), let podName = text("pod"), let podNamespace = text("namespace"),
            let serviceAccount = text("serviceAccount"), let addresses = strings("addresses"),
            let phase = text("phase").flatMap(Phase.init(rawValue:)), let numbers = list("families"),
            case .bool(let capturesInbound) = object["capturesInbound"],
            let limit = count("connectionLimit"), let rate = count("connectionRate"),
            let isTerminating = flag("terminating"), let probePorts = ports("probePorts"),
            let everyProbePort = flag("exemptsEveryProbePort"), let dropsUncaptured = flag("dropsUncaptured"),
            let requiresSeal = flag("requiresSeal")
        else { return nil }
        // Absent in records of an agent that did not capture it.
        let capturesDNS: Bool
        switch object["capturesDNS"] {
        case nil: capturesDNS = false
        case .bool(let value): capturesDNS = value
        default: return nil
        }
        // Absent in records of an agent that did not know them.
        let virtualInterfaces: [String]
        if object["virtualInterfaces"] == nil {
            virtualInterfaces = []
        } else {
            guard let names = strings("virtualInterfaces") else { return nil }
            virtualInterfaces = names
        }
        let families = numbers.compactMap { value -> IPAddress.Family? in
            guard case .number(let number) = value, let raw = number.integer.flatMap({ UInt8(exactly: $0) }) else {
                return nil
            }
            return IPAddress.Family(rawValue: raw)
        }
        self.init(
            containerID: containerID, networkName: networkName, interfaces: interfaces, netnsPath: netnsPath,
            namespaceID: NamespaceID(device: device, inode: inode), uid: uid, objectUID: objectUID,
            podName: podName, podNamespace: podNamespace, serviceAccount: serviceAccount, addresses: addresses,
            phase: phase,
            plan: RedirectionPlan(
                families: Set(families), capturesInbound: capturesInbound, capturesDNS: capturesDNS,
                virtualInterfaces: virtualInterfaces, probePorts: probePorts, exemptsEveryProbePort: everyProbePort,
                dropsUncaptured: dropsUncaptured, requiresSeal: requiresSeal),
            settings: PodSettings(connectionLimit: limit, connectionRate: rate, isTerminating: isTerminating))
    }
}
