// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
//
// Capture without netfilter: classifiers (clsact, direct action) and one socket iterator.
//
//   egress    on every interface but lo: what the pod's own sockets send in the clear is led to lo
//   loopback  on lo, ingress: what was led there goes to ztunnel's listener, or to the connection it has accepted
//   ingress   on every interface but lo: new connections into the pod go to ztunnel's listener
//   probe     before ingress, once a probe port: tells it which of what comes from the address of probes is exempt
//   line      behind egress and ingress: drops what they have not seen, should one of them be gone
//   forged    where nf_tables captures: drops what only pretends to be ztunnel's
//   spare     marks sockets that were open before capture began, by their cookies
//
// The programs hold no state of a pod, so one copy serves all pods of a node. What a pod wants stands in the class of
// its filters (tc_classid); what belongs to a connection stands in its sockets: a captured one is known by the socket
// that ztunnel accepted, whose local address is the original destination, and a spared one by its own mark. So nothing
// has to be kept up, and nothing outlives its connection.

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// Bits of the filters' class: CaptureFlags in Swift.
#define CAPTURES_NEW 0x1     // new connections are captured; without it they go their own way
#define SPARES_UNMARKED 0x2  // enrolment: open connections are not marked yet
#define CAPTURES_INBOUND 0x4 // plain connections into the pod are captured as well
#define CAPTURES_V4 0x10
#define CAPTURES_V6 0x20
#define CAPTURES_DNS 0x40 // queries go to the proxy
#define EXEMPTS_PROBES 0x80 // the address of probes is not captured, whatever the port
#define REQUIRES_SEAL 0x100 // ztunnel's mark alone lets no new connection past
#define IS_INGRESS 0x200 // of line: where it stands
#define IS_VIRTUAL 0x8       // behind the interface is a guest: what comes from it is outbound

#define MASK 0xfff
#define MARK_ZTUNNEL 0x539 // on ztunnel's sockets
#define MARK_INBOUND 0x111 // leads to lo by the policy route (table 100)
#define MARK_DIRECT 0x53a  // on sockets whose connection is left alone
#define MARK_LOOPED 0x53b  // from egress to loopback, on the packet alone
#define MARK_QUERY 0x53c  // the same, for the DNS proxy
#define MARK_LOOPED_AGAIN 0x53e // the same two, behind the reset of a finished connection
#define MARK_QUERY_AGAIN 0x53f
#define MARK_INGRESS_AGAIN 0x540 // that also for what comes into the pod
#define MARK_PROBE 0x541 // from probe to ingress, on the packet alone

// SO_BUSY_POLL_BUDGET of ztunnel's sockets (Seal in Swift): unlike a mark it takes CAP_NET_ADMIN of the machine.
#define SEAL 61
// From egress and ingress to line, in the part of the packet's control block that is the classifiers' own.
#define SEEN 0xa905a905

#define PORT_OUTBOUND 15001
#define PORT_INBOUND 15006
#define PORT_HBONE 15008
#define PORT_PROXY 15053
#define PORT_DNS 53

#define LOOPBACK 1
#define PASS TC_ACT_UNSPEC // other software's filters have their say
#define DROP TC_ACT_SHOT

#define inline __attribute__((always_inline)) inline

enum { FOREIGN, BROKEN, TCP, UDP };

// At the start of every socket, a finished one's as well.
struct sock_common {
    __u32 skc_tw_rcv_nxt;
} __attribute__((preserve_access_index));

// Of every socket that is not finished or about to be.
struct sock {
    __u16 sk_busy_poll_budget;
} __attribute__((preserve_access_index));

struct tcp_sock {
} __attribute__((preserve_access_index));

/// A packet of TCP, or of UDP to or from the ports of DNS, as the receiver looks up its socket.
struct packet {
    struct bpf_sock_tuple tuple;
    __u32 offset; // of the header of TCP or UDP, from the network header
    __u32 sequence; // of TCP, as it stands in the packet
    __u16 flags;    // the same, with the length of the header
    bool v4;    // which part of the tuple is in use
    __u16 source, port; // the latter of the destination; host order
    bool syn;   // opens a connection
    bool probe_source, probe_destination;
};

static inline long load(struct __sk_buff *skb, __u32 offset, void *to, __u32 size) {
    // From the network header: what lies before it differs between kinds of interfaces.
    return bpf_skb_load_bytes_relative(skb, offset, to, size, BPF_HDR_START_NET);
}

