// SPDX-License-Identifier: (MIT OR GPL-2.0)
/*
 * For tests and the lab only: makes a network path bad. Attach it at the INGRESS of a router namespace between client
 * and server, and nowhere else: a packet dropped at its sender's egress is not loss to that sender's TCP. Only TCP is
 * impaired, so that neighbour discovery and ping stay healthy.
 *
 *   loss, bursts of loss, corrupted payload      both programs
 *   duplication, reordering                      the tc program
 *
 * How to attach it to `r0`, the router's device towards the sender. Do the first, or the last two, or all three; each
 * load has maps of its own:
 *
 *   ip link set dev r0 xdpdrv obj lab_impair.bpf.o sec xdp            (or xdpgeneric)
 *   tc qdisc add dev r0 clsact
 *   tc filter add dev r0 ingress bpf direct-action obj lab_impair.bpf.o sec tc
 *
 * Reordering needs a place to hold packets back: a veth pair in the router namespace, with the program at the ingress
 * of both ends. A held packet bounces between them until its time has come, and then enters r0 again:
 *
 *   ip link add hold0 type veth peer name hold1; ip link set hold0 up; ip link set hold1 up
 *   for d in hold0 hold1; do tc qdisc add dev $d clsact
 *     tc filter add dev $d ingress bpf direct-action obj lab_impair.bpf.o sec tc; done
 *
 * Bouncing takes CPU time: hold for some hundred microseconds, not for milliseconds.
 *
 * The knobs are in a map of the attached program (enum impair_knob, 32-bit little-endian). This sets 30 per mille loss,
 * and reads what was done:
 *
 *   tc filter show dev r0 ingress; bpftool prog show id <its id>      (shows map_ids)
 *   bpftool map update id <impair_knobs> key 0 0 0 0 value 30 0 0 0
 *   bpftool map dump id <impair_counts>
 *
 * Switch segmentation offloads off on both sides (ethtool -K DEV tso off gso off gro off). Otherwise one drop is 64 KB
 * of loss. A receiver finds corruption only where the sender fills in checksums: ethtool -K DEV tx off at the sender.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

enum impair_knob {
	LOSS = 0,        /* per mille */
	BURST,           /* per mille of segments at which a burst of loss begins */
	BURST_LENGTH,    /* packets */
	CORRUPT,         /* per mille of segments with payload: one bit flips */
	DUPLICATE,       /* per mille; tc only */
	REORDER,         /* per mille that are held back; tc only */
	REORDER_HOLD_US, /* for how long */
	REORDER_DEVICE,  /* ifindex of hold0 */
	SEED,            /* unless 0: a segment's fate follows from the seed and the number SEEN before it */
	IMPAIR_KNOBS,
};

enum impair_count {
	SEEN = 0, /* TCP segments */
	LOST,
	BURST_LOST,
	CORRUPTED,
	DUPLICATED,
	REORDERED,
	IMPAIR_COUNTS,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, IMPAIR_KNOBS);
	__type(key, __u32);
	__type(value, __u32);
} impair_knobs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, IMPAIR_COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} impair_counts SEC(".maps");

/* Packets still to drop of the present burst. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __s32);
} impair_burst SEC(".maps");

static __always_inline __u32 knob(__u32 which)
{
	__u32 *value = bpf_map_lookup_elem(&impair_knobs, &which);

	return value ? *value : 0;
}

static __always_inline void count(__u32 what)
{
	__u64 *value = bpf_map_lookup_elem(&impair_counts, &what);

	if (value)
		__sync_fetch_and_add(value, 1);
}

/* A random number for the present segment and this use of it: SplitMix64 of seed, count and use. */
static __always_inline __u32 chance(__u32 use)
{
	__u32 seed = knob(SEED), seen_key = SEEN;
	__u64 *seen = bpf_map_lookup_elem(&impair_counts, &seen_key);
	__u64 x;

	if (!seed || !seen)
		return bpf_get_prandom_u32();
	x = ((__u64)seed << 32 | *seen) + (use + 1) * 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return (x ^ (x >> 31)) >> 16;
}

static __always_inline bool dice(__u32 which)
{
	__u32 per_mille = knob(which);

	return per_mille && chance(which) % 1000 < per_mille;
}

