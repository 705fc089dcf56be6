@testable import HBONE

/// The parsers that read what strangers send, each as one function of bytes: it must come back, whatever they are.
///
/// `make fuzz` links each of them with libFuzzer (fuzz/<name>.swift); ``ReplayTests`` runs the committed corpus through
/// them as ordinary tests. What must hold is a precondition, so that both see it.
public enum FuzzTargets {
    /// By name, which is that of the folder in fuzz/corpus and of the fuzzer's source.
    public static let all: [String: @Sendable (UnsafeRawBufferPointer) -> Void] = [
        "http2-server": { HTTP2Target.run(.server, $0) },
        "http2-client": { HTTP2Target.run(.client, $0) },
        "connect": ConnectTarget.run,
        "dns-query": DNSTarget.query,
        "dns-reply": DNSTarget.reply,
        "headers": HeadersTarget.run,
        "proxy-protocol": ProxyProtocolTarget.run,
        "tls-records": TLSRecordsTarget.run,
        "xds": XDSTarget.run,
        "zds": HandoverTarget.run,
    ]
}

// What libFuzzer's side calls; it cannot see Swift's names.
@_cdecl("apus_fuzz_http2_server") public func fuzzHTTP2Server(_ data: UnsafePointer<UInt8>?, _ count: Int) {
    HTTP2Target.run(.server, UnsafeRawBufferPointer(start: data, count: count))
}
@_cdecl("apus_fuzz_http2_client") public func fuzzHTTP2Client(_ data: UnsafePointer<UInt8>?, _ count: Int) {
    HTTP2Target.run(.client, UnsafeRawBufferPointer(start: data, count: count))
}
@_cdecl("apus_fuzz_connect") public func fuzzConnect(_ data: UnsafePointer<UInt8>?, _ count: Int) {
    ConnectTarget.run(UnsafeRawBufferPointer(start: data, count: count))
}
@_cdecl("apus_fuzz_dns_query") public func fuzzDNSQuery(_ data: UnsafePointer<UInt8>?, _ count: Int) {
    DNSTarget.query(UnsafeRawBufferPointer(start: data, count: count))
}
@_cdecl("apus_fuzz_dns_reply") public func fuzzDNSReply(_ data: UnsafePointer<UInt8>?, _ count: Int) {
    DNSTarget.reply(UnsafeRawBufferPointer(start: data, count: count))
}
@_cdecl("apus_fuzz_headers") public func fuzzHeaders(_ data: UnsafePointer<UInt8>?, _ count: Int) {
    HeadersTarget.run(UnsafeRawBufferPointer(start: data, count: count))
}
@_cdecl("apus_fuzz_proxy_protocol") public func fuzzProxyProtocol(_ data: UnsafePointer<UInt8>?, _ count: Int) {
    ProxyProtocolTarget.run(UnsafeRawBufferPointer(start: data, count: count))
}
@_cdecl("apus_fuzz_tls_records") public func fuzzTLSRecords(_ data: UnsafePointer<UInt8>?, _ count: Int) {
    TLSRecordsTarget.run(UnsafeRawBufferPointer(start: data, count: count))
}
@_cdecl("apus_fuzz_zds") public func fuzzZDS(_ data: UnsafePointer<UInt8>?, _ count: Int) {
    HandoverTarget.run(UnsafeRawBufferPointer(start: data, count: count))
}
@_cdecl("apus_fuzz_xds") public func fuzzXDS(_ data: UnsafePointer<UInt8>?, _ count: Int) {
    XDSTarget.run(UnsafeRawBufferPointer(start: data, count: count))
}
