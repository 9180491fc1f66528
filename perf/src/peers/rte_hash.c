/* Bulk look-ups in DPDK's rte_hash, timed: the peer of `vinet-perf table`.
 *
 * rte_hash EAL-ARGUMENTS -- FILE UPDATES: FILE holds a count and that many pairs (the entries), then kinds of questions,
 * each a count, its number of hits, and that many pairs; all numbers are 32 bits of this machine's order. Prints the
 * nanoseconds of each kind, of an update, and the bytes taken, one a line. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <rte_eal.h>
#include <rte_hash.h>
#include <rte_malloc.h>

#define BURST 32

struct pair {
	uint32_t src, dst;
};

static double now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static size_t heap_bytes(void)
{
	struct rte_malloc_socket_stats stats;
	return rte_malloc_get_socket_stats(0, &stats) == 0 ? stats.heap_allocsz_bytes : 0;
}

static uint32_t read_number(FILE *file)
{
	uint32_t number;
	if (fread(&number, sizeof number, 1, file) != 1)
		exit(3);
	return number;
}

static struct pair *read_pairs(FILE *file, uint32_t count)
{
	struct pair *pairs = malloc(count * sizeof *pairs);
	if (pairs == NULL || fread(pairs, sizeof *pairs, count, file) != count)
		exit(3);
	return pairs;
}

int main(int argc, char **argv)
{
	int used = rte_eal_init(argc, argv);
	if (used < 0 || argc - used < 3)
		return 2;
	FILE *file = fopen(argv[used + 1], "rb");
	uint32_t updates = strtoul(argv[used + 2], NULL, 10);
	if (file == NULL)
		return 2;
	uint32_t count = read_number(file);
	struct pair *entries = read_pairs(file, count);
	struct rte_hash_parameters parameters = {
		/* Its table is full well before every place is taken where it may not be extended. */
		.name = "pairs", .entries = count * 5 / 4 + 64, .key_len = sizeof(struct pair), .socket_id = 0,
	};
	size_t before = heap_bytes();
	struct rte_hash *hash = rte_hash_create(&parameters);
	if (hash == NULL)
		return 4;
	size_t bytes = heap_bytes() - before;
	for (uint32_t i = 0; i < count; i++)
		if (rte_hash_add_key_data(hash, &entries[i], (void *)(uintptr_t)(i + 1)) < 0)
			return 5;
	for (int kind = 0; kind < 4; kind++) {
		uint32_t asked = read_number(file), expected = read_number(file), hits = 0;
		struct pair *pairs = read_pairs(file, asked);
		double started = now_ns();
		for (uint32_t i = 0; i < asked; i += BURST) {
			const void *keys[BURST];
			void *data[BURST];
			uint64_t mask = 0;
			uint32_t n = asked - i < BURST ? asked - i : BURST;
			for (uint32_t j = 0; j < n; j++)
				keys[j] = &pairs[i + j];
			rte_hash_lookup_bulk_data(hash, keys, n, &mask, data);
			hits += __builtin_popcountll(mask);
		}
		double ns = (now_ns() - started) / asked;
		if (hits != expected)
			return 6;
		printf("%f\n", ns);
		free(pairs);
	}
	double started = now_ns();
	uint64_t at = 0;
	for (uint32_t i = 0; i < updates; i++) {
		at = (at + 2654435761u) % count;
		if (rte_hash_del_key(hash, &entries[at]) < 0 ||
		    rte_hash_add_key_data(hash, &entries[at], (void *)(uintptr_t)(at + 1)) < 0)
			return 7;
	}
	printf("%f\n%zu\n", updates ? (now_ns() - started) / updates : 0.0, bytes);
	return 0;
}
