import Testing

@testable import ObjectSource

@Suite("Kinds of objects")
struct ObjectKindTests {
    /// One of each kind; the compiler asks for a line here only through ``ObjectKind/allCases``.
    private static let documents: [ObjectKind: String] = [
        .namespace: "", .serviceAccount: "", .pod: "spec: {}", .service: "spec: {ports: [{port: 80}]}",
        .endpointSlice: "addressType: IPv4", .authorizationPolicy: "", .peerAuthentication: "", .node: "",
        .gateway: "spec: {gatewayClassName: c}", .gatewayClass: "spec: {controllerName: a/b}",
        .serviceEntry: "spec: {hosts: [a.example]}", .workloadEntry: "spec: {address: 192.0.2.1}",
    ]

    @Test("each kind is read, kept, found, listed, and taken out", arguments: ObjectKind.allCases)
    func kinds(kind: ObjectKind) throws {
        let text = """
            apiVersion: \(kind.apiVersions[0])
            kind: \(kind.rawValue)
            metadata: {name: x\(kind.isNamespaced ? ", namespace: n" : "")}
            \(try #require(Self.documents[kind]))
            """
        let found = try DocumentReader.read(Array(text.utf8), file: "t.yaml").get()
        let object = try #require(found.first?.object)
        #expect(object.kind == kind)
        #expect(object.key.name == ObjectName(namespace: kind.isNamespaced ? "n" : "", name: "x"))
        var snapshot = ObjectSnapshot()
        snapshot.insert(object)
        #expect(snapshot.objectCount == 1)
        #expect(snapshot.object(object.key) == object)
        #expect(snapshot.names(of: kind) == [object.key.name])
        let removals = [snapshot.remove(object.key), snapshot.remove(object.key)]
        #expect(removals == [true, false])
        #expect(snapshot == ObjectSnapshot())
    }
}
