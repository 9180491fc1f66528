/*
 * Hyperscan alone over the payloads of a capture: block mode, one core, nothing but the search.
 *
 *   hyperscan CAPTURE SECONDS HEADERS WORD...
 *
 * The payload of a packet is what is behind its first HEADERS bytes. Payloads are copied in bursts into the same
 * buffers, as a driver would have left them, and only the searches of a burst are timed. Prints one line:
 * scans, nanoseconds a scan in the median of bursts, matches.
 */
#include <hs/hs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BURST = 32, ROOM = 2048, PACKETS_MAX = 65536, NS_MAX = 1 << 20 };

static uint64_t matches;

static int on_match(unsigned id, unsigned long long from, unsigned long long to, unsigned flags, void *context)
{
	(void)id, (void)from, (void)to, (void)flags, (void)context;
	matches++;
	return 0;
}

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void stop(const char *why)
{
	fprintf(stderr, "hyperscan: %s\n", why);
	exit(1);
}

static struct { const uint8_t *bytes; uint32_t len; } payloads[PACKETS_MAX];
static uint8_t buffers[BURST][ROOM];
/* How many bursts took so many nanoseconds. */
static uint64_t bursts[NS_MAX];

int main(int argc, char **argv)
{
	if (argc < 5)
		stop("usage: hyperscan CAPTURE SECONDS HEADERS WORD...");
	uint64_t seconds = strtoull(argv[2], NULL, 10);
	uint32_t headers = (uint32_t)strtoul(argv[3], NULL, 10);
	unsigned words = (unsigned)argc - 4;

	FILE *file = fopen(argv[1], "rb");
	if (!file || fseek(file, 0, SEEK_END))
		stop("the capture cannot be read");
	long size = ftell(file);
	rewind(file);
	uint8_t *capture = malloc((size_t)size);
	if (!capture || fread(capture, 1, (size_t)size, file) != (size_t)size)
		stop("the capture cannot be read");
	size_t packets = 0;
	for (long at = 24; at + 16 <= size && packets < PACKETS_MAX;) {
		uint32_t len;
		memcpy(&len, capture + at + 8, 4);
		if (len < headers || len - headers > ROOM || at + 16 + (long)len > size)
			stop("the capture is not one of ours");
		payloads[packets].bytes = capture + at + 16 + headers;
		payloads[packets++].len = len - headers;
		at += 16 + (long)len;
	}
	if (packets < BURST)
		stop("the capture has too few packets");

	unsigned *flags = calloc(words, sizeof *flags), *ids = calloc(words, sizeof *ids);
	size_t *lens = calloc(words, sizeof *lens);
	for (unsigned w = 0; w < words; w++) {
		flags[w] = HS_FLAG_SINGLEMATCH;
		ids[w] = w;
		lens[w] = strlen(argv[4 + w]);
	}
	hs_database_t *database;
	hs_compile_error_t *error;
	if (hs_compile_lit_multi((const char *const *)argv + 4, flags, ids, lens, words, HS_MODE_BLOCK, NULL, &database,
				 &error) != HS_SUCCESS)
		stop(error->message);
	hs_scratch_t *scratch = NULL;
	if (hs_alloc_scratch(database, &scratch) != HS_SUCCESS)
		stop("no scratch");

	uint64_t scans = 0, counted = 0, start = now_ns(), warm = start + 500000000u, end = start + seconds * 1000000000u;
	for (size_t next = 0;;) {
		uint32_t len[BURST];
		for (int i = 0; i < BURST; i++) {
			memcpy(buffers[i], payloads[next].bytes, payloads[next].len);
			len[i] = payloads[next].len;
			next = next + 1 < packets ? next + 1 : 0;
		}
		uint64_t before = now_ns();
		for (int i = 0; i < BURST; i++)
			hs_scan(database, (const char *)buffers[i], len[i], 0, scratch, on_match, NULL);
		uint64_t after = now_ns();
		if (after >= end)
			break;
		if (after >= warm) {
			uint64_t ns = after - before;
			bursts[ns < NS_MAX ? ns : NS_MAX - 1]++;
			counted++;
			scans += BURST;
		}
	}
	uint64_t seen = 0, median = 0;
	while (median < NS_MAX - 1 && (seen += bursts[median]) * 2 < counted)
		median++;
	printf("hyperscan %llu %.2f %llu\n", (unsigned long long)scans, (double)median / BURST,
	       (unsigned long long)matches);
	return 0;
}