static __always_inline bool lose(void)
{
	__u32 zero = 0;
	__s32 *burst = bpf_map_lookup_elem(&impair_burst, &zero);

	if (burst && *burst <= 0 && dice(BURST))
		*burst = knob(BURST_LENGTH);
	if (burst && *burst > 0) {
		*burst -= 1;
		count(BURST_LOST);
		return true;
	}
	if (dice(LOSS)) {
		count(LOST);
		return true;
	}
	return false;
}

/* Where the payload of a TCP segment starts, from `data`; 0 when it is no TCP segment. */
static __always_inline __u32 tcp_payload(void *data, void *end)
{
	struct ethhdr *ethernet = data;
	struct tcphdr *tcp;

	if ((void *)(ethernet + 1) > end)
		return 0;
	if (ethernet->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)(ethernet + 1);

		if ((void *)(ip + 1) > end || ip->protocol != IPPROTO_TCP || ip->ihl != 5)
			return 0;
		tcp = (void *)(ip + 1);
	} else if (ethernet->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (void *)(ethernet + 1);

		if ((void *)(ip + 1) > end || ip->nexthdr != IPPROTO_TCP)
			return 0;
		tcp = (void *)(ip + 1);
	} else {
		return 0;
	}
	if ((void *)(tcp + 1) > end)
		return 0;
	return (void *)tcp - data + tcp->doff * 4;
}

/* A byte of the payload, somewhere in the middle; 0 when there is none. */
static __always_inline __u32 victim(__u32 payload, __u32 length)
{
	if (payload >= length)
		return 0;
	return payload + chance(IMPAIR_KNOBS) % (length - payload);
}

SEC("xdp")
int impair_xdp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u32 payload = tcp_payload(data, end);
	__u32 at;

	if (!payload)
		return XDP_PASS;
	count(SEEN);
	if (lose())
		return XDP_DROP;
	if (dice(CORRUPT)) {
		at = victim(payload, end - data) & 0x3fff;
		if (at && data + at + 1 <= end) {
			*(__u8 *)(data + at) ^= 1 << (chance(IMPAIR_KNOBS + 1) & 7);
			count(CORRUPTED);
		}
	}
	return XDP_PASS;
}

/*
 * skb->mark says how far a packet has come. 0: it is new. IMPAIRED: it has been through here. Any other value: it is
 * held back, and the mark is the device it belongs to (12 bits) and when it may go on (20 bits, in units of 4096 ns).
 */
#define IMPAIRED 0xffffffffu
#define TIME_UNIT_BITS 12
#define TIME_BITS 20
#define TIME_MASK ((1u << TIME_BITS) - 1)

static __always_inline __u32 now(void)
{
	return bpf_ktime_get_ns() >> TIME_UNIT_BITS;
}

SEC("tc")
int impair_tc(struct __sk_buff *skb)
{
	__u32 mark = skb->mark;
	__u32 payload, at;
	__u8 byte;

	if (mark == IMPAIRED) {
		skb->mark = 0;
		return TC_ACT_OK;
	}
	if (mark) {
		/* Still early when the time left, modulo 2^20, is in the lower half. */
		if (((mark - now() - 1) & TIME_MASK) < TIME_MASK / 2)
			return bpf_redirect(skb->ifindex, 0);
		skb->mark = IMPAIRED;
		return bpf_redirect(mark >> TIME_BITS, BPF_F_INGRESS);
	}

	payload = tcp_payload((void *)(long)skb->data, (void *)(long)skb->data_end);
	if (!payload)
		return TC_ACT_OK;
	count(SEEN);
	if (lose())
		return TC_ACT_SHOT;
	if (dice(CORRUPT)) {
		at = victim(payload, skb->len);
		if (at && !bpf_skb_load_bytes(skb, at, &byte, 1)) {
			byte ^= 1 << (chance(IMPAIR_KNOBS + 1) & 7);
			if (!bpf_skb_store_bytes(skb, at, &byte, 1, 0))
				count(CORRUPTED);
		}
	}
	if (dice(DUPLICATE)) {
		skb->mark = IMPAIRED;
		if (!bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS))
			count(DUPLICATED);
		skb->mark = 0;
	}
	if (dice(REORDER) && knob(REORDER_DEVICE)) {
		__u32 deadline = now() + (knob(REORDER_HOLD_US) * 1000 >> TIME_UNIT_BITS);

		skb->mark = skb->ifindex << TIME_BITS | (deadline & TIME_MASK);
		count(REORDERED);
		return bpf_redirect(knob(REORDER_DEVICE), 0);
	}
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
