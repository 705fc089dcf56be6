import Glibc
import Testing

@testable import LinuxNetwork

@Suite("Waiting for files")
struct FileWaitTests {
    private func withFolder(_ body: (String) throws -> Void) throws {
        var template = Array("/tmp/apus-wait.XXXXXX".utf8CString)
        let made = try #require(mkdtemp(&template))
        let folder = String(cString: made)
        defer {
            for name in ["there", "sub/there"] { unlink("\(folder)/\(name)") }
            rmdir("\(folder)/sub")
            rmdir(folder)
        }
        try body(folder)
    }

    @Test("a condition that holds already needs no wait, and one that never does ends with the time")
    func edges() throws {
        try withFolder { folder in
            #expect(FileWait.until(in: [folder], milliseconds: 0) { true })
            let begun = MonotonicClock.now
            #expect(!FileWait.until(in: [folder], milliseconds: 30) { access("\(folder)/there", F_OK) == 0 })
            #expect(MonotonicClock.now - begun >= 30_000_000)
        }
    }

    @Test("a file that another thread makes is found, also in a folder that is not there yet", arguments: ["", "/sub"])
    func found(below: String) throws {
        try withFolder { folder in
            let path = folder + below + "/there"
            let asked = ThreadSignal()
            let maker = try startThread(name: "maker") {
                asked.wait()
                mkdir(folder + "/sub", 0o700)
                close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600))
            }
            let isThere = FileWait.until(in: [folder + below], milliseconds: 10_000) {
                asked.signal()
                return access(path, F_OK) == 0
            }
            #expect(isThere)
            pthread_join(maker, nil)
        }
    }

    @Test("an error of the condition ends the wait")
    func failure() throws {
        #expect(throws: SystemError.self) {
            try FileWait.until(in: ["/tmp"], milliseconds: 10_000) { () throws(SystemError) in
                throw SystemError("look", code: EPERM)
            }
        }
    }
}
