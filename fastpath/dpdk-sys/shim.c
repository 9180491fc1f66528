#include "wrapper.h"

const uint64_t vinet_RSS_IP = RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_IPV6;
const uint64_t vinet_RSS_L3_SRC_ONLY = RTE_ETH_RSS_L3_SRC_ONLY;
const uint64_t vinet_TX_OFFLOAD_FLAGS = RTE_MBUF_F_TX_OFFLOAD_MASK;
const uint64_t vinet_MBUF_INDIRECT = RTE_MBUF_F_INDIRECT;

int vinet_errno(void)
{
	return rte_errno;
}

unsigned vinet_lcore_id(void)
{
	return rte_lcore_id();
}

struct rte_mbuf *vinet_pktmbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int vinet_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned count)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
}

void vinet_pktmbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

FILE *vinet_log_stream(ssize_t (*write)(void *cookie, const char *bytes, size_t count))
{
	cookie_io_functions_t functions = {.write = write};
	FILE *stream = fopencookie(NULL, "w", functions);

	if (stream != NULL)
		setvbuf(stream, NULL, _IOLBF, 4096);
	return stream;
}
