import Testing

@testable import Kubernetes

@Suite("How to reach a cluster")
struct KubeconfigTests {
    private let text = """
        apiVersion: v1
        kind: Config
        preferences: {}
        current-context: dev
        clusters:
        - name: dev
          cluster: {server: "https://10.0.0.1:6443/", certificate-authority: pki/ca.crt}
        - name: prod
          cluster:
            server: https://[fd00::1]:6443
            certificate-authority-data: UEVN
            tls-server-name: kubernetes
        - name: open
          cluster: {server: "http://127.0.0.1:8080"}
        - name: blind
          cluster: {server: "https://h:1", insecure-skip-tls-verify: true}
        - name: proxied
          cluster: {server: "https://h:1", proxy-url: "http://proxy:3128"}
        - name: both
          cluster: {server: "https://h:1", insecure-skip-tls-verify: true, certificate-authority-data: UEVN}
        - name: nowhere
          cluster: {server: "ftp://h"}
        - name: garbled
          cluster: {server: "https://h:1", certificate-authority-data: "%%%"}
        users:
        - name: cert
          user: {client-certificate: pki/me.crt, client-key-data: S0VZ}
        - name: token
          user: {token: " abc\\n"}
        - name: file
          user: {token: ignored, tokenFile: /var/token}
        - name: exec
          user:
            exec:
              apiVersion: client.authentication.k8s.io/v1
              command: ./bin/get-token
              args: [a, b]
              env: [{name: X, value: y}]
              installHint: install it
              interactiveMode: Never
              provideClusterInfo: false
        - name: halfcert
          user: {client-certificate-data: Q0VSVA==}
        - name: password
          user: {username: me, password: secret}
        - name: oldexec
          user: {exec: {apiVersion: client.authentication.k8s.io/v1alpha1, command: c}}
        contexts:
        \(["dev cert", "prod token", "open file", "blind exec", "proxied token", "both token", "nowhere token",
            "garbled token", "dev2 halfcert dev", "dev3 password dev", "dev4 oldexec dev", "dev5 nobody dev",
            "dev6 token missing"].map { line in
                let parts = line.split(separator: " ")
                return "- name: \(parts[0])\n  context: {cluster: \(parts.count > 2 ? parts[2] : parts[0]), user: \(parts[1]), namespace: ns}"
            }.joined(separator: "\n"))
        - name: anonymous
          context: {cluster: open}
        """

    private func read(_ context: String? = nil) throws -> ClusterConfiguration {
        try Kubeconfig(text, name: "config", folder: "/etc/kube").configuration(context: context)
    }

    @Test("the current context, with files beside the file")
    func current() throws {
        let dev = try read()
        #expect(dev.server == "https://10.0.0.1:6443")
        #expect(dev.trust == .authority(.file("/etc/kube/pki/ca.crt")))
        #expect(
            dev.credentials
                == .certificate(chain: .file("/etc/kube/pki/me.crt"), key: .bytes(Array("KEY".utf8))))
        #expect(dev.namespace == "ns")
    }

    @Test("other contexts: data, names, tokens, plugins, no authority, nobody")
    func others() throws {
        let prod = try read("prod")
        #expect(prod.trust == .authority(.bytes(Array("PEM".utf8))))
        #expect(prod.serverName == "kubernetes")
        #expect(prod.credentials == .token("abc"))
        let open = try read("open")
        #expect(open.trust == .system)
        #expect(open.credentials == .tokenFile("/var/token"), "a file counts before a token")
        let blind = try read("blind")
        #expect(blind.trust == .nobodyIsChecked)
        #expect(
            blind.credentials
                == .plugin(
                    ExecPlugin(
                        command: "/etc/kube/./bin/get-token", arguments: ["a", "b"], environment: ["X": "y"],
                        installHint: "install it")))
        let anonymous = try read("anonymous")
        #expect(anonymous.credentials == .none)
        #expect(anonymous.namespace == "default")
    }

    @Test(
        "what cannot be used is said in words",
        arguments: [
            ("proxied", "proxy-url"), ("both", "insecure-skip-tls-verify"), ("nowhere", "no address"),
            ("garbled", "certificate-authority-data is no base64"), ("dev2", "without a key"), ("dev3", "username"),
            ("dev4", "v1alpha1"), ("dev5", "user \"nobody\""), ("dev6", "cluster \"missing\""),
            ("unknown", "context \"unknown\""),
        ])
    func refusals(context: String, words: String) async throws {
        let error = await failure { _ = try read(context) }
        #expect(error?.code == .configuration)
        #expect(error?.description.contains(words) == true, "\(error?.description ?? "no error")")
    }

    @Test(
        "a file that is none names the place",
        arguments: [
            ("clusters: 7", "clusters"), ("clusters:\n- name: a\n  cluster: {}", "clusters.[0].cluster.server"),
            ("\t:", "no kubeconfig"), ("{}", "current-context"),
        ])
    func noFile(text: String, words: String) async {
        let error = await failure { _ = try Kubeconfig(text, name: "config", folder: "/").configuration() }
        #expect(error?.code == .configuration)
        #expect(error?.description.contains(words) == true, "\(error?.description ?? "no error")")
    }

    @Test("a pod's configuration comes from its environment and its account")
    func inCluster() async throws {
        let folder = try TemporaryFolder()
        let environment = ["KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"]
        #expect(
            await failure { _ = try ClusterConfiguration.inCluster(environment: [:], folder: folder.path) }?.hint
                == "give --kubeconfig outside of a cluster")
        #expect(
            await failure { _ = try ClusterConfiguration.inCluster(environment: environment, folder: folder.path) }?
                .message == "the pod has no token of its account")
        try folder.write("token", "t\n")
        try folder.write("namespace", "shop\n")
        let configuration = try ClusterConfiguration.inCluster(environment: environment, folder: folder.path)
        #expect(configuration.server == "https://[fd00::1]:443")
        #expect(configuration.namespace == "shop")
        #expect(configuration.trust == .authority(.file("\(folder.path)/ca.crt")))
        #expect(configuration.credentials == .tokenFile("\(folder.path)/token"))
    }
}
