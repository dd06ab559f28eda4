/* SPDX-License-Identifier: (MIT OR GPL-2.0) */
/*
 * Layouts and numbers that xdp_steer.bpf.c shares with user space. The C# side (Internal/Steering) mirrors this
 * file; a test compares the two.
 */
#ifndef XDP_STEER_H
#define XDP_STEER_H

/* What happens to the segments of one endpoint. The table is in xdp_steer.bpf.c. */
enum steer_mode {
	STEER_OFF = 0,
	STEER_MIXED = 1,
	STEER_STEER = 2,
	STEER_DRAIN = 3,
};

/*
 * Addresses are always 16 bytes; IPv4 is written IPv4-mapped (::ffff:a.b.c.d), so that one prefix trie serves both.
 */
struct steer_address {
	__u8 bytes[16];
};

/* Key of `endpoints`. No padding: the bytes are the key. */
struct endpoint_key {
	struct steer_address address;
	__u32 vlan;   /* 0: untagged; one tag: its id; two tags: outer << 12 | inner. Host byte order. */
	__be16 port;
	__u16 family; /* 4 or 6 */
};

struct endpoint_value {
	__u32 mode;   /* enum steer_mode */
};

/* Key of `macs`: a destination address that is ours. */
struct mac_key {
	__u8 bytes[6];
	__u8 zero[2];
};

/* Key of the prefix tries `allowed_sources` and `denied_sources`. IPv4 prefixes are 96 bits longer. */
struct source_key {
	__u32 prefix_length;
	struct steer_address address;
};

/*
 * Key of the prefix trie `peers_elsewhere`: peers of one endpoint. The prefix is that of the peer's address, and 160
 * bits longer. A value of 0 takes a longer prefix out of a shorter one.
 */
struct elsewhere_key {
	__u32 prefix_length;
	struct steer_address local;
	__be16 port;
	__u16 zero;
	struct steer_address remote;
};

#define STEER_ALLOW_LIST 1u /* only sources in allowed_sources may talk to endpoints */
#define STEER_DENY_LIST 2u  /* denied_sources has entries; what is on both lists is denied */
#define STEER_ELSEWHERE 4u  /* peers_elsewhere has entries */

/* The one entry of `config`. */
struct steer_config {
	__u32 flags;
};

/* Entry of `syn_limits`, one per queue. interval_ns 0: no limit. */
struct syn_limit {
	__u64 interval_ns; /* nanoseconds between two SYNs at the set rate */
	__u64 burst_ns;    /* interval_ns * (burst - 1): how far arrivals may run ahead of the rate */
};

/* XSKs and SYN limits are per queue; queues beyond this one count as queues without an XSK. */
#define STEER_MAX_QUEUES 256

/* Every packet adds one to exactly one of these. The name's first word is the verdict. */
enum steer_counter {
	PASS_NOT_OUR_MAC = 0,   /* multicast, broadcast, another host's address */
	PASS_NOT_TCP,           /* any other protocol, and ICMP that quotes none of our flows */
	PASS_MALFORMED,         /* cut short, impossible header lengths, too many extension headers */
	PASS_LATER_FRAGMENT,    /* carries no ports; useless to anyone once the first one is dropped */
	PASS_NO_ENDPOINT,       /* TCP to a port or address that is nobody's endpoint */
	PASS_OFF,
	PASS_KERNEL_OWNED,      /* the kernel has a socket for the flow */
	PASS_SYN_DRAIN,
	PASS_SYN_NO_XSK,        /* the companion serves queues without an XSK */
	PASS_SYN_ELSEWHERE,     /* its answers would leave by an interface that is not ours */
	PASS_ICMP_KERNEL_OWNED, /* packet too big for a flow of the kernel */
	PASS_ICMP_NO_XSK,
	DROP_SOURCE,            /* denied, or not in the allow list, and to an endpoint as far as can be seen */
	DROP_FRAGMENT,          /* first fragment to an endpoint */
	DROP_NO_XSK,            /* passing it would make the kernel answer RST */
	DROP_SYN_RATE,
	REDIRECT_SYN,
	REDIRECT_SEGMENT,
	REDIRECT_ICMP,          /* packet too big for a flow of ours */
	STEER_COUNTERS,
};

#endif
