import Addressing
import Foundation
import Identity
import Testing

@testable import LocalCluster

extension EndToEnd {
    /// HBONE with an implementation that is not ours, in both directions, with certificates of the mesh's authority.
    @Suite("Envoy as a peer", .serialized)
    struct EnvoyTests {
        private static let client = "spiffe://cluster.local/ns/shop/sa/client"
        private static let server = "spiffe://cluster.local/ns/shop/sa/server"
        private static let envoy = "spiffe://cluster.local/ns/shop/sa/envoy"
        private static let types = "type.googleapis.com/envoy.extensions"

        private func authority(_ stage: Stage) throws -> EmbeddedCA {
            try EmbeddedCA(
                directory: stage.cluster.layout.controllerState, trustDomain: "cluster.local", now: Date())
        }

        /// What Envoy is told about certificates: its own, and whom to expect.
        private func tls(_ credentials: Knock.Credentials, _ stage: Stage, peer: String) -> String {
            """
            tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}
            alpn_protocols: [h2]
            tls_certificates:
            - certificate_chain: {filename: "\(credentials.folder)/cert.pem"}
              private_key: {filename: "\(credentials.folder)/key.pem"}
            validation_context:
              trusted_ca: {filename: "\(stage.cluster.layout.controllerState)/root-cert.pem"}
              match_typed_subject_alt_names: [{san_type: URI, matcher: {exact: "\(peer)"}}]
            """
        }

        private func indented(_ text: String, _ columns: Int) -> String {
            text.split(separator: "\n").joined(separator: "\n" + String(repeating: " ", count: columns))
        }