static inline bool is_probe_v6(const __u32 *address) {
    return address[0] == bpf_htonl(0xfd169254) && address[1] == bpf_htonl(0x71271337) &&
           address[2] == 0xffffffff && address[3] == 0xffffffff;
}

// The TCP header must lie whole in the packet, also in the first of several fragments (RFC 7112): a header cut in two
// would be put together behind us. Later fragments pass, for without the first they come to nothing.
static inline int parse_tcp(struct __sk_buff *skb, struct packet *packet, __u32 offset, bool fragment, bool v4) {
    struct tcphdr tcp;
    if (load(skb, offset, &tcp, sizeof tcp))
        return BROKEN;
    packet->syn = tcp.syn && !tcp.ack;
    packet->offset = offset;
    packet->sequence = tcp.seq;
    __builtin_memcpy(&packet->flags, (__u8 *)&tcp + 12, sizeof packet->flags);
    if (fragment && packet->syn)
        return BROKEN;
    packet->source = bpf_ntohs(tcp.source);
    packet->port = bpf_ntohs(tcp.dest);
    packet->v4 = v4;
    if (v4) {
        packet->tuple.ipv4.sport = tcp.source;
        packet->tuple.ipv4.dport = tcp.dest;
    } else {
        packet->tuple.ipv6.sport = tcp.source;
        packet->tuple.ipv6.dport = tcp.dest;
    }
    return TCP;
}

static inline int parse_udp(struct __sk_buff *skb, struct packet *packet, __u32 offset, bool v4) {
    struct udphdr udp;
    if (load(skb, offset, &udp, sizeof udp))
        return FOREIGN;
    packet->source = bpf_ntohs(udp.source);
    packet->port = bpf_ntohs(udp.dest);
    packet->offset = offset;
    packet->v4 = v4;
    return UDP;
}

static inline int parse_v4(struct __sk_buff *skb, struct packet *packet) {
    struct iphdr ip;
    if (load(skb, 0, &ip, sizeof ip))
        return FOREIGN;
    __u16 fragment = bpf_ntohs(ip.frag_off);
    if (fragment & 0x1fff)
        return FOREIGN;
    packet->tuple.ipv4.saddr = ip.saddr;
    packet->tuple.ipv4.daddr = ip.daddr;
    packet->probe_source = ip.saddr == bpf_htonl(0xa9fe077f);
    packet->probe_destination = ip.daddr == bpf_htonl(0xa9fe077f);
    if (ip.protocol == IPPROTO_UDP)
        return parse_udp(skb, packet, ip.ihl * 4, true);
    if (ip.protocol != IPPROTO_TCP)
        return FOREIGN;
    return parse_tcp(skb, packet, ip.ihl * 4, fragment & 0x2000, true);
}

static inline int parse_v6(struct __sk_buff *skb, struct packet *packet) {
    struct ipv6hdr ip;
    if (load(skb, 0, &ip, sizeof ip))
        return FOREIGN;
    __builtin_memcpy(packet->tuple.ipv6.saddr, &ip.saddr, 16);
    __builtin_memcpy(packet->tuple.ipv6.daddr, &ip.daddr, 16);
    packet->probe_source = is_probe_v6(packet->tuple.ipv6.saddr);
    packet->probe_destination = is_probe_v6(packet->tuple.ipv6.daddr);
    __u8 next = ip.nexthdr;
    __u32 offset = sizeof ip;
    bool fragment = false;
    // Extension headers (RFC 8200 section 4): a TCP header behind them is one all the same.
#pragma unroll
    for (int i = 0; i < 8; i++) {
        if (next == IPPROTO_TCP)
            return parse_tcp(skb, packet, offset, fragment, false);
        if (next == IPPROTO_UDP)
            return parse_udp(skb, packet, offset, false);
        if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_FRAGMENT && next != IPPROTO_DSTOPTS &&
            next != IPPROTO_AH)
            return FOREIGN;
        __u8 header[4];
        if (load(skb, offset, header, sizeof header))
            return BROKEN;
        if (next == IPPROTO_FRAGMENT) {
            if (header[2] || header[3] & 0xf8)
                return FOREIGN;
            fragment = header[3] & 1;
            offset += 8;
        } else {
            offset += next == IPPROTO_AH ? (header[1] + 2) * 4 : (header[1] + 1) * 8;
        }
        next = header[0];
    }
    return BROKEN;
}

