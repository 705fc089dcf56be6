import CBpf
import Glibc
import Netlink
import Synchronization

/// The programs that hang on interfaces, by the names they have in `bpf/capture.bpf.c`.
enum CaptureProgram: String, CaseIterable, Sendable {
    case egress = "apus_egress"
    case ingress = "apus_ingress"
    case loopback = "apus_loopback"
    case probe = "apus_probe"
    case line = "apus_line"
    case forged = "apus_forged"

    /// Where it stands; ``line`` stands in both directions.
    var direction: ClassifierFilter.Direction {
        switch self {
        case .egress, .forged, .line: .egress
        case .ingress, .loopback, .probe: .ingress
        }
    }
}

/// Loaded programs, by which filters are made.
protocol CaptureProgramSet: Sendable {
    /// The program's descriptor.
    func descriptor(_ program: CaptureProgram) -> CInt
    /// The first eight bytes of the program's hash, by which the kernel names it.
    func tag(_ program: CaptureProgram) -> [UInt8]
}

/// The capture programs (`bpf/capture.bpf.c`), loaded once for all pods: they hold no state of a pod.
///
/// What is attached stays in the kernel when this, or the process, is gone.
final class CapturePrograms: CaptureProgramSet {
    private let loaded: apus_capture
    /// Why the iterator is not there; `nil` when it is.
    let sparingProblem: RedirectionError?
    /// The iterator's map serves one namespace at a time.
    private let sparing = Mutex<Void>(())

    /// Loads them; takes some tens of milliseconds.
    init() throws(RedirectionError) {
        var capture = apus_capture()
        var iteratorError: CInt = 0
        let (result, said) = LoadedProgram.withLog { apus_capture_load(&capture, &iteratorError, $0, $1) }
        guard result == 0 else {
            throw LoadedProgram.failure("cannot load the capture programs", result, said, kernel: "5.11")
        }
        loaded = capture
        let message = "cannot load the program that spares open connections"
        sparingProblem =
            iteratorError == 0 ? nil : LoadedProgram.failure(message, iteratorError, said, kernel: "5.15")
    }

    deinit {
        var capture = loaded
        apus_capture_close(&capture)
    }

    func descriptor(_ program: CaptureProgram) -> CInt { LoadedProgram.of(program, loaded).descriptor }

    func tag(_ program: CaptureProgram) -> [UInt8] { LoadedProgram.tag(program, loaded) }

    /// Gives the sockets of the calling thread's namespace that have these cookies the mark of what is left alone.
    func spare(_ cookies: [UInt64]) throws(RedirectionError) {
        guard !cookies.isEmpty else { return }
        if let sparingProblem { throw sparingProblem }
        let result = sparing.withLock { _ in
            withUnsafePointer(to: loaded) { apus_capture_spare($0, cookies, cookies.count) }
        }
        guard result == 0 else {
            throw LoadedProgram.failure(
                "cannot mark \(cookies.count) open connections", result, "", kernel: "5.15")
        }
    }
}

/// The program that stands behind capture by nf_tables, so that its rules may believe a mark.
final class ForgedMarkProgram: CaptureProgramSet {
    private let loaded: apus_capture

    /// Loads it; takes some tens of milliseconds.
    init() throws(RedirectionError) {
        var capture = apus_capture()
        let (result, said) = LoadedProgram.withLog { apus_capture_load_forged(&capture, $0, $1) }
        guard result == 0 else {
            throw LoadedProgram.failure(
                "cannot load the program that looks for forged marks", result, said, kernel: "5.11")
        }
        loaded = capture
    }

    deinit {
        var capture = loaded
        apus_capture_close(&capture)
    }

    func descriptor(_ program: CaptureProgram) -> CInt { LoadedProgram.of(program, loaded).descriptor }

    func tag(_ program: CaptureProgram) -> [UInt8] { LoadedProgram.tag(program, loaded) }
}

/// What the C side says of a program.
private enum LoadedProgram {
    static func of(_ program: CaptureProgram, _ capture: apus_capture) -> apus_program {
        switch program {
        case .egress: capture.egress
        case .ingress: capture.ingress
        case .loopback: capture.loopback
        case .probe: capture.probe
        case .line: capture.line
        case .forged: capture.forged
        }
    }

    static func tag(_ program: CaptureProgram, _ capture: apus_capture) -> [UInt8] {
        withUnsafeBytes(of: of(program, capture).tag) { Array($0) }
    }

    /// - Returns: What `load` returns, and what libbpf and the verifier said.
    static func withLog(
        _ load: (UnsafeMutablePointer<CChar>, Int) -> CInt
    ) -> (result: CInt, said: String) {
        var log = [CChar](repeating: 0, count: 64 * 1024)
        let result = log.withUnsafeMutableBufferPointer { buffer in
            buffer.baseAddress.map { load($0, buffer.count) } ?? -ENOMEM
        }
        return (result, String(decoding: log.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
    }

    static func failure(_ message: String, _ result: CInt, _ said: String, kernel: String) -> RedirectionError {
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
