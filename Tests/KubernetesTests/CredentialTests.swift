import Glibc
import Testing

@testable import Kubernetes

@Suite("Credentials")
struct CredentialTests {
    private func access(_ credentials: ClusterConfiguration.Credentials) -> Access {
        Access(ClusterConfiguration(server: "http://127.0.0.1:1", credentials: credentials))
    }

    @Test("a token file is read again when it was replaced, and stands while it is away")
    func tokenFile() async throws {
        let folder = try TemporaryFolder()
        let path = try folder.write("token", "first\n")
        let access = access(.tokenFile(path))
        #expect(try await access.pass().token == "first")
        try folder.write("token", "second\n")
        #expect(try await access.pass().token == "second")
        #expect(unlink(path) == 0)
        #expect(try await access.pass().token == "second")
        try folder.write("token", " \n")
        #expect(await failure { _ = try await access.pass() }?.code == .credentials)
        try folder.write("token", "third")
        #expect(try await access.pass().token == "third")
    }

    private func plugin(_ script: String, timeout: Duration = .seconds(10)) throws -> (ExecPlugin, TemporaryFolder) {
        let folder = try TemporaryFolder()
        let path = try folder.write("plugin", "#!/bin/sh\n\(script)\n", mode: 0o700)
        return (
            ExecPlugin(
                command: path, arguments: ["one"], environment: ["WORD": "env"], installHint: "install it",
                timeout: timeout), folder
        )
    }

    private func answer(_ status: String) -> String {
        """
        echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": \(status)}'
        """
    }

    @Test("a plugin is given its arguments and told what is wanted, and asked again only when its token has run out")
    func pluginToken() async throws {
        let (plugin, folder) = try plugin(
            """
            echo x >> "$(dirname "$0")/runs"
            case "$KUBERNETES_EXEC_INFO" in *'"interactive":false'*) ;; *) exit 9;; esac
            echo "{\\"apiVersion\\": \\"client.authentication.k8s.io/v1\\", \\"kind\\": \\"ExecCredential\\",
              \\"status\\": {\\"token\\": \\"$1-$WORD\\", \\"expirationTimestamp\\": \\"2099-01-01T00:00:00Z\\"}}"
            """)
        let access = access(.plugin(plugin))
        #expect(try await access.pass().token == "one-env")
        #expect(try await access.pass().token == "one-env")
        func runs() throws -> Int { try FileStamp.read("\(folder.path)/runs").count / 2 }
        #expect(try runs() == 1)
        await access.wasRefused()
        #expect(try await access.pass().token == "one-env")
        #expect(try runs() == 2)
    }

    @Test("a token is renewed before it runs out")
    func expiry() throws {
        let credential = try PluginCredential(
            Array(
                """
                {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
                 "status": {"token": "t", "expirationTimestamp": "2026-01-02T03:04:05Z"}}
                """.utf8), of: ExecPlugin(command: "c"))
        #expect(credential.isGood(at: 1_767_323_045 - 31))
        #expect(!credential.isGood(at: 1_767_323_045 - 30))
    }

    @Test(
        "a plugin that fails says how",
        arguments: [
            ("echo no login >&2; exit 3", "no login"), ("echo nonsense", "no JSON"), ("echo '{}'", "no ExecCredential"),
            (#"echo '{"kind": "ExecCredential", "apiVersion": "v9"}'"#, "apiVersion is v9"),
            (
                #"echo '{"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": {}}'"#,
                "neither a token nor a certificate"
            ),
            (
                #"echo '{"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": {"clientKeyData": "k"}}'"#,
                "only together"
            ),
        ])
    func failures(script: String, words: String) async throws {
        let (plugin, folder) = try plugin(script)
        let error = await failure { _ = try await access(.plugin(plugin)).pass() }
        #expect(error?.code == .credentials)
        #expect(error?.description.contains(words) == true, "\(error?.description ?? "no error")")
        withExtendedLifetime(folder) {}
    }

    @Test("a plugin that hangs, and one that writes without end, come to an end")
    func hanging() async throws {
        let (slow, folder) = try plugin("exec sleep 60", timeout: .milliseconds(200))
        let start = ContinuousClock.now
        #expect(await failure { _ = try await access(.plugin(slow)).pass() }?.message.contains("in time") == true)
        let (loud, other) = try plugin("exec cat /dev/zero", timeout: .milliseconds(500))
        #expect(await failure { _ = try await access(.plugin(loud)).pass() }?.code == .credentials)
        #expect(ContinuousClock.now - start < .seconds(20))
        let missing = ExecPlugin(command: "/no/such/plugin", installHint: "install it")
        let error = await failure { _ = try await access(.plugin(missing)).pass() }
        #expect(error?.hint == "install it")
        withExtendedLifetime((folder, other)) {}
    }
}