static inline int parse(struct __sk_buff *skb, struct packet *packet) {
    if (skb->protocol == bpf_htons(ETH_P_IP))
        return parse_v4(skb, packet);
    if (skb->protocol == bpf_htons(ETH_P_IPV6))
        return parse_v6(skb, packet);
    return FOREIGN;
}

enum socket_kind { NONE, FINISHED, KNOWN };

/// Whether a socket here has the connection the packet belongs to: open, opening or half closed (`KNOWN`), or over and
/// in the way of the one that the packet opens (`FINISHED`).
static inline enum socket_kind find(struct __sk_buff *skb, struct packet *packet, __u32 *expected) {
    __u32 size = packet->v4 ? sizeof packet->tuple.ipv4 : sizeof packet->tuple.ipv6;
    struct bpf_sock *socket = bpf_skc_lookup_tcp(skb, &packet->tuple, size, BPF_F_CURRENT_NETNS, 0);
    if (!socket)
        return NONE;
    __u32 state = socket->state;
    enum socket_kind kind = state == BPF_TCP_LISTEN ? NONE : KNOWN;
    if (state == BPF_TCP_TIME_WAIT && packet->syn) {
        struct sock_common *finished = (void *)bpf_skc_to_tcp_timewait_sock(socket);
        if (finished) {
            *expected = finished->skc_tw_rcv_nxt;
            kind = FINISHED;
        }
    }
    bpf_sk_release(socket);
    return kind;
}

static inline bool is_known(struct __sk_buff *skb, struct packet *packet) {
    __u32 expected;
    return find(skb, packet, &expected) == KNOWN;
}

/// Whether a new connection is to be captured.
static inline bool captures(__u32 flags, struct packet *packet) {
    return flags & CAPTURES_NEW && flags & (packet->v4 ? CAPTURES_V4 : CAPTURES_V6);
}

static inline void set_mark(struct __sk_buff *skb, __u32 mark) {
    skb->mark = (skb->mark & ~MASK) | mark;
}

/// Hands the packet to ztunnel's socket on the port; without one the packet is dropped. A socket there that has not
/// ztunnel's mark is somebody else's.
static inline int assign(struct __sk_buff *skb, struct packet *packet, __u16 port, bool udp) {
    struct bpf_sock_tuple tuple = {};
    __u32 size;
    if (packet->v4) {
        size = sizeof tuple.ipv4;
        tuple.ipv4.daddr = bpf_htonl(0x7f000001);
        tuple.ipv4.dport = bpf_htons(port);
    } else {
        size = sizeof tuple.ipv6;
        tuple.ipv6.daddr[3] = bpf_htonl(1);
        tuple.ipv6.dport = bpf_htons(port);
    }
    struct bpf_sock *socket = udp ? bpf_sk_lookup_udp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0)
                                  : bpf_sk_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
    if (!socket)
        return DROP;
    int verdict = DROP;
    if ((udp || socket->state == BPF_TCP_LISTEN) && (socket->mark & MASK) == MARK_ZTUNNEL &&
        bpf_sk_assign(skb, socket, 0) == 0)
        verdict = PASS;
    bpf_sk_release(socket);
    return verdict;
}

/// Makes room for a connection whose packet finds a finished one with the same addresses and ports: a socket in
/// TIME_WAIT. The kernel lets such a packet end it when it looks for the listener itself, but not for a listener that
/// it is told: it drops the packet in silence. So a copy of the packet goes first, as the reset that ends that socket,
/// and the packet itself comes once more behind it. Both take the same queue of this processor.
static inline int replace_finished(struct __sk_buff *skb, struct packet *packet, __u32 expected, __u32 again) {
    // On ingress the network header is behind an Ethernet header, also on lo.
    __u32 header = ETH_HLEN + packet->offset, checksum = header + __builtin_offsetof(struct tcphdr, check);
    __u32 sequence = packet->sequence, reset = bpf_htonl(expected);
    __u16 flags = packet->flags, reset_flags = (flags & bpf_htons(0xf000)) | bpf_htons(0x0004);
    bpf_l4_csum_replace(skb, checksum, sequence, reset, sizeof reset);
    bpf_skb_store_bytes(skb, header + __builtin_offsetof(struct tcphdr, seq), &reset, sizeof reset, 0);
    bpf_l4_csum_replace(skb, checksum, flags, reset_flags, sizeof flags);
    bpf_skb_store_bytes(skb, header + 12, &reset_flags, sizeof flags, 0);
    if (bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS))
        return DROP; // the client sends it again
    bpf_l4_csum_replace(skb, checksum, reset, sequence, sizeof reset);
    bpf_skb_store_bytes(skb, header + __builtin_offsetof(struct tcphdr, seq), &sequence, sizeof reset, 0);
    bpf_l4_csum_replace(skb, checksum, reset_flags, flags, sizeof flags);
    bpf_skb_store_bytes(skb, header + 12, &flags, sizeof flags, 0);
    set_mark(skb, again);
    return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}

