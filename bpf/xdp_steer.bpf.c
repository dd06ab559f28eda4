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
 * allow list that has entries. Each packet adds one to exactly one counter.
 *
 * The maps are described in xdp_steer.h. Read from the bottom: xdp_steer() parses, steer_segment() decides.
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

#define IPV4_FRAGMENT_OFFSET 0x1fff
#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV6_FRAGMENT_OFFSET 0xfff8
/* Real traffic has none or one. The bound keeps the program small for the verifier. */
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
	struct steer_address remote;
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

static __always_inline int count(int verdict, __u32 reason)
{
	__u64 *counter = bpf_map_lookup_elem(&counters, &reason);

	if (counter)
		*counter += 1;
	return verdict;
}

static __always_inline void map_ipv4(struct steer_address *address, const __be32 *ipv4)
{
	__builtin_memset(address->bytes, 0, 10);
	address->bytes[10] = 0xff;
	address->bytes[11] = 0xff;
	__builtin_memcpy(address->bytes + 12, ipv4, 4);
}

/* Whether the kernel has a socket for this very flow. TIME-WAIT and SYN-RECEIVED count, listening does not. */
static __always_inline bool kernel_owns(struct xdp_md *ctx, const struct flow *flow)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *socket;
	__u32 size;
	bool owned;

	if (flow->local.family == 4) {
		__builtin_memcpy(&tuple.ipv4.saddr, flow->remote.bytes + 12, 4);
		__builtin_memcpy(&tuple.ipv4.daddr, flow->local.address.bytes + 12, 4);
		tuple.ipv4.sport = flow->remote_port;
		tuple.ipv4.dport = flow->local.port;
		size = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, flow->remote.bytes, 16);
		__builtin_memcpy(tuple.ipv6.daddr, flow->local.address.bytes, 16);
		tuple.ipv6.sport = flow->remote_port;
		tuple.ipv6.dport = flow->local.port;
		size = sizeof(tuple.ipv6);
	}

	socket = bpf_skc_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!socket)
		return false;
	owned = socket->state != BPF_TCP_LISTEN;
	bpf_sk_release(socket);
	return owned;
}

static __always_inline bool source_allowed(const struct steer_address *source)
{
	struct source_key key = { .prefix_length = 128, .address = *source };
	struct steer_config *settings;
	__u32 zero = 0;

	settings = bpf_map_lookup_elem(&config, &zero);
	if (!settings || !settings->flags)
		return true;
	if (settings->flags & STEER_DENY_LIST && bpf_map_lookup_elem(&denied_sources, &key))
		return false;
	return !(settings->flags & STEER_ALLOW_LIST) || bpf_map_lookup_elem(&allowed_sources, &key);
}

/*
 * The token bucket of a queue, kept as one number: the time at which the next SYN is due. It may lie in the past by no
 * more than the burst. A SYN that comes before it is too many. A queue is served by one CPU at a time; where it is not,
 * a lost update lets one more SYN through.
 */
static __always_inline bool syn_within_rate(__u32 queue)
{
	struct syn_limit *limit = bpf_map_lookup_elem(&syn_limits, &queue);
	__u64 *due = bpf_map_lookup_elem(&syn_due, &queue);
	__u64 now, earliest, next;

	if (!limit || !due || !limit->interval_ns)
		return true;
	now = bpf_ktime_get_ns();
	earliest = now > limit->burst_ns ? now - limit->burst_ns : 0;
	next = *due > earliest ? *due : earliest;
	if (next > now)
		return false;
	*due = next + limit->interval_ns;
	return true;
}

static __always_inline bool has_xsk(__u32 queue)
{
	return bpf_map_lookup_elem(&xsks_map, &queue);
}

