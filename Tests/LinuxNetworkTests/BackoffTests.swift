import LinuxNetwork
import Testing

@Suite("Pauses between attempts")
struct BackoffTests {
    @Test("they double up to the longest, half of each by chance, and begin anew")
    func doubling() {
        var backoff = Backoff(shortest: .milliseconds(10), longest: .seconds(15))
        for full in [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10240, 15000, 15000, 15000] {
            let pause = backoff.next()
            #expect(pause >= .milliseconds(full) / 2 && pause <= .milliseconds(full))
        }
        for _ in 0..<200 { _ = backoff.next() }
        #expect((Duration.milliseconds(7500)...(.seconds(15))).contains(backoff.next()))
        backoff.reset()
        #expect((Duration.milliseconds(5)...(.milliseconds(10))).contains(backoff.next()))
    }

    @Test("two that start together do not go on together")
    func jitter() {
        let pauses = (0..<100).map { _ in
            var backoff = Backoff(shortest: .seconds(1), longest: .seconds(30))
            return backoff.next()
        }
        #expect(Set(pauses).count > 50)
    }

    @Test("what the other side asks for is kept, also beyond the longest")
    func atLeast() {
        var backoff = Backoff(shortest: .milliseconds(100), longest: .seconds(1))
        #expect(backoff.next(atLeast: .seconds(7)) == .seconds(7))
        #expect(Backoff(shortest: .seconds(9), longest: .seconds(1)).shortest == .seconds(9))
        var short = Backoff(shortest: .seconds(9), longest: .seconds(1))
        #expect(short.next() <= .seconds(1))
    }
}