/// A query (RFC 1035 section 4.1.1: QR and OPCODE are zero): an update or a notification is meant for its server.
static inline bool is_query(struct __sk_buff *skb, struct packet *packet) {
    __u8 flags;
    return packet->port == PORT_DNS && load(skb, packet->offset + sizeof(struct udphdr) + 2, &flags, 1) == 0 &&
           (flags & 0xf8) == 0;
}

/// The proxy answers from the address that was asked, but from its own port: the client knows another.
static inline void answer_from_dns(struct __sk_buff *skb, struct packet *packet) {
    bool is_loopback = packet->v4 ? (packet->tuple.ipv4.saddr & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000)
                                  : packet->tuple.ipv6.saddr[0] == 0 && packet->tuple.ipv6.saddr[1] == 0 &&
                                        packet->tuple.ipv6.saddr[2] == 0;
    if (packet->source != PORT_PROXY || is_loopback)
        return;
    __u16 before = bpf_htons(PORT_PROXY), after = bpf_htons(PORT_DNS);
    // Here, on lo, the network header is behind an Ethernet header.
    __u32 header = ETH_HLEN + packet->offset;
    bpf_l4_csum_replace(skb, header + __builtin_offsetof(struct udphdr, check), before, after,
                        BPF_F_MARK_MANGLED_0 | sizeof before);
    bpf_skb_store_bytes(skb, header + __builtin_offsetof(struct udphdr, source), &after, sizeof after, 0);
}

/// Whether the packet's socket is one that was made for ztunnel. No socket is where the kernel has no such option.
static inline bool is_sealed(struct __sk_buff *skb) {
    struct bpf_sock *socket = skb->sk;
    if (!socket || !bpf_core_field_exists(struct sock, sk_busy_poll_budget))
        return false;
    struct tcp_sock *tcp = bpf_skc_to_tcp_sock(socket);
    return tcp && ((struct sock *)tcp)->sk_busy_poll_budget == SEAL;
}

/// The same for a socket of UDP, for which the kernel has no such conversion in both families.
static inline bool is_sealed_datagram(struct __sk_buff *skb) {
    struct bpf_sock *socket = skb->sk;
    if (!socket || !bpf_core_field_exists(struct sock, sk_busy_poll_budget))
        return false;
    // The address as a number: the verifier lets nobody add to a pointer of this kind.
    __u64 address = 0;
    if (bpf_probe_read_kernel(&address, sizeof address, &socket))
        return false;
    __u16 seal = 0;
    struct sock *full = (void *)address;
    if (bpf_probe_read_kernel(&seal, sizeof seal, __builtin_preserve_access_index(&full->sk_busy_poll_budget)))
        return false;
    return seal == SEAL;
}

/// Whether a packet with ztunnel's mark opens what ztunnel has not opened.
static inline bool is_forged(struct __sk_buff *skb, struct packet *packet, int kind) {
    if (kind == TCP)
        return packet->syn && !is_sealed(skb);
    return kind == BROKEN || (kind == UDP && is_query(skb, packet) && !is_sealed_datagram(skb));
}

