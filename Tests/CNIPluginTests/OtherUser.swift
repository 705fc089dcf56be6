import Foundation

/// A listener that another user runs: a process of its own, since a user ID is the whole process's.
final class OtherUser {
    /// Part of every Debian (perl-base is essential), and can be any user.
    private static let perl = "/usr/bin/perl"

    private let process = Process()
    private let input = Pipe()

    /// Listens at `path` as user 65534 until this value is gone.
    init(listeningAt path: String) throws {
        let program = """
            use Socket;
            $( = $) = 65534; $< = $> = 65534;
            socket(my $listener, AF_UNIX, SOCK_SEQPACKET, 0) or die "socket: $!";
            bind($listener, sockaddr_un($ARGV[0])) or die "bind: $!";
            listen($listener, 8) or die "listen: $!";
            syswrite(STDOUT, "ready");
            sysread(STDIN, my $end, 1);
            """
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: Self.perl)
        process.arguments = ["-e", program, path]
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        guard try output.fileHandleForReading.read(upToCount: 5) == Data("ready".utf8) else {
            throw PluginProcess.Failure(message: "the other user does not listen")
        }
    }

    deinit {
        // The end of its stdin is the end of it.
        try? input.fileHandleForWriting.close()
        process.waitUntilExit()
    }
}
