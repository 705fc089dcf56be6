import Glibc
import LinuxNetwork

/// apus-sockets: makes the pods' sockets, keeps them, hands them to ztunnel.
enum Program {
    /// - Returns: The exit code: 0 after SIGTERM or SIGINT, 1 for a failure, 2 for a wrong command line.
    static func run(_ words: [String]) -> CInt {
        do {
            guard let arguments = try Arguments.parse(words.dropFirst()) else {
                print(Arguments.usage, terminator: "")
                return 0
            }
            return arguments.asksServing ? answerServing(arguments) : serve(arguments)
        } catch {
            let text = Array("apus-sockets: \(error.message)\n\(Arguments.usage)".utf8)
            _ = text.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
            return 2
        }
    }

    private static func serve(_ arguments: Arguments) -> CInt {
        let log = Log(format: arguments.logFormat)
        let limit = raiseDescriptorLimit()
        signal(SIGPIPE, SIG_IGN)
        umask(0o066)
        do {
            let signals = try SignalDescriptor([SIGTERM, SIGINT])
            let loop = try EventLoop(pool: BufferPool(kept: 0))
            let keeper = Keeper(loop, log, home: try NetworkNamespace.current().id)
            let directory = RunDirectory(path: arguments.runDirectory, ztunnelUID: arguments.ztunnelUID)
            try directory.prepare(log)
            var serves = false
            if arguments.takesOver { serves = try Succession(directory, log, home: keeper.home).run(keeper) }
            if !serves {
                try directory.refuseLiveKeepers()
                try keeper.serve(
                    agents: directory.listenForAgent(), ztunnels: directory.listenForZtunnel(),
                    ztunnelUID: arguments.ztunnelUID)
            }
            let stop = Stop(loop)
            _ = try loop.register(signals.descriptor.raw, .read, stop)
            log.info(
                "ready",
                ["runDirectory": arguments.runDirectory, "ztunnelUID": arguments.ztunnelUID, "descriptorLimit": limit])
            try loop.run()
            if keeper.isSucceeded {
                log.info(
                    "another keeper has taken over", ["pods": keeper.pods.count, "lingers": arguments.lingers])
                if arguments.lingers { Lingering.untilToldToEnd() }
                return 0
            }
            log.info("ending; the pods' sockets go with the keeper", ["pods": keeper.pods.count])
            keeper.end()
            directory.removeSockets()
            return 0
        } catch {
            log.error("cannot go on", ["error": error])
            return 1
        }
    }

    /// A signal ends the loop; which one does not matter.
    private final class Stop: EventHandler {
        private let loop: EventLoop

        init(_ loop: EventLoop) { self.loop = loop }

        func ready(_ events: ReadyEvents) { loop.stop() }
    }
}
