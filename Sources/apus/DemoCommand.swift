import ArgumentParser
import Foundation
import Glibc
import LocalCluster
import Redirection

/// `apus demo`: the whole mesh on this machine.
struct DemoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demo", abstract: "Two nodes, two pods and a mesh on this machine.",
        subcommands: [Run.self, Up.self, Down.self], defaultSubcommand: Run.self)

    struct Options: ParsableArguments {
        @Option(help: "The folder with shop/ and policies/; found beside the program's repository when not given.")
        var examples: String?
        @Option(help: "What captures the pods' traffic; the agent's own default when not given.")
        var redirection: RedirectionMode?

        func cluster() throws -> LocalCluster {
            var configuration = try LocalCluster.Configuration(kind: .demo)
            configuration.redirection = redirection?.rawValue
            return try LocalCluster(configuration)
        }

        func demo(_ cluster: LocalCluster) throws -> Demo {
            Demo(cluster, .init(examples: try examples ?? Examples.find()))
        }
    }

    struct Run: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "run", abstract: "Play the six scenes; exits 0 when all held.")

        @OptionGroup var options: Options
        @Flag(help: "Print one JSON object at the end instead of text.") var json = false
        @Option(help: "New connections a second in the fifth scene.") var rate = 1000
        @Flag(help: "Leave everything running when a scene failed, to be looked at.") var keep = false

        func run() throws {
            let interrupts = Interrupts()
            clearAbandoned()
            let cluster = try options.cluster()
            let cleaner = RunCleaner(cluster.layout)
            try interrupts.onFirst {
                do { try cleaner.cleanUnderConstruction() } catch { complain("\(error)") }
            }
            var settings = Demo.Options(examples: try options.examples ?? Examples.find())
            settings.loadPerSecond = rate
            let demo = Demo(cluster, settings)
            var report = DemoReport()
            do {
                try demo.up()
                report = demo.run { scene in
                    interrupts.standAside()
                    guard !json else { return }
                    print(scene.text)
                    // Also into a pipe at once: each verdict as it falls.
                    fflush(nil)
                }
            } catch {
                interrupts.standAside()
                complain("the cluster did not come up: \(error)")
            }
            interrupts.standAside()
            if !report.allPassed { for node in cluster.nodes { complain("node \(node.name):\n  \(node.lastWords())") } }
            if keep, !report.allPassed {
                try cluster.leaveStanding()
                complain("left standing: \(cluster.layout.folder); `apus demo down` ends it")
            } else {
                try cluster.down()
            }
            if json {
                let encoder = JSONEncoder()
                encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
                print(String(decoding: try encoder.encode(report), as: UTF8.self))
            } else {
                print("\(report.scenes.count(where: \.passed)) of \(Demo.titles.count) scenes passed")
            }
            if !report.allPassed { throw ExitCode(1) }
        }
    }

    struct Up: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "up", abstract: "Build it, enrol the pods, leave it running and say what to try.")

        @OptionGroup var options: Options

        func run() throws {
            let interrupts = Interrupts()
            clearAbandoned()
            let cluster = try options.cluster()
            let cleaner = RunCleaner(cluster.layout)
            try interrupts.onFirst {
                do { try cleaner.cleanUnderConstruction() } catch { complain("\(error)") }
            }
            do {
                let demo = try options.demo(cluster)
                try demo.up()
                try demo.enrol()
                try cluster.leaveStanding()
            } catch {
                interrupts.standAside()
                complain("the cluster did not come up: \(error)")
                try cluster.down()
                throw ExitCode(1)
            }
            let layout = cluster.layout
            let server = try cluster.pod("shop/server").address(.v4)
            print(
                """
                Up: run \(layout.run), in \(layout.folder). Both pods of namespace shop are in the mesh. Try, as root:

                  apus local exec shop/client -- curl -s http://\(server):8080/hello     # from the client pod
                  apus local exec n1 -- tcpdump -ni up0 -A tcp port 15008                # what the wire shows
                  apus local label shop istio.io/dataplane-mode-                         # out of the mesh, and in again:
                  apus local label shop istio.io/dataplane-mode=ambient
                  apus local exec shop/server -- nft list ruleset                        # what captures it
                  cp examples/policies/deny-client.yaml \(layout.source)/        # cut the client off
                  tail -f \(layout.folder)/n2/logs/*                             # and watch the server's node say so

                  apus demo down
                """)
        }
    }

    struct Down: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "down",
            abstract: "End what `demo up` left running, and what runs that ended badly left behind.")

        @Option(name: .customLong("run"), help: "End this run, whoever owns it, and no other.") var id: String?

        func run() throws {
            if let id {
                guard let layout = RunLayout(run: id) else { throw ValidationError("\(id) is no id of a run") }
                say(id, try RunCleaner(layout).clean())
                return
            }
            let ended = RunCleaner.cleanAbandoned(standing: true)
            if ended.isEmpty { print("nothing to end") }
            var failed = false
            for (run, result) in ended {
                switch result {
                case .success(let removed): say(run, removed)
                case .failure(let error):
                    complain("\(error)")
                    failed = true
                }
            }
            if failed { throw ExitCode(1) }
        }

        private func say(_ run: String, _ removed: RunCleaner.Removed) {
            print(
                removed.isNothing
                    ? "run \(run): nothing there"
                    : "run \(run): ended \(removed.processes) processes, removed \(removed.namespaces) namespaces")
        }
    }
}

/// For people, not for programs: standard error.
func complain(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

/// Clears up what runs that ended badly left. That this fails is no reason not to begin: the new run has names of its own.
func clearAbandoned() {
    for (_, result) in RunCleaner.cleanAbandoned(standing: false) {
        if case .failure(let error) = result { complain("\(error)") }
    }
}

/// Where the repository's examples are.
enum Examples {
    /// The folder `examples` in the working folder or in one above the program.
    static func find() throws -> String {
        let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        var places = [FileManager.default.currentDirectoryPath]
        var folder = URL(fileURLWithPath: own).deletingLastPathComponent()
        while folder.path != "/" {
            places.append(folder.path)
            folder.deleteLastPathComponent()
        }
        for place in places where FileManager.default.fileExists(atPath: "\(place)/examples/shop") {
            return "\(place)/examples"
        }
        throw ValidationError("no folder examples/shop in \(places[0]) or above the program; name it with --examples")
    }
}
