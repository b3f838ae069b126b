/* Edge coverage for the fuzzer, linked into the sanitized extension only (setup.py, CHATD_SANITIZE).
 *
 * gcc calls __sanitizer_cov_trace_pc at every basic block. A pair of blocks executed one after the other is an edge, known
 * by a hash of 16 bits: two edges may share a counter, which costs the fuzzer an input it would have kept, never a finding.
 * How often an edge was taken counts in powers of two, so that "once more round the loop" is news only eight times.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define EDGES 65536
#define EXPORTED __attribute__((visibility("default"), no_sanitize_coverage, no_sanitize("address", "undefined")))

static uint8_t taken[EDGES];
static uint8_t seen[EDGES];
static __thread uintptr_t previous;

EXPORTED void __sanitizer_cov_trace_pc(void)
{
    uintptr_t block = (uintptr_t)__builtin_return_address(0) * UINT64_C(0x9E3779B97F4A7C15) >> 48;
    uint8_t *counter = &taken[(block ^ previous) & (EDGES - 1)];
    *counter = (uint8_t)(*counter + (*counter != UINT8_MAX));
    previous = block >> 1;
}

/* How many counters have reached a power of two that no input reached before; begins the next input. */
EXPORTED size_t chatd_edges_new(void)
{
    size_t fresh = 0;
    for (size_t word = 0; word < EDGES; word += sizeof(uint64_t)) {
        uint64_t any;
        memcpy(&any, &taken[word], sizeof any);
        if (any == 0)
            continue;
        for (size_t index = word; index < word + sizeof any; index++) {
            if (taken[index] == 0)
                continue;
            uint8_t magnitude = (uint8_t)(1u << (31 - __builtin_clz(taken[index])));
            if (!(seen[index] & magnitude)) {
                seen[index] |= magnitude;
                fresh++;
            }
        }
    }
    memset(taken, 0, sizeof taken);
    previous = 0;
    return fresh;
}

/* Everything is news again: the next target. */
EXPORTED void chatd_edges_forget(void)
{
    memset(taken, 0, sizeof taken);
    memset(seen, 0, sizeof seen);
    previous = 0;
}
