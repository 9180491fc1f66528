/* What the bindings are made from, and the shims for what DPDK has only as inline functions or macros. */
#ifndef CAPSULE_FFI_WRAPPER_H
#define CAPSULE_FFI_WRAPPER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* rte_cpuset_t */
#endif

#include <stdint.h>

#include <rte_version.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#if RTE_VERSION < RTE_VERSION_NUM(22, 11, 0, 0)
#error "VInet needs DPDK 22.11 or later: install Debian 12's libdpdk-dev"
#endif

/* Constants that lost their old names and became 64 bits wide: as an enumeration, because libclang evaluates no macros. */
enum capsule_constants {
	CAPSULE_MBUF_DEFAULT_BUF_SIZE = RTE_MBUF_DEFAULT_BUF_SIZE,
	CAPSULE_MQ_RX_RSS = RTE_ETH_MQ_RX_RSS,
	CAPSULE_RSS_IP = RTE_ETH_RSS_IP,
	CAPSULE_RSS_TCP = RTE_ETH_RSS_TCP,
	CAPSULE_RSS_UDP = RTE_ETH_RSS_UDP,
	CAPSULE_RSS_SCTP = RTE_ETH_RSS_SCTP,
	CAPSULE_TX_OFFLOAD_MBUF_FAST_FREE = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE,
	CAPSULE_MBUF_INDIRECT = RTE_MBUF_F_INDIRECT,
	CAPSULE_TX_OFFLOAD_FLAGS = RTE_MBUF_F_TX_OFFLOAD_MASK,
};

/* rte_errno of the calling thread. */
int capsule_errno(void);
/* The memory node of a processor, from what EAL found at its start. */
int capsule_node_of_cpu(int cpu);
struct rte_mbuf *capsule_pktmbuf_alloc(struct rte_mempool *pool);
int capsule_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned count);
void capsule_pktmbuf_free(struct rte_mbuf *mbuf);
void capsule_mempool_put_bulk(struct rte_mempool *pool, void *const *objects, unsigned count);
uint16_t capsule_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
uint16_t capsule_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);

#endif