/* The table at the top of this file. `packet` starts at the TCP ports. */
static __always_inline int steer_segment(struct xdp_md *ctx, struct flow *flow, void *packet, void *end,
					 bool first_fragment)
{
	struct endpoint_value *endpoint;
	struct ports *ports = packet;
	struct tcphdr *tcp = packet;
	__u32 queue = ctx->rx_queue_index;
	__u32 mode;
	bool syn, xsk;

	if ((void *)(ports + 1) > end)
		return count(XDP_PASS, PASS_MALFORMED);
	flow->local.port = ports->destination;
	flow->remote_port = ports->source;

	endpoint = bpf_map_lookup_elem(&endpoints, &flow->local);
	if (!endpoint)
		return count(XDP_PASS, PASS_NO_ENDPOINT);
	mode = endpoint->mode;
	if (mode == STEER_OFF)
		return count(XDP_PASS, PASS_OFF);
	if (!source_allowed(&flow->remote))
		return count(XDP_DROP, DROP_SOURCE);
	if (first_fragment)
		return count(XDP_DROP, DROP_FRAGMENT);
	if ((void *)(tcp + 1) > end)
		return count(XDP_PASS, PASS_MALFORMED);

	syn = tcp->syn && !tcp->ack && !tcp->rst;
	xsk = has_xsk(queue);
	if (syn && mode == STEER_DRAIN)
		return count(XDP_PASS, PASS_SYN_DRAIN);
	if (syn && !xsk)
		return count(XDP_PASS, PASS_SYN_NO_XSK);
	if ((mode != STEER_STEER || !xsk) && kernel_owns(ctx, flow))
		return count(XDP_PASS, PASS_KERNEL_OWNED);
	if (!xsk)
		return count(XDP_DROP, DROP_NO_XSK);
	if (syn && !syn_within_rate(queue))
		return count(XDP_DROP, DROP_SYN_RATE);
	return count(bpf_redirect_map(&xsks_map, queue, XDP_PASS), syn ? REDIRECT_SYN : REDIRECT_SEGMENT);
}

/*
 * "Packet too big" for a flow of ours. The stack needs it, and checks what it quotes. RSS does not spread ICMP as it
 * spreads the flow in question, so any queue may get it. `flow` holds the addresses of the quoted packet, which we
 * sent.
 */
static __always_inline int steer_quote(struct xdp_md *ctx, struct flow *flow, void *quoted_tcp, void *end)
{
	struct endpoint_value *endpoint;
	struct ports *ports = quoted_tcp;

	if ((void *)(ports + 1) > end)
		return count(XDP_PASS, PASS_MALFORMED);
	flow->local.port = ports->source;
	flow->remote_port = ports->destination;

	endpoint = bpf_map_lookup_elem(&endpoints, &flow->local);
	if (!endpoint || endpoint->mode == STEER_OFF)
		return count(XDP_PASS, PASS_NOT_TCP);
	if (!has_xsk(ctx->rx_queue_index))
		return count(XDP_PASS, PASS_ICMP_NO_XSK);
	if (kernel_owns(ctx, flow))
		return count(XDP_PASS, PASS_ICMP_KERNEL_OWNED);
	return count(bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS), REDIRECT_ICMP);
}

static __always_inline int steer_ipv4(struct xdp_md *ctx, struct flow *flow, struct iphdr *ip, void *end)
{
	void *payload;

	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
		return count(XDP_PASS, PASS_MALFORMED);
	if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_ICMP)
		return count(XDP_PASS, PASS_NOT_TCP);
	payload = (void *)ip + ip->ihl * 4;
	flow->local.family = 4;

	if (ip->protocol == IPPROTO_ICMP) {
		struct icmp_header *icmp = payload;
		struct iphdr *quote = (void *)(icmp + 1);

		if ((void *)(quote + 1) > end || icmp->type != ICMP_DEST_UNREACH ||
		    icmp->code != ICMP_FRAG_NEEDED || quote->protocol != IPPROTO_TCP)
			return count(XDP_PASS, PASS_NOT_TCP);
		map_ipv4(&flow->local.address, &quote->saddr);
		map_ipv4(&flow->remote, &quote->daddr);
		return steer_quote(ctx, flow, (void *)quote + quote->ihl * 4, end);
	}

	if (ip->frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET))
		return count(XDP_PASS, PASS_LATER_FRAGMENT);
	map_ipv4(&flow->local.address, &ip->daddr);
	map_ipv4(&flow->remote, &ip->saddr);
	return steer_segment(ctx, flow, payload, end, ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS));
}