/// What a socket of the pod sends, about to leave it.
SEC("tc")
int apus_egress(struct __sk_buff *skb) {
    __u32 flags = skb->tc_classid;
    __u32 mark = skb->mark & MASK;
    skb->cb[4] = SEEN;
    // Most of what ztunnel sends needs no look at the packet.
    if (mark == MARK_ZTUNNEL && (!(flags & REQUIRES_SEAL) || is_sealed(skb)))
        return PASS;
    struct packet packet = {};
    int kind = parse(skb, &packet);
    if (mark == MARK_ZTUNNEL) {
        if (kind == BROKEN)
            return DROP;
        // What carries no seal and opens nothing is an answer of the kernel's for ztunnel, or belongs to a forged
        // connection that was captured.
        if (!is_forged(skb, &packet, kind) && (kind != TCP || !is_known(skb, &packet)))
            return PASS;
        mark = 0;
    }
    if (kind == UDP) {
        if (!(flags & CAPTURES_DNS) || !captures(flags, &packet) || !skb->sk || !is_query(skb, &packet))
            return PASS;
        set_mark(skb, MARK_QUERY);
        return bpf_redirect(LOOPBACK, BPF_F_INGRESS);
    }
    if (kind != TCP)
        return PASS;
    // The app's answers to ztunnel, which the policy route leads to lo: here only when that is gone.
    if (mark == MARK_INBOUND)
        return DROP;
    // Behind a captured connection is the socket that ztunnel accepted: it receives what this packet sends.
    if (!is_known(skb, &packet)) {
        // The mark of what is left alone stands for an open connection, and opens none.
        bool direct = mark == MARK_DIRECT && !(packet.syn && flags & REQUIRES_SEAL);
        if (!captures(flags, &packet) || direct || !skb->sk || (packet.probe_destination && flags & EXEMPTS_PROBES))
            return PASS;
        if (!packet.syn && (flags & SPARES_UNMARKED))
            return PASS;
        // Also what opens no connection: the other end is gone, and the kernel says so better than a stranger.
    }
    set_mark(skb, flags & CAPTURES_DNS && packet.port == PORT_DNS ? MARK_QUERY : MARK_LOOPED);
    return bpf_redirect(LOOPBACK, BPF_F_INGRESS);
}

/// What comes in over lo: what egress has led there, and what ztunnel and the app say to each other.
SEC("tc")
int apus_loopback(struct __sk_buff *skb) {
    __u32 mark = skb->mark & MASK;
    bool again = mark == MARK_LOOPED_AGAIN || mark == MARK_QUERY_AGAIN;
    if (mark == MARK_LOOPED || mark == MARK_QUERY || again) {
        struct packet packet = {};
        int kind = parse(skb, &packet);
        if (kind != TCP && kind != UDP)
            return DROP;
        // It carries the link address of whom it was meant for.
        bpf_skb_change_type(skb, 0 /* PACKET_HOST */);
        bool query = mark == MARK_QUERY || mark == MARK_QUERY_AGAIN;
        __u32 expected = 0;
        enum socket_kind socket = kind == TCP ? find(skb, &packet, &expected) : NONE;
        if (socket == FINISHED && !again)
            return replace_finished(skb, &packet, expected, query ? MARK_QUERY_AGAIN : MARK_LOOPED_AGAIN);
        // For the route: whatever the destination, it is for this host.
        set_mark(skb, MARK_INBOUND);
        if (socket == KNOWN)
            return PASS;
        return assign(skb, &packet, query ? PORT_PROXY : PORT_OUTBOUND, kind == UDP);
    }
    if (mark == MARK_ZTUNNEL) {
        struct packet packet = {};
        int kind = parse(skb, &packet);
        // The app's socket inherits the mark of the packet that opens its connection, and its answers come back by it.
        if (kind == TCP)
            set_mark(skb, MARK_INBOUND);
        else if (kind == UDP)
            answer_from_dns(skb, &packet);
    }
    return PASS;
}

/// What comes into the pod.
SEC("tc")
int apus_ingress(struct __sk_buff *skb) {
    __u32 flags = skb->tc_classid;
    skb->cb[4] = SEEN;
    // Whatever else had this mark on the way in: nothing but ours has a meaning for it.
    bool named = (skb->mark & MASK) == MARK_PROBE;
    if (named)
        set_mark(skb, 0);
    struct packet packet = {};
    int kind = parse(skb, &packet);
    if (kind != TCP)
        return kind == BROKEN ? DROP : PASS;
    __u32 expected = 0;
    enum socket_kind socket = find(skb, &packet, &expected);
    bool probe = packet.probe_source && (named || flags & EXEMPTS_PROBES);
    bool captured = captures(flags, &packet) &&
                    (flags & IS_VIRTUAL || (flags & CAPTURES_INBOUND && packet.port != PORT_HBONE && !probe));
    if (socket == KNOWN) {
        if (flags & IS_VIRTUAL)
            set_mark(skb, MARK_INBOUND);
        return PASS;
    }
    if (!captured) {
        // For the socket that is made of it, and for a refusal: they go their own way, past egress.
        if (!(flags & IS_VIRTUAL))
            set_mark(skb, MARK_DIRECT);
        return PASS;
    }
    if ((skb->mark & MASK) == MARK_INGRESS_AGAIN)
        set_mark(skb, 0);
    else if (socket == FINISHED)
        return replace_finished(skb, &packet, expected, MARK_INGRESS_AGAIN);
    if (!(flags & IS_VIRTUAL))
        return assign(skb, &packet, PORT_INBOUND, false);
    set_mark(skb, MARK_INBOUND);
    return assign(skb, &packet, PORT_OUTBOUND, false);
}

