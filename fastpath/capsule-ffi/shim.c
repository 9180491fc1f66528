#include "wrapper.h"

int capsule_errno(void)
{
	return rte_errno;
}

int capsule_node_of_cpu(int cpu)
{
	return cpu < 0 || cpu >= RTE_MAX_LCORE ? SOCKET_ID_ANY : (int)rte_lcore_to_socket_id((unsigned)cpu);
}

struct rte_mbuf *capsule_pktmbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int capsule_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned count)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
}

void capsule_pktmbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

void capsule_mempool_put_bulk(struct rte_mempool *pool, void *const *objects, unsigned count)
{
	rte_mempool_put_bulk(pool, objects, count);
}

uint16_t capsule_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, mbufs, count);
}

uint16_t capsule_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, mbufs, count);
}
