import Testing

@testable import ObjectSource

@Suite("What kubelet connects to in a pod")
struct ProbePortTests {
    private func document(_ containers: String) -> String {
        """
        apiVersion: v1
        kind: Pod
        metadata: {name: web, namespace: shop}
        spec:
        \(containers.split(separator: "\n").map { "  \($0)" }.joined(separator: "\n"))
        """
    }

    private func ports(_ containers: String) throws -> [UInt16] {
        guard case .pod(let pod) = try read(document(containers)).get().first else {
            Issue.record("no pod")
            return []
        }
        return pod.spec.probePorts
    }

    @Test("probes of every kind in every container, by number and by name, and hooks")
    func kinds() throws {
        #expect(
            try ports(
                """
                containers:
                  - name: main
                    ports: [{name: http, containerPort: 8080}, {name: admin, containerPort: 9000}]
                    livenessProbe: {httpGet: {path: /live, port: http, scheme: HTTPS}, periodSeconds: 5}
                    readinessProbe: {tcpSocket: {port: 5432}}
                    startupProbe: {grpc: {port: 50051, service: ready}}
                    lifecycle:
                      postStart: {exec: {command: [true]}}
                      preStop: {httpGet: {path: /stop, port: admin}}
                  - name: second
                    livenessProbe: {httpGet: {port: "8081"}}
                    readinessProbe: {exec: {command: [cat, /ready]}}
                initContainers:
                  - name: proxy
                    restartPolicy: Always
                    ports: [{name: http, containerPort: 15021}]
                    startupProbe: {httpGet: {port: http}}
                """) == [5432, 8080, 8081, 9000, 15021, 50051])
    }

    @Test("a handler with a host of its own, or a name that the container does not have, is no port of the pod")
    func elsewhere() throws {
        #expect(
            try ports(
                """
                containers:
                  - name: main
                    livenessProbe: {httpGet: {host: 10.0.0.1, port: 80}}
                    readinessProbe: {tcpSocket: {host: db.example, port: 81}}
                    startupProbe: {httpGet: {port: http}}
                  - name: other
                    ports: [{name: http, containerPort: 8080}]
                """) == [])
    }

    @Test("a probe that is none is named with its place")
    func noProbes() {
        for (probe, field) in [
            ("{httpGet: {port: 70000}}", "httpGet.port"), ("{tcpSocket: {}}", "tcpSocket.port"),
            ("{httpGet: 80}", "httpGet"), ("{htpGet: {port: 80}}", "htpGet"),
        ] {
            let found = problems(document("containers: [{name: main, readinessProbe: \(probe)}]"))
            #expect(found.map(\.field) == ["spec.containers[0].readinessProbe.\(field)"])
        }
    }
}
