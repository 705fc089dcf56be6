import Addressing
import Glibc
import LinuxNetwork
import Testing

@Suite("Network namespaces")
struct NamespaceTests {
    @Test("work in a namespace happens there, and the thread is home afterwards")
    func thereAndBack() throws {
        let home = try NetworkNamespace.current()
        let made = try NetworkNamespace.make()
        #expect(made.id != home.id)
        let seen = try made.run { () throws(SystemError) -> NamespaceID in try NetworkNamespace.current().id }
        #expect(seen == made.id)
        #expect(try NetworkNamespace.current().id == home.id)
    }

    @Test("the thread is home even when the work fails")
    func failure() throws {
        let home = try NetworkNamespace.current().id
        let made = try NetworkNamespace.make()
        #expect(throws: SystemError.self) {
            try made.run { () throws(SystemError) in throw SystemError("test", code: EIO) }
        }
        #expect(try NetworkNamespace.current().id == home)
    }

    @Test("a socket belongs to the namespace it was made in")
    func sockets() throws {
        let made = try NetworkNamespace.make()
        // lo is down there, so nothing can be reached; at home 127.0.0.1 refuses.
        let socket = try made.run { () throws(SystemError) in try Sockets.tcp(dualStack: false).release() }
        defer { close(socket) }
        #expect(throws: SystemError("connect to 127.0.0.1:1", code: ENETUNREACH)) {
            _ = try Sockets.connect(socket, to: Endpoint(.loopbackV4, 1), dualStack: false)
        }
    }

    @Test("what is no network namespace is refused in words")
    func refused() throws {
        for path in ["/dev/null", "/proc/self/ns/uts", "/proc/self/ns/mnt"] {
            let error = #expect(throws: SystemError.self) { _ = try NetworkNamespace(path: path).id }
            #expect(error?.code == EINVAL)
        }
        let missing = #expect(throws: SystemError.self) { _ = try NetworkNamespace(path: "/run/netns/none-such").id }
        #expect(missing?.code == ENOENT)
    }
}