static __always_inline bool is_ipv4_mapped(const struct in6_addr *address)
{
	return !address->in6_u.u6_addr32[0] && !address->in6_u.u6_addr32[1] &&
	       address->in6_u.u6_addr32[2] == bpf_htonl(0xffff);
}

static __always_inline int steer_ipv6(struct xdp_md *ctx, struct flow *flow, struct ipv6hdr *ip, void *end)
{
	void *payload = ip + 1;
	bool fragment = false;
	__u8 next;

	/* An IPv4-mapped address on the wire is forged. Let in, it would match IPv4 prefixes. */
	if ((void *)(ip + 1) > end || ip->version != 6 || is_ipv4_mapped(&ip->saddr) || is_ipv4_mapped(&ip->daddr))
		return count(XDP_PASS, PASS_MALFORMED);
	flow->local.family = 6;

	next = ip->nexthdr;
#pragma unroll
	for (int i = 0; i < MAX_EXTENSION_HEADERS; i++) {
		struct ipv6_extension *extension = payload;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_FRAGMENT)
			break;
		if ((void *)(extension + 1) > end)
			return count(XDP_PASS, PASS_MALFORMED);
		if (next == IPPROTO_FRAGMENT) {
			if (extension->offset_and_flags & bpf_htons(IPV6_FRAGMENT_OFFSET))
				return count(XDP_PASS, PASS_LATER_FRAGMENT);
			fragment = true;
			payload += 8;
		} else {
			payload += 8 + extension->length * 8;
		}
		next = extension->next;
	}

	if (next == IPPROTO_ICMPV6) {
		struct icmp_header *icmp = payload;
		struct ipv6hdr *quote = (void *)(icmp + 1);

		if ((void *)(quote + 1) > end || icmp->type != ICMPV6_PKT_TOOBIG ||
		    quote->nexthdr != IPPROTO_TCP)
			return count(XDP_PASS, PASS_NOT_TCP);
		__builtin_memcpy(&flow->local.address, &quote->saddr, 16);
		__builtin_memcpy(&flow->remote, &quote->daddr, 16);
		return steer_quote(ctx, flow, quote + 1, end);
	}
	if (next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS || next == IPPROTO_FRAGMENT)
		return count(XDP_PASS, PASS_MALFORMED);
	if (next != IPPROTO_TCP)
		return count(XDP_PASS, PASS_NOT_TCP);
	__builtin_memcpy(&flow->local.address, &ip->daddr, 16);
	__builtin_memcpy(&flow->remote, &ip->saddr, 16);
	return steer_segment(ctx, flow, payload, end, fragment);
}

SEC("xdp")
int xdp_steer(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = (void *)(long)ctx->data;
	void *payload = ethernet + 1;
	struct mac_key mac = {};
	struct flow flow = {};
	__be16 protocol;

	if (payload > end)
		return count(XDP_PASS, PASS_MALFORMED);
	__builtin_memcpy(mac.bytes, ethernet->h_dest, ETH_ALEN);
	if (!bpf_map_lookup_elem(&macs, &mac))
		return count(XDP_PASS, PASS_NOT_OUR_MAC);

	protocol = ethernet->h_proto;
#pragma unroll
	for (int i = 0; i < 2; i++) {
		struct vlan_tag *tag = payload;

		if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 1) > end)
			return count(XDP_PASS, PASS_MALFORMED);
		flow.local.vlan = flow.local.vlan << 12 | (bpf_ntohs(tag->control) & 0xfff);
		protocol = tag->protocol;
		payload = tag + 1;
	}

	if (protocol == bpf_htons(ETH_P_IP))
		return steer_ipv4(ctx, &flow, payload, end);
	if (protocol == bpf_htons(ETH_P_IPV6))
		return steer_ipv6(ctx, &flow, payload, end);
	return count(XDP_PASS, PASS_NOT_TCP);
}

/* Helpers such as bpf_skc_lookup_tcp are there for GPL-compatible programs only. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";
