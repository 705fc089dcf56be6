import ArgumentParser
import Foundation
import Glibc
import LocalCluster

/// `apus local soak`: a cluster that is not left in peace.
struct SoakCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "soak",
        abstract: "Steady traffic while pods come and go and programs die; exits 0 when nothing was lost.")

    @Option(help: "How long, in seconds.") var seconds = 1200
    @Option(help: "Repeats what an earlier soak did; a new one is printed when not given.") var seed: UInt64?
    @Option(help: "New connections a second.") var rate = 50
    @Flag(help: "Print the report as JSON.") var json = false
    @OptionGroup var options: DemoCommand.Options

    func validate() throws {
        guard seconds > 0, rate > 0 else { throw ValidationError("--seconds and --rate must be more than 0") }
    }

    func run() throws {
        let interrupts = Interrupts()
        clearAbandoned()
        var chosen = Soak.Options(seed: seed ?? .random(in: 1 ... .max))
        chosen.seconds = seconds
        chosen.rate = rate
        complain("soak: seed \(chosen.seed), \(seconds) s")
        let cluster = try options.cluster()
        let cleaner = RunCleaner(cluster.layout)
        try interrupts.onFirst {
            do { try cleaner.cleanUnderConstruction() } catch { complain("\(error)") }
        }
        let result = Result {
            try options.demo(cluster).up()
            return try Soak(cluster, chosen).run { complain($0) }
        }
        interrupts.standAside()
        let isGood = (try? result.get().failures.isEmpty) ?? false  // an error is thrown below
        if !isGood {
            for node in cluster.nodes { complain("node \(node.name):\n  \(node.lastWords())") }
        }
        try cluster.down()
        let report = try result.get()
        if json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys]
            print(String(decoding: try encoder.encode(report), as: UTF8.self))
        } else {
            print(report.text)
        }
        if !report.failures.isEmpty { throw ExitCode(1) }
    }
}