/// Before ingress, with a port for its class: what the kubelet sends to it is a probe of the pod's.
SEC("tc")
int apus_probe(struct __sk_buff *skb) {
    struct packet packet = {};
    __u32 mark = skb->mark & MASK;
    if (mark && mark != MARK_PROBE)
        return PASS;
    if (parse(skb, &packet) == TCP && packet.probe_source && packet.port == skb->tc_classid)
        set_mark(skb, MARK_PROBE);
    return PASS;
}

/// Whether the packet comes from a socket that was made for ztunnel, or belongs to a connection of such a one.
static inline bool is_own(struct __sk_buff *skb, struct packet *packet, int kind) {
    return (skb->mark & MASK) == MARK_ZTUNNEL &&
           (!(skb->tc_classid & REQUIRES_SEAL) || !is_forged(skb, packet, kind));
}

/// Behind egress and ingress. What neither has seen is dropped where it would be plain text past ztunnel: what opens a
/// connection, what belongs to one that ztunnel has accepted, and a query for the proxy.
SEC("tc")
int apus_line(struct __sk_buff *skb) {
    __u32 flags = skb->tc_classid;
    if (skb->cb[4] == SEEN)
        return PASS;
    struct packet packet = {};
    int kind = parse(skb, &packet);
    if (kind == BROKEN)
        return DROP;
    if (kind == FOREIGN || !captures(flags, &packet))
        return PASS;
    if (flags & IS_INGRESS) {
        bool probe = packet.probe_source && (flags & EXEMPTS_PROBES || (skb->mark & MASK) == MARK_PROBE);
        bool captured = flags & IS_VIRTUAL || (flags & CAPTURES_INBOUND && packet.port != PORT_HBONE && !probe);
        return captured && kind == TCP && packet.syn ? DROP : PASS;
    }
    if (!skb->sk || is_own(skb, &packet, kind))
        return PASS;
    if (kind == UDP)
        return flags & CAPTURES_DNS && is_query(skb, &packet) ? DROP : PASS;
    if (!packet.syn)
        return is_known(skb, &packet) ? DROP : PASS;
    return packet.probe_destination && flags & EXEMPTS_PROBES ? PASS : DROP;
}

/// Where nf_tables captures, on every interface but lo: its rules tell ztunnel's packets by their mark, and this sees to
/// it that only ztunnel's have it.
SEC("tc")
int apus_forged(struct __sk_buff *skb) {
    if ((skb->mark & MASK) != MARK_ZTUNNEL || is_sealed(skb))
        return PASS;
    struct packet packet = {};
    int kind = parse(skb, &packet);
    return is_forged(skb, &packet, kind) ? DROP : PASS;
}

/// The cookies of the sockets to mark.
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1 << 20);
    __type(key, __u64);
    __type(value, __u32);
} spared SEC(".maps");

// What an iterator over TCP sockets is given (kernel/bpf, net/ipv4/tcp_ipv4.c).
struct bpf_iter_meta {
    struct seq_file *seq;
    __u64 session_id;
    __u64 seq_num;
} __attribute__((preserve_access_index));

struct bpf_iter__tcp {
    struct bpf_iter_meta *meta;
    struct sock_common *sk_common;
    __u32 uid;
} __attribute__((preserve_access_index));

#define SOL_SOCKET 1
#define SO_MARK 36

SEC("iter/tcp")
int apus_spare(struct bpf_iter__tcp *context) {
    struct sock_common *common = context->sk_common;
    if (!common)
        return 0;
    struct tcp_sock *socket = bpf_skc_to_tcp_sock(common);
    if (!socket)
        return 0;
    __u64 cookie = bpf_get_socket_cookie(socket);
    if (!bpf_map_lookup_elem(&spared, &cookie))
        return 0;
    __u32 mark = 0;
    if (bpf_getsockopt(socket, SOL_SOCKET, SO_MARK, &mark, sizeof mark))
        return 0;
    if (mark & MASK)
        return 0;
    mark |= MARK_DIRECT;
    bpf_setsockopt(socket, SOL_SOCKET, SO_MARK, &mark, sizeof mark);
    return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
