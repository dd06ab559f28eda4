// SPDX-License-Identifier: (MIT OR GPL-2.0)
/*
 * Gives the TCP segments of our endpoints to the AF_XDP socket (XSK) of their queue, and leaves everything else to the
 * kernel. Anything odd passes to the kernel too, which judges it better than a page of BPF.
 *
 *   mode   SYN                               other segments
 *   off    PASS                              PASS
 *   mixed  kernel-owned -> PASS, else XSK    kernel-owned -> PASS, else XSK
 *   steer  XSK                               XSK
 *   drain  PASS                              kernel-owned -> PASS, else XSK
 *
 * On a queue without an XSK, SYNs and kernel-owned segments PASS. The rest DROP: the kernel knows nothing of their
 * connections, and would answer RST. In every mode but off, segments DROP whose source is denied, or is missing from an
 * allow list that has entries. SYNs of peers that are answered by another interface PASS. Each packet adds one to
 * exactly one counter.
 *
 * The maps are described in xdp_steer.h. Read from the bottom: xdp_steer() parses, steer_segment() decides.
 *
 * It loads with CAP_BPF and CAP_NET_ADMIN. From whoever has no CAP_PERFMON the verifier takes less, so that nothing can
 * be read by speculation. Hence five rules:
 *
 *   - A pointer into the packet moves by constants. What stands behind a header of variable length is copied, by
 *     bpf_xdp_load_bytes().
 *   - A pointer is compared with NULL, or with the end of the packet, right where it was got, and no second time.
 *   - What is worked out for a packet is in the `scratch` map. On the stack, each place that is written first, and each
 *     pointer that is kept over a call, costs a fence of about 6 ns. Linux 6.1 takes no number of 32 bits that is
 *     written there twice.
 *   - Loops are unrolled: by speculation, a counted one never ends.
 *   - What two branches end with must not be made one: see keep_apart().
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "xdp_steer.h"

#ifndef BPF_TCP_LISTEN
#define BPF_TCP_LISTEN 10
#endif

/* <linux/icmp.h> drags in the C library, which has no headers for this target. */
#define ICMP_DEST_UNREACH 3
#define ICMP_FRAG_NEEDED 4
#define ICMPV6_PKT_TOOBIG 2

/*
 * At the end of a branch: the compiler must not make one store of those that both branches end with. It would calculate
 * the address, which is forbidden.
 */
#define keep_apart() asm volatile("" ::: "memory")

#define IPV4_FRAGMENT_OFFSET 0x1fff
#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV6_FRAGMENT_OFFSET 0xfff8
#define IPV6_MORE_FRAGMENTS 0x0001
/* Real traffic has none or one. The bound keeps the program small for the verifier. It is the stack's as well. */
#define MAX_EXTENSION_HEADERS 6

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, STEER_MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} xsks_map SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct endpoint_key);
	__type(value, struct endpoint_value);
} endpoints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct mac_key);
	__type(value, __u32);
} macs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct source_key);
	__type(value, __u32);
} allowed_sources SEC(".maps"), denied_sources SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 8192);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct elsewhere_key);
	__type(value, __u32);
} peers_elsewhere SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct steer_config);
} config SEC(".maps");

/* Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STEER_MAX_QUEUES);
	__type(key, __u32);
	__type(value, struct syn_limit);
} syn_limits SEC(".maps");

/* Written by this program: when the next SYN is due at the set rate, in bpf_ktime_get_ns() time. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STEER_MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u64);
} syn_due SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STEER_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* A flow as its own host sees it, whichever direction the packet had. */
struct flow {
	struct endpoint_key local;
	struct source_key remote;
	__be16 remote_port;
};

struct ipv6_extension {
	__u8 next;
	__u8 length; /* in 8 bytes beyond the first 8 */
	__be16 offset_and_flags; /* fragment header only */
	__u32 rest;
};

struct vlan_tag {
	__be16 control;
	__be16 protocol;
};

struct icmp_header {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 rest;
};

struct ports {
	__be16 source;
	__be16 destination;
};

struct segment {
	bool whole; /* The TCP header is there, so that its flags are known. */
	bool syn;
	bool first_fragment;
};

