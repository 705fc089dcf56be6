import CBpf
import Glibc
import Synchronization

/// The capture programs (`bpf/capture.bpf.c`), loaded once for all pods: they hold no state of a pod.
///
/// What is attached stays in the kernel when this, or the process, is gone.
final class CapturePrograms: Sendable {
    /// The programs that hang on interfaces.
    enum Classifier: String, CaseIterable, Sendable {
        case egress = "apus_egress"
        case ingress = "apus_ingress"
        case loopback = "apus_loopback"
    }

    private let loaded: apus_capture
    /// Why the iterator is not there; `nil` when it is.
    let sparingProblem: RedirectionError?
    /// The iterator's map serves one namespace at a time.
    private let sparing = Mutex<Void>(())

    /// Loads them; takes some tens of milliseconds.
    init() throws(RedirectionError) {
        var capture = apus_capture()
        var iteratorError: CInt = 0
        var log = [CChar](repeating: 0, count: 64 * 1024)
        let result = apus_capture_load(&capture, &iteratorError, &log, log.count)
        let said = String(decoding: log.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        guard result == 0 else {
            throw Self.failure("cannot load the capture programs", result, said, kernel: "5.10")
        }
        loaded = capture
        sparingProblem =
            iteratorError == 0
            ? nil
            : Self.failure("cannot load the program that spares open connections", iteratorError, said, kernel: "5.15")
    }

    deinit {
        var capture = loaded
        apus_capture_close(&capture)
    }

    func descriptor(_ program: Classifier) -> CInt {
        switch program {
        case .egress: loaded.egress
        case .ingress: loaded.ingress
        case .loopback: loaded.loopback
        }
    }

    /// The first eight bytes of the program's hash, by which the kernel names it.
    func tag(_ program: Classifier) -> [UInt8] {
        switch program {
        case .egress: withUnsafeBytes(of: loaded.egress_tag) { Array($0) }
        case .ingress: withUnsafeBytes(of: loaded.ingress_tag) { Array($0) }
        case .loopback: withUnsafeBytes(of: loaded.loopback_tag) { Array($0) }
        }
    }

    /// Gives the sockets of the calling thread's namespace that have these cookies the mark of what is left alone.
    func spare(_ cookies: [UInt64]) throws(RedirectionError) {
        guard !cookies.isEmpty else { return }
        if let sparingProblem { throw sparingProblem }
        let result = sparing.withLock { _ in
            withUnsafePointer(to: loaded) { apus_capture_spare($0, cookies, cookies.count) }
        }
        guard result == 0 else {
            throw Self.failure("cannot mark \(cookies.count) open connections", result, "", kernel: "5.15")
        }
    }

    private static func failure(
        _ message: String, _ result: CInt, _ said: String, kernel: String
    ) -> RedirectionError {
        // The verifier's account is long; what it says in the end is why.
        let end = said.split(separator: "\n").suffix(3).joined(separator: "; ")
        let reason = String(cString: strerror(-result))
        return RedirectionError(
            .program, message, cause: end.isEmpty ? reason : "\(reason): \(end)",
            hint: result == -EPERM
                ? "the agent needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, or CAP_SYS_ADMIN"
                : "Linux \(kernel) or later with BTF is needed; --redirection nftables does without")
    }
}
