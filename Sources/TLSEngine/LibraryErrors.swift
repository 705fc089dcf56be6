import CNIOBoringSSL

/// The library's error queue of this thread, as values.
struct LibraryError {
    let library: Int32
    let reason: Int32

    /// The oldest error queued on this thread; the queue is empty afterwards.
    static func take() -> LibraryError? {
        let packed = ERR_get_error()
        ERR_clear_error()
        guard packed != 0 else { return nil }
        return LibraryError(library: Int32(packed >> 24 & 0xff), reason: Int32(packed & 0xfff))
    }

    static func takeText() -> String? { take()?.text }

    /// The library's own name of the reason, such as `NO_SHARED_GROUP`.
    var text: String {
        let packed = UInt32(library) << 24 | UInt32(reason)
        guard let name = ERR_reason_symbol_name(packed) else { return "library \(library) reason \(reason)" }
        return String(cString: name)
    }
}

/// RFC 8446 section 6: alert descriptions by number.
enum Alert {
    static let closeNotify: UInt8 = 0
    static let unexpectedMessage: UInt8 = 10
    static let badRecordMAC: UInt8 = 20
    static let recordOverflow: UInt8 = 22
    static let badCertificate: UInt8 = 42
    static let unsupportedCertificate: UInt8 = 43
    static let certificateRevoked: UInt8 = 44
    static let certificateExpired: UInt8 = 45
    static let certificateUnknown: UInt8 = 46
    static let illegalParameter: UInt8 = 47
    static let unknownCA: UInt8 = 48
    static let accessDenied: UInt8 = 49
    static let decodeError: UInt8 = 50
    static let internalError: UInt8 = 80
    static let userCanceled: UInt8 = 90
    static let certificateRequired: UInt8 = 116
    static let noApplicationProtocol: UInt8 = 120

    static func name(_ alert: UInt8) -> String {
        switch alert {
        case 0: "close_notify"
        case 10: "unexpected_message"
        case 20: "bad_record_mac"
        case 22: "record_overflow"
        case 40: "handshake_failure"
        case 42: "bad_certificate"
        case 43: "unsupported_certificate"
        case 44: "certificate_revoked"
        case 45: "certificate_expired"
        case 46: "certificate_unknown"
        case 47: "illegal_parameter"
        case 48: "unknown_ca"
        case 49: "access_denied"
        case 50: "decode_error"
        case 51: "decrypt_error"
        case 70: "protocol_version"
        case 71: "insufficient_security"
        case 80: "internal_error"
        case 86: "inappropriate_fallback"
        case 90: "user_canceled"
        case 109: "missing_extension"
        case 110: "unsupported_extension"
        case 112: "unrecognized_name"
        case 116: "certificate_required"
        case 120: "no_application_protocol"
        default: "alert \(alert)"
        }
    }

    /// The error that an alert of the peer means for us.
    static func received(_ alert: UInt8) -> TLSError {
        let (meaning, hint): (String, String?) =
            switch alert {
            case 48: ("peer does not trust the CA of our certificate", "both sides need a common root certificate")
            case 45: ("peer says our certificate has expired", "compare the clocks of the two nodes")
            case 42, 43, 46: ("peer does not accept our certificate", nil)
            case 44: ("peer says our certificate is revoked", nil)
            case 49: ("peer denied access", "the trust domains of the two sides may differ")
            case 116: ("peer demands a certificate and saw none", nil)
            case 120: ("peer does not speak h2", "the peer may not be an HBONE endpoint")
            case 70: ("peer does not speak TLS 1.3", nil)
            case 40: ("peer found no common TLS parameters", nil)
            default: ("peer ended the connection", nil)
            }
        return TLSError(.peerAlert, "\(meaning) (\(name(alert)))", hint: hint, alert: alert)
    }
}