/* What is worked out for one packet. A CPU finishes it before it takes the next. */
struct scratch {
	__u32 key;    /* Of any array. First, so that its address is at hand already. */
	__u32 mode;   /* enum steer_mode */
	__u32 offset; /* of the header that comes next in the packet */
	__u8 next;    /* its protocol, with IPv6 */
	struct flow flow;
	struct segment segment;
	struct bpf_sock_tuple tuple;
	struct mac_key mac;
	struct elsewhere_key elsewhere;
	union { /* copied from the packet */
		struct tcphdr tcp;
		struct ipv6_extension extension;
		struct {
			struct icmp_header icmp;
			struct iphdr quote;
		} ipv4;
		struct {
			struct icmp_header icmp;
			struct ipv6hdr quote;
		} ipv6;
	} copy;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

/* What parsing comes to, where it is not a counter of packets that pass. */
enum {
	SEGMENT = STEER_COUNTERS, /* TCP, with its flow in `scratch` */
	QUOTE,                    /* ICMP, with the flow that it quotes */
	HIDDEN,                   /* too many extension headers to see what is behind them, with the addresses */
};

static __always_inline int count(struct scratch *s, int verdict, __u32 reason)
{
	__u64 *counter;

	s->key = reason;
	counter = bpf_map_lookup_elem(&counters, &s->key);
	if (counter)
		*counter += 1;
	return verdict;
}

static __always_inline void copy_ipv4(struct steer_address *address, const __be32 *ipv4)
{
	__u32 *words = (__u32 *)address->bytes;

	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = *ipv4;
}

static __always_inline void copy_ipv6(struct steer_address *address, const struct in6_addr *ipv6)
{
	__u32 *words = (__u32 *)address->bytes;

	words[0] = ipv6->in6_u.u6_addr32[0];
	words[1] = ipv6->in6_u.u6_addr32[1];
	words[2] = ipv6->in6_u.u6_addr32[2];
	words[3] = ipv6->in6_u.u6_addr32[3];
}

/* Whether the kernel has a socket for this very flow. TIME-WAIT and SYN-RECEIVED count, listening does not. */
static __always_inline bool kernel_owns(struct xdp_md *ctx, struct scratch *s)
{
	const struct flow *flow = &s->flow;
	struct bpf_sock_tuple *tuple = &s->tuple;
	struct bpf_sock *socket;
	__u32 size;
	bool owned;

	if (flow->local.family == 4) {
		__builtin_memcpy(&tuple->ipv4.saddr, flow->remote.address.bytes + 12, 4);
		__builtin_memcpy(&tuple->ipv4.daddr, flow->local.address.bytes + 12, 4);
		tuple->ipv4.sport = flow->remote_port;
		tuple->ipv4.dport = flow->local.port;
		size = sizeof(tuple->ipv4);
		keep_apart();
	} else {
		__builtin_memcpy(tuple->ipv6.saddr, flow->remote.address.bytes, 16);
		__builtin_memcpy(tuple->ipv6.daddr, flow->local.address.bytes, 16);
		tuple->ipv6.sport = flow->remote_port;
		tuple->ipv6.dport = flow->local.port;
		size = sizeof(tuple->ipv6);
	}

	socket = bpf_skc_lookup_tcp(ctx, tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!socket)
		return false;
	owned = socket->state != BPF_TCP_LISTEN;
	bpf_sk_release(socket);
	return owned;
}

static __always_inline bool source_allowed(struct scratch *s)
{
	struct steer_config *settings;
	__u32 flags;

	s->key = 0;
	settings = bpf_map_lookup_elem(&config, &s->key);
	if (!settings)
		return true;
	flags = settings->flags;
	if (!flags)
		return true;
	s->flow.remote.prefix_length = 128;
	if (flags & STEER_DENY_LIST && bpf_map_lookup_elem(&denied_sources, &s->flow.remote))
		return false;
	return !(flags & STEER_ALLOW_LIST) || bpf_map_lookup_elem(&allowed_sources, &s->flow.remote);
}

/* Whether answers to this peer leave by an interface that is not ours, as far as has been found out. */
static __always_inline bool answered_elsewhere(struct scratch *s)
{
	struct steer_config *settings;
	__u32 *passes;

	s->key = 0;
	settings = bpf_map_lookup_elem(&config, &s->key);
	if (!settings || !(settings->flags & STEER_ELSEWHERE))
		return false;
	s->elsewhere.prefix_length = 8 * (sizeof(s->elsewhere) - sizeof(__u32));
	s->elsewhere.local = s->flow.local.address;
	s->elsewhere.port = s->flow.local.port;
	s->elsewhere.remote = s->flow.remote.address;
	passes = bpf_map_lookup_elem(&peers_elsewhere, &s->elsewhere);
	return passes && *passes;
}

/*
 * The token bucket of a queue, kept as one number: the time at which the next SYN is due. It may lie in the past by no
 * more than the burst. A SYN that comes before it is too many. A queue is served by one CPU at a time; where it is not,
 * a lost update lets one more SYN through. s->key is the queue.
 */
static __always_inline bool syn_within_rate(struct scratch *s)
{
	struct syn_limit *limit;
	__u64 now, earliest, next;
	__u64 *due;

	limit = bpf_map_lookup_elem(&syn_limits, &s->key);
	if (!limit || !limit->interval_ns)
		return true;
	due = bpf_map_lookup_elem(&syn_due, &s->key);
	if (!due)
		return true;
	now = bpf_ktime_get_ns();
	earliest = now > limit->burst_ns ? now - limit->burst_ns : 0;
	next = *due > earliest ? *due : earliest;
	if (next > now)
		return false;
	*due = next + limit->interval_ns;
	return true;
}

/* The table at the top of this file. */
static __always_inline int steer_segment(struct xdp_md *ctx, struct scratch *s)
{
	struct endpoint_value *endpoint;

	endpoint = bpf_map_lookup_elem(&endpoints, &s->flow.local);
	if (!endpoint)
		return count(s, XDP_PASS, PASS_NO_ENDPOINT);
	s->mode = endpoint->mode;
	if (s->mode == STEER_OFF)
		return count(s, XDP_PASS, PASS_OFF);
	if (!source_allowed(s))
		return count(s, XDP_DROP, DROP_SOURCE);
	if (s->segment.first_fragment)
		return count(s, XDP_DROP, DROP_FRAGMENT);
	if (!s->segment.whole)
		return count(s, XDP_PASS, PASS_MALFORMED);
	if (s->segment.syn && s->mode == STEER_DRAIN)
		return count(s, XDP_PASS, PASS_SYN_DRAIN);
	if (s->segment.syn && answered_elsewhere(s))
		return count(s, XDP_PASS, PASS_SYN_ELSEWHERE);

	s->key = ctx->rx_queue_index;
	if (!bpf_map_lookup_elem(&xsks_map, &s->key)) {
		if (s->segment.syn)
			return count(s, XDP_PASS, PASS_SYN_NO_XSK);
		if (kernel_owns(ctx, s))
			return count(s, XDP_PASS, PASS_KERNEL_OWNED);
		return count(s, XDP_DROP, DROP_NO_XSK);
	}
	if (s->mode != STEER_STEER && kernel_owns(ctx, s))
		return count(s, XDP_PASS, PASS_KERNEL_OWNED);
	if (s->segment.syn && !syn_within_rate(s))
		return count(s, XDP_DROP, DROP_SYN_RATE);
	return count(s, bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS),
		     s->segment.syn ? REDIRECT_SYN : REDIRECT_SEGMENT);
}

