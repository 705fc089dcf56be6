import Dispatch
import Glibc

/// Signals as calls, instead of interruptions.
enum Signals {
    /// Calls `body` for each of the signals from now on, until the returned sources are let go.
    static func deliver(_ numbers: [CInt], _ body: @escaping @Sendable (CInt) -> Void) -> [any DispatchSourceSignal] {
        // Writing to a peer that is gone is an error to handle, not a reason to die.
        signal(SIGPIPE, SIG_IGN)
        return numbers.map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { body(number) }
            source.activate()
            return source
        }
    }
}
