/* What a payload carries, so that a receiver can prove what it got.
 *
 * generator:u32 connection:u32 counter:u64 sent_ns:u64, then filler made from the first three: a payload that was cut, mixed
 * up, repeated or taken from another run does not verify. Native byte order: sender and receiver are one process. */
#ifndef LOADGEN_PAYLOAD_H
#define LOADGEN_PAYLOAD_H

#include "base.h"

#define PAYLOAD_BYTES_MIN 32
#define PAYLOAD_BYTES_MAX 32000

struct stamp {
    uint32_t generator;
    uint32_t connection;
    uint64_t counter;
    uint64_t sent_ns;
};

_Static_assert(sizeof(struct stamp) == 24, "the stamp is copied as it lies in memory");

/* One multiplication per word: the generator must stay cheaper than the servers it measures. */
static inline uint64_t payload_word(const struct stamp *stamp, uint64_t place) {
    uint64_t origin = (uint64_t)stamp->generator << 32 | stamp->connection;
    return (origin ^ (stamp->counter << 20) ^ place) * 0x9E3779B97F4A7C15ull;
}

static inline void payload_write(uint8_t *to, size_t size, const struct stamp *stamp) {
    memcpy(to, stamp, sizeof *stamp);
    size_t place = sizeof *stamp;
    for (; place + 8 <= size; place += 8) {
        uint64_t word = payload_word(stamp, place);
        memcpy(to + place, &word, 8);
    }
    uint64_t word = payload_word(stamp, place);
    memcpy(to + place, &word, size - place);
}

/* True when size and filler are those of the stamp, which is copied out. */
static inline bool payload_read(const uint8_t *from, size_t size, size_t size_expected, struct stamp *stamp) {
    if (size != size_expected) {
        return false;
    }
    memcpy(stamp, from, sizeof *stamp);
    uint64_t difference = 0;
    size_t place = sizeof *stamp;
    for (; place + 8 <= size; place += 8) {
        uint64_t word;
        memcpy(&word, from + place, 8);
        difference |= word ^ payload_word(stamp, place);
    }
    uint64_t word = payload_word(stamp, place);
    return difference == 0 && memcmp(from + place, &word, size - place) == 0;
}

#endif