/*
 * "Packet too big" for a flow of ours. The stack needs it, and checks what it quotes. RSS does not spread ICMP as it
 * spreads the flow in question, so any queue may get it. The flow is that of the quoted packet, which we sent.
 */
static __always_inline int steer_quote(struct xdp_md *ctx, struct scratch *s)
{
	struct endpoint_value *endpoint;

	endpoint = bpf_map_lookup_elem(&endpoints, &s->flow.local);
	if (!endpoint || endpoint->mode == STEER_OFF)
		return count(s, XDP_PASS, PASS_NOT_TCP);
	s->key = ctx->rx_queue_index;
	if (!bpf_map_lookup_elem(&xsks_map, &s->key))
		return count(s, XDP_PASS, PASS_ICMP_NO_XSK);
	if (kernel_owns(ctx, s))
		return count(s, XDP_PASS, PASS_ICMP_KERNEL_OWNED);
	return count(s, bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS), REDIRECT_ICMP);
}

static __always_inline void read_flags(struct scratch *s, const struct tcphdr *tcp)
{
	s->segment.whole = true;
	s->segment.syn = tcp->syn && !tcp->ack && !tcp->rst;
}

/* Behind headers of the usual length, which is the way of nearly all segments. */
static __always_inline int read_segment(struct scratch *s, void *packet, void *end)
{
	struct ports *ports = packet;
	struct tcphdr *tcp = packet;

	if ((void *)(ports + 1) > end)
		return PASS_MALFORMED;
	s->flow.local.port = ports->destination;
	s->flow.remote_port = ports->source;
	if ((void *)(tcp + 1) <= end)
		read_flags(s, tcp);
	return SEGMENT;
}