        /// Every way to talk and to end, from a namespace to an echo and an HTTP server behind the tunnel.
        private func exercise(from namespace: String, echo: Endpoint, http: Endpoint) throws {
            try NetworkSpace.run(in: namespace) { () throws in
                // Back and forth on one connection.
                let talk = try StreamConnection.connect(to: echo, within: .seconds(10))
                for turn in 0..<20 {
                    try talk.send("turn \(turn)\n".utf8, within: .seconds(10))
                    #expect(try talk.line(within: .seconds(10)) == "turn \(turn)")
                }
                // Half-close: the client says it is done, and all of the answer still comes, and its end.
                let halfClosed = try StreamConnection.connect(to: echo, within: .seconds(10))
                let bytes = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
                try halfClosed.send(bytes, within: .seconds(10))
                halfClosed.finish()
                #expect(try halfClosed.rest(limit: 1 << 20, within: .seconds(20)) == bytes)
                // The server closes first: after all of a long answer, in order and not by a reset.
                let answer = try HTTPExchange.get(http, path: "/bytes/3000000", within: .seconds(20))
                #expect(answer.status == 200)
                #expect(answer.body.utf8.count == 3_000_000)
                // Many connections side by side share the tunnel.
                let many = try (0..<50).map { _ in try StreamConnection.connect(to: echo, within: .seconds(10)) }
                for (index, connection) in many.enumerated() {
                    try connection.send("one of many: \(index)\n".utf8, within: .seconds(10))
                }
                for (index, connection) in many.enumerated() {
                    #expect(try connection.line(within: .seconds(20)) == "one of many: \(index)")
                    connection.finish()
                }
                for connection in many { #expect(try connection.rest(limit: 100, within: .seconds(20)) == []) }
            }
        }

        @Test func anEnvoyClientTunnelsIntoOurZtunnel() throws {
            try TestMesh.run { stage in
                let before = stage.descriptors()
                let credentials = try Knock.Credentials(authority(stage), Self.client)
                let target = try stage.server.address(.v4)
                // In the client's node: no pod, so nothing captures it.
                let namespace = stage.client.node.namespace
                func listener(_ name: String, _ port: Int, to authority: Endpoint) -> String {
                    """
                    - name: \(name)
                      address: {socket_address: {address: 127.0.0.1, port_value: \(port)}}
                      filter_chains:
                      - filters:
                        - name: envoy.filters.network.tcp_proxy
                          typed_config:
                            "@type": \(Self.types).filters.network.tcp_proxy.v3.TcpProxy
                            stat_prefix: outbound
                            cluster: hbone
                            tunneling_config: {hostname: "\(authority)"}
                    """
                }
                let resources = """
                    listeners:
                    \(listener("echo", 17001, to: Endpoint(target, Stage.echoPort)))
                    \(listener("http", 17002, to: Endpoint(target, Stage.httpPort)))
                    clusters:
                    - name: hbone
                      type: STATIC
                      connect_timeout: 5s
                      typed_extension_protocol_options:
                        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
                          "@type": \(Self.types).upstreams.http.v3.HttpProtocolOptions
                          explicit_http_config: {http2_protocol_options: {}}
                      load_assignment:
                        cluster_name: hbone
                        endpoints:
                        - lb_endpoints:
                          - endpoint:
                              address: {socket_address: {address: "\(target)", port_value: \(Stage.hbonePort)}}
                      transport_socket:
                        name: envoy.transport_sockets.tls
                        typed_config:
                          "@type": \(Self.types).transport_sockets.tls.v3.UpstreamTlsContext
                          common_tls_context:
                            \(indented(tls(credentials, stage, peer: Self.server), 8))
                    """
                let envoy = try Envoy("client", in: namespace, stage.cluster.layout, resources: resources)
                let loopback = IPAddress(127, 0, 0, 1)
                try exercise(from: namespace, echo: Endpoint(loopback, 17001), http: Endpoint(loopback, 17002))
                #expect(try envoy.counter("cluster.hbone.upstream_rq_total") >= 53)
                #expect(try envoy.counter("ssl.ciphers.TLS_AES_128_GCM_SHA256") >= 1)
                try stage.expectServed()
                withExtendedLifetime(envoy) {}
                try stage.expectNoDescriptorsLeft(since: before.filter { $0.key.hasPrefix(stage.server.node.name) })
            }
        }

        @Test func ourZtunnelTunnelsIntoAnEnvoyThatTerminates() throws {
            try TestMesh.run { stage in
                let cluster = stage.cluster
                let node = stage.server.node
                let credentials = try Knock.Credentials(authority(stage), Self.envoy)
                let resources = """
                    listeners:
                    - name: inbound
                      address: {socket_address: {address: 0.0.0.0, port_value: \(Stage.hbonePort)}}
                      filter_chains:
                      - transport_socket:
                          name: envoy.transport_sockets.tls
                          typed_config:
                            "@type": \(Self.types).transport_sockets.tls.v3.DownstreamTlsContext
                            require_client_certificate: true
                            common_tls_context:
                              \(indented(tls(credentials, stage, peer: Self.client), 10))
                        filters:
                        - name: envoy.filters.network.http_connection_manager
                          typed_config:
                            "@type": \(Self.types).filters.network.http_connection_manager.v3.HttpConnectionManager
                            stat_prefix: inbound
                            codec_type: HTTP2
                            http2_protocol_options: {allow_connect: true}
                            upgrade_configs: [{upgrade_type: CONNECT}]
                            route_config:
                              virtual_hosts:
                              - name: all
                                domains: ["*"]
                                routes:
                                - match: {connect_matcher: {}}
                                  route:
                                    cluster: app
                                    timeout: 0s
                                    upgrade_configs: [{upgrade_type: CONNECT, connect_config: {}}]
                            http_filters:
                            - name: envoy.filters.http.router
                              typed_config: {"@type": \(Self.types).filters.http.router.v3.Router}
                    clusters:
                    - name: app
                      type: ORIGINAL_DST
                      lb_policy: CLUSTER_PROVIDED
                      connect_timeout: 5s
                      original_dst_lb_config: {use_http_header: true, http_header_name: ":authority"}
                    """
                let envoy = try Envoy("server", in: node.namespace, cluster.layout, resources: resources)
                // The application behind Envoy: at the node's own address, where no ztunnel of ours serves.
                let app = try ChildProcess.start(
                    [
                        cluster.configuration.programs.apus, "local", "pod-server", "--http", "\(Stage.httpPort)",
                        "--echo", "\(Stage.echoPort)",
                    ], name: "app", environment: Launcher.environment(), namespace: node.namespace,
                    log: "\(cluster.layout.folder)/envoy-server/app.log")
                defer { app.terminate() }
                let address = try #require(IPAddress(node.address))
                // A workload that speaks HBONE for itself, on a node that is not ours.
                try cluster.source.put("envoy.yaml", Self.nativePod)
                let status = KubeletStatus(
                    namespace: "shop", name: "envoy", uid: "5b0a3c5e-0000-4000-8000-000000000001", node: "elsewhere",
                    hostAddress: node.address, addresses: [address], isReady: true)
                try status.write(cluster.layout)
                let echo = Endpoint(address, Stage.echoPort)
                let namespace = RunLayout.namespacePath(cluster.layout.podNamespace("shop", "client"))
                try Waiting.untilTrue(
                    "the client's ztunnel to know of Envoy", within: .seconds(20), detail: { envoy.lastWords }
                ) {
                    // Until then it is a stranger's address, and the words go there in clear; and the application may
                    // not listen yet.
                    let answer = try? NetworkSpace.run(in: namespace) { () throws in
                        let probe = try StreamConnection.connect(to: echo, within: .seconds(2))
                        try probe.send("probe\n".utf8, within: .seconds(2))
                        return try probe.line(within: .seconds(2))
                    }
                    return try answer == "probe" && envoy.counter("http.inbound.downstream_rq_total") > 0
                }
                let requests = try envoy.counter("http.inbound.downstream_rq_total")
                let capture = try stage.capture()
                try exercise(from: namespace, echo: echo, http: Endpoint(address, Stage.httpPort))
                let traffic = try capture.stop()
                #expect(traffic.occurrences(of: "one of many") == 0)
                #expect(Stage.tunnelled(traffic).isPure && Stage.tunnelled(traffic).records > 0)
                #expect(try envoy.counter("http.inbound.downstream_rq_total") >= requests + 53)
                // All of them through one tunnel of the pod, by the cipher and key exchange that two Envoys choose.
                #expect(try envoy.counter("ssl.ciphers.TLS_AES_128_GCM_SHA256") >= 1)
                #expect(try envoy.counter("http.inbound.downstream_cx_total") <= 3)
                try stage.expectServed()
                withExtendedLifetime(envoy) {}
            }
        }

        private static let nativePod = """
            apiVersion: v1
            kind: Pod
            metadata:
              name: envoy
              namespace: shop
              labels:
                app: envoy
                networking.istio.io/tunnel: http
            spec:
              serviceAccountName: envoy
              nodeName: elsewhere
              containers:
                - name: envoy
                  image: envoy
            """
    }
}
