// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
//
// The kernel feature probe: programs of each kind that capture by eBPF would need, never attached:
// loading one tells whether the kernel takes it. What each proves stands in README.md. The file needs no kernel or
// libbpf headers: the few types are declared here, and CO-RE relocates the field offsets at load time.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define CORE __attribute__((preserve_access_index))

enum { BPF_MAP_TYPE_SOCKMAP = 15, SK_DROP = 0, SK_PASS = 1, TC_ACT_OK = 0, TC_ACT_SHOT = 2 };

// Helpers by their numbers in the kernel's stable list.
static void *(*map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*sk_assign)(void *context, void *socket, u64 flags) = (void *)124;
static long (*sk_release)(void *socket) = (void *)86;

// The fields CO-RE must find in the running kernel's BTF.
struct sock_common {
    u16 skc_family;
    u16 skc_num;
} CORE;

struct sock {
    struct sock_common __sk_common;
    u32 sk_mark;
} CORE;

// User-visible context of sk_lookup; only what is read here.
struct bpf_sk_lookup {
    u64 socket;
    u32 family;
    u32 protocol;
    u32 remote_ip4;
    u32 remote_ip6[4];
    u16 remote_port;
    u16 padding;
    u32 local_ip4;
    u32 local_ip6[4];
    u32 local_port;
    u32 ingress_ifindex;
};

struct __sk_buff {
    u32 length;
    u32 pkt_type;
    u32 mark;
};

// The BTF form of a map definition: a struct whose members say type, key, value and size.
struct {
    int (*type)[BPF_MAP_TYPE_SOCKMAP];
    int (*max_entries)[3];
    u32 *key;
    u64 *value;
} listeners SEC(".maps");

/// sk_lookup with a SOCKMAP and sk_assign: steer a connection to a listener by program, without netfilter (Linux 5.9).
SEC("sk_lookup")
int probe_sk_lookup(struct bpf_sk_lookup *context) {
    u32 key = 0;
    void *socket = map_lookup_elem(&listeners, &key);
    if (!socket)
        return SK_PASS;
    long refused = sk_assign(context, socket, 0);
    sk_release(socket);
    return refused ? SK_DROP : SK_PASS;
}

/// A classifier that reads the mark: attached through tcx (Linux 6.6) or clsact.
SEC("tc")
int probe_tc(struct __sk_buff *packet) {
    return packet->mark == 0x539 ? TC_ACT_OK : TC_ACT_SHOT;
}

/// A BTF tracepoint that reads kernel structures through CO-RE: relocation and BTF both work (Linux 5.5).
SEC("tp_btf/inet_sock_set_state")
int probe_core(u64 *arguments) {
    const struct sock *socket = (const struct sock *)arguments[0];
    u16 family = 0;
    probe_read_kernel(&family, sizeof family, __builtin_preserve_access_index(&socket->__sk_common.skc_family));
    u32 mark = 0;
    probe_read_kernel(&mark, sizeof mark, __builtin_preserve_access_index(&socket->sk_mark));
    return family == 0 && mark == 0x539;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