static __always_inline int load_segment(struct xdp_md *ctx, struct scratch *s)
{
	struct tcphdr *tcp = &s->copy.tcp;

	if (!bpf_xdp_load_bytes(ctx, s->offset, tcp, sizeof(*tcp)))
		read_flags(s, tcp);
	else if (bpf_xdp_load_bytes(ctx, s->offset, tcp, sizeof(struct ports)))
		return PASS_MALFORMED;
	s->flow.local.port = tcp->dest;
	s->flow.remote_port = tcp->source;
	return SEGMENT;
}

static __always_inline int load_quoted_ports(struct xdp_md *ctx, struct scratch *s)
{
	struct tcphdr *tcp = &s->copy.tcp;

	if (bpf_xdp_load_bytes(ctx, s->offset, tcp, sizeof(struct ports)))
		return PASS_MALFORMED;
	s->flow.local.port = tcp->source;
	s->flow.remote_port = tcp->dest;
	return QUOTE;
}

static __always_inline int parse_ipv4(struct xdp_md *ctx, struct scratch *s, struct iphdr *ip, void *end)
{
	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
		return PASS_MALFORMED;
	s->flow.local.family = 4;
	s->offset += ip->ihl * 4;

	if (ip->protocol == IPPROTO_TCP) {
		if (ip->frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET))
			return PASS_LATER_FRAGMENT;
		s->segment.first_fragment = ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS);
		copy_ipv4(&s->flow.local.address, &ip->daddr);
		copy_ipv4(&s->flow.remote.address, &ip->saddr);
		if (ip->ihl == 5)
			return read_segment(s, ip + 1, end);
		return load_segment(ctx, s);
	}

	if (ip->protocol == IPPROTO_ICMP) {
		struct icmp_header *icmp = &s->copy.ipv4.icmp;
		struct iphdr *quote = &s->copy.ipv4.quote;

		if (bpf_xdp_load_bytes(ctx, s->offset, &s->copy.ipv4, sizeof(s->copy.ipv4)) ||
		    icmp->type != ICMP_DEST_UNREACH || icmp->code != ICMP_FRAG_NEEDED || quote->protocol != IPPROTO_TCP)
			return PASS_NOT_TCP;
		copy_ipv4(&s->flow.local.address, &quote->saddr);
		copy_ipv4(&s->flow.remote.address, &quote->daddr);
		s->offset += sizeof(*icmp) + quote->ihl * 4;
		return load_quoted_ports(ctx, s);
	}
	return PASS_NOT_TCP;
}

static __always_inline bool is_ipv4_mapped(const struct in6_addr *address)
{
	return !address->in6_u.u6_addr32[0] && !address->in6_u.u6_addr32[1] &&
	       address->in6_u.u6_addr32[2] == bpf_htonl(0xffff);
}

static __always_inline bool is_extension(__u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS ||
	       next == IPPROTO_FRAGMENT;
}

