#include "histogram.h"

uint64_t histogram_upper_ns(uint32_t bucket) {
    if (bucket < 2 * HISTOGRAM_LINEAR) {
        return bucket;
    }
    uint32_t power = (bucket >> HISTOGRAM_LINEAR_BITS) - 1;
    uint64_t step = HISTOGRAM_LINEAR + (bucket & (HISTOGRAM_LINEAR - 1));
    return ((step + 1) << power) - 1;
}

uint64_t histogram_quantile_ns(const struct histogram *histogram, double share) {
    uint64_t wanted = (uint64_t)(share * (double)histogram->count + 0.5);
    uint64_t seen = 0;
    for (uint32_t bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        seen += histogram->counts[bucket];
        if (seen >= wanted && seen > 0) {
            uint64_t upper_ns = histogram_upper_ns(bucket);
            return upper_ns < histogram->max_ns ? upper_ns : histogram->max_ns;
        }
    }
    return histogram->max_ns;
}
