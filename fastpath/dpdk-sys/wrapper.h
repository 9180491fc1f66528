/* What the bindings are made from, and the shims for what DPDK has only as inline functions or macros. */
#ifndef VINET_DPDK_WRAPPER_H
#define VINET_DPDK_WRAPPER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* rte_cpuset_t and fopencookie */
#endif

#include <stdint.h>
#include <stdio.h>

#include <rte_version.h>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#if RTE_VERSION < RTE_VERSION_NUM(22, 11, 0, 0)
#error "VInet needs DPDK 22.11 or later: install Debian 12's libdpdk-dev"
#endif

/* Constants that the headers compute by macros which libclang does not evaluate. */
extern const uint64_t vinet_RSS_IP;
extern const uint64_t vinet_RSS_L3_SRC_ONLY;
extern const uint64_t vinet_TX_OFFLOAD_FLAGS;
extern const uint64_t vinet_MBUF_INDIRECT;

/* rte_errno of the calling thread: a thread-local behind a macro. */
int vinet_errno(void);
/* rte_lcore_id() of the calling thread; UINT32_MAX where it is not an EAL thread. */
unsigned vinet_lcore_id(void);
/* rte_pktmbuf_alloc: one empty mbuf, or NULL. */
struct rte_mbuf *vinet_pktmbuf_alloc(struct rte_mempool *pool);
/* rte_pktmbuf_alloc_bulk: 0, or a negative errno and no mbuf. */
int vinet_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned count);
/* rte_pktmbuf_free: all segments of one packet. */
void vinet_pktmbuf_free(struct rte_mbuf *mbuf);
/* An unbuffered FILE that hands every write to `write`; NULL where there is no memory. */
FILE *vinet_log_stream(ssize_t (*write)(void *cookie, const char *bytes, size_t count));

#endif