static __always_inline int parse_ipv6(struct xdp_md *ctx, struct scratch *s, struct ipv6hdr *ip, void *end)
{
	struct ipv6_extension *extension = &s->copy.extension;

	/* An IPv4-mapped address on the wire is forged. Let in, it would match IPv4 prefixes. */
	if ((void *)(ip + 1) > end || ip->version != 6 || is_ipv4_mapped(&ip->saddr) || is_ipv4_mapped(&ip->daddr))
		return PASS_MALFORMED;
	s->flow.local.family = 6;
	copy_ipv6(&s->flow.local.address, &ip->daddr);
	copy_ipv6(&s->flow.remote.address, &ip->saddr);
	if (ip->nexthdr == IPPROTO_TCP)
		return read_segment(s, ip + 1, end);

	s->next = ip->nexthdr;
	s->offset += sizeof(*ip);
#pragma unroll
	for (int i = 0; i < MAX_EXTENSION_HEADERS; i++) {
		if (!is_extension(s->next))
			break;
		if (bpf_xdp_load_bytes(ctx, s->offset, extension, sizeof(*extension)))
			return PASS_MALFORMED;
		s->offset += sizeof(*extension);
		if (s->next != IPPROTO_FRAGMENT) {
			s->offset += extension->length * 8;
		} else {
			if (extension->offset_and_flags & bpf_htons(IPV6_FRAGMENT_OFFSET))
				return PASS_LATER_FRAGMENT;
			/* Without more it is the whole packet (RFC 6946). */
			if (extension->offset_and_flags & bpf_htons(IPV6_MORE_FRAGMENTS))
				s->segment.first_fragment = true;
		}
		s->next = extension->next;
	}
	if (is_extension(s->next))
		return HIDDEN;
	if (s->next == IPPROTO_TCP)
		return load_segment(ctx, s);

	if (s->next == IPPROTO_ICMPV6) {
		struct icmp_header *icmp = &s->copy.ipv6.icmp;
		struct ipv6hdr *quote = &s->copy.ipv6.quote;

		if (bpf_xdp_load_bytes(ctx, s->offset, &s->copy.ipv6, sizeof(s->copy.ipv6)) ||
		    icmp->type != ICMPV6_PKT_TOOBIG || quote->nexthdr != IPPROTO_TCP)
			return PASS_NOT_TCP;
		copy_ipv6(&s->flow.local.address, &quote->saddr);
		copy_ipv6(&s->flow.remote.address, &quote->daddr);
		s->offset += sizeof(s->copy.ipv6);
		return load_quoted_ports(ctx, s);
	}
	return PASS_NOT_TCP;
}

/* With "frags", only the first part of a big packet lies between data and data_end. The headers are in there. */
SEC("xdp.frags")
int xdp_steer(struct xdp_md *ctx)
{
	__u32 vlan = 0, tags = 0, zero = 0;
	struct ethhdr *ethernet;
	struct scratch *s;
	void *payload, *end;
	__be16 protocol;
	int what;

	s = bpf_map_lookup_elem(&scratch, &zero);
	if (!s)
		return XDP_PASS;
	ethernet = (void *)(long)ctx->data;
	if ((void *)(ethernet + 1) > (void *)(long)ctx->data_end)
		return count(s, XDP_PASS, PASS_MALFORMED);
	__builtin_memcpy(s->mac.bytes, ethernet->h_dest, ETH_ALEN);
	if (!bpf_map_lookup_elem(&macs, &s->mac))
		return count(s, XDP_PASS, PASS_NOT_OUR_MAC);

	/* Read again rather than kept over the call. */
	ethernet = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	payload = ethernet + 1;
	if (payload > end)
		return count(s, XDP_PASS, PASS_MALFORMED);
	protocol = ethernet->h_proto;
#pragma unroll
	for (int i = 0; i < 2; i++) {
		struct vlan_tag *tag = payload;

		if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 1) > end)
			return count(s, XDP_PASS, PASS_MALFORMED);
		vlan = vlan << 12 | (bpf_ntohs(tag->control) & 0xfff);
		protocol = tag->protocol;
		payload = tag + 1;
		tags++;
	}
	s->flow.local.vlan = vlan;
	s->offset = sizeof(*ethernet) + tags * sizeof(struct vlan_tag);
	s->segment = (struct segment){};

	if (protocol == bpf_htons(ETH_P_IP))
		what = parse_ipv4(ctx, s, payload, end);
	else if (protocol == bpf_htons(ETH_P_IPV6))
		what = parse_ipv6(ctx, s, payload, end);
	else
		what = PASS_NOT_TCP;

	if (what == SEGMENT)
		return steer_segment(ctx, s);
	if (what == QUOTE)
		return steer_quote(ctx, s);
	if (what == HIDDEN) {
		/* The kernel looks behind them all. So whom the lists keep out does not get there. */
		if (!source_allowed(s))
			return count(s, XDP_DROP, DROP_SOURCE);
		what = PASS_MALFORMED;
	}
	return count(s, XDP_PASS, what);
}

/* Helpers such as bpf_skc_lookup_tcp are there for GPL-compatible programs only. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";
