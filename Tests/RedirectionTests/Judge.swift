import CNftables
import LinuxNetwork

/// libnftables, which shares no code with the library under test, reads back what is in the kernel.
enum Judge {
    struct Problem: Error { let text: String }

    /// The output of an nft command in a namespace, without counters' figures.
    static func nft(
        _ command: String, in namespace: borrowing NetworkNamespace, handles: Bool = false, counters: Bool = false
    ) throws -> String {
        try namespace.run {
            // The context's socket belongs to the namespace it is made in.
            guard let context = nft_ctx_new(UInt32(NFT_CTX_DEFAULT)) else { throw Problem(text: "nft_ctx_new") }
            defer { nft_ctx_free(context) }
            nft_ctx_buffer_output(context)
            nft_ctx_buffer_error(context)
            var flags: UInt32 = counters ? 0 : UInt32(NFT_CTX_OUTPUT_STATELESS)
            if handles { flags |= UInt32(NFT_CTX_OUTPUT_HANDLE) }
            nft_ctx_output_set_flags(context, flags)
            let result = nft_run_cmd_from_buffer(context, command)
            guard result == 0 else {
                throw Problem(text: nft_ctx_get_error_buffer(context).map { String(cString: $0) } ?? "nft failed")
            }
            return nft_ctx_get_output_buffer(context).map { String(cString: $0) } ?? ""
        }
    }

    static func ruleset(_ namespace: borrowing NetworkNamespace, handles: Bool = false) throws -> String {
        try nft("list ruleset", in: namespace, handles: handles)
    }
}
