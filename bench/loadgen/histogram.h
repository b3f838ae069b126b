/* Latency histogram: log-linear buckets, after Gil Tene's HdrHistogram.
 *
 * Fact: a benchmark sees tens of millions of latencies between 1 µs and minutes, and its tail is what matters.
 * Decision: 64 linear buckets per power of two, so every figure is right within 1.6 %, and nothing is sampled or averaged.
 * Price: 2,560 counters, 20 KiB, whatever the load. */
#ifndef LOADGEN_HISTOGRAM_H
#define LOADGEN_HISTOGRAM_H

#include "base.h"

#define HISTOGRAM_LINEAR_BITS 6
#define HISTOGRAM_LINEAR (1u << HISTOGRAM_LINEAR_BITS)
#define HISTOGRAM_POWERS 40 /* up to 2^45 ns, ten hours; longer ones count in the last bucket */
#define HISTOGRAM_BUCKETS (HISTOGRAM_POWERS * HISTOGRAM_LINEAR)

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t count;
    uint64_t sum_ns;
    uint64_t max_ns;
};

static inline uint32_t histogram_bucket(uint64_t value_ns) {
    if (value_ns < HISTOGRAM_LINEAR) {
        return (uint32_t)value_ns;
    }
    uint32_t power = 63u - (uint32_t)__builtin_clzll(value_ns) - HISTOGRAM_LINEAR_BITS;
    uint32_t bucket = (power << HISTOGRAM_LINEAR_BITS) + (uint32_t)(value_ns >> power);
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

static inline void histogram_add(struct histogram *histogram, uint64_t value_ns) {
    histogram->counts[histogram_bucket(value_ns)]++;
    histogram->count++;
    histogram->sum_ns += value_ns;
    if (value_ns > histogram->max_ns) {
        histogram->max_ns = value_ns;
    }
}

/* Highest value that falls into the bucket. */
uint64_t histogram_upper_ns(uint32_t bucket);

/* The smallest upper bound that at least `share` (0..1) of the values do not exceed; never above the maximum seen. */
uint64_t histogram_quantile_ns(const struct histogram *histogram, double share);

#endif
