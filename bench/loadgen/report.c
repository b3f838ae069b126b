/* The result: one JSON object on one line. Sums and quotients are the driver's business. */
#include "load.h"

#include <stdio.h>

static double microseconds(uint64_t ns) {
    return (double)ns / (double)NS_PER_US;
}

static void print_histogram(const char *name, const struct histogram *histogram) {
    printf(",\"%s\":", name);
    if (histogram->count == 0) {
        printf("null");
        return;
    }
    printf("{\"count\":%llu,\"mean\":%.3f,\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f,\"buckets\":[",
           (unsigned long long)histogram->count,
           microseconds(histogram->sum_ns) / (double)histogram->count,
           microseconds(histogram_quantile_ns(histogram, 0.5)),
           microseconds(histogram_quantile_ns(histogram, 0.9)),
           microseconds(histogram_quantile_ns(histogram, 0.99)),
           microseconds(histogram_quantile_ns(histogram, 0.999)),
           microseconds(histogram->max_ns));
    const char *separator = "";
    for (uint32_t bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        if (histogram->counts[bucket] > 0) {
            printf("%s[%.3f,%llu]", separator, microseconds(histogram_upper_ns(bucket)),
                   (unsigned long long)histogram->counts[bucket]);
            separator = ",";
        }
    }
    printf("]}");
}

static void print_mark(const struct mark *mark, const struct options *options) {
    printf("{\"name\":\"%s\",\"at_ns\":%llu,\"generator_us\":%llu,\"machine_ticks\":%llu,\"stolen_ticks\":%llu,"
           "\"kernel_bytes\":%llu,\"processes\":[",
           mark->name, (unsigned long long)mark->at_ns, (unsigned long long)mark->generator_us,
           (unsigned long long)mark->machine_ticks, (unsigned long long)mark->stolen_ticks,
           (unsigned long long)mark->kernel_bytes);
    for (uint32_t process = 0; process < options->watched_count; process++) {
        const struct process_reading *reading = &mark->processes[process];
        printf("%s{\"pid\":%d,\"cpu_ns\":%llu,\"private_bytes\":%llu}", process ? "," : "",
               options->watched[process].pid, (unsigned long long)reading->cpu_ns, (unsigned long long)reading->private_bytes);
    }
    printf("]}");
}

static void print_count(const char *name, uint64_t count) {
    printf(",\"%s\":%llu", name, (unsigned long long)count);
}

/* [ms since measuring began, operations until then] */
static void print_series(const struct series *series) {
    printf(",\"series\":[");
    for (uint32_t place = 0; place < series->count; place++) {
        printf("%s[%.1f,%llu]", place ? "," : "", microseconds(series->at_ns[place] - series->begin_ns) / 1000,
               (unsigned long long)series->operations[place]);
    }
    printf("]");
}

void report_print(const struct load *load) {
    const struct results *results = &load->results;
    printf("{\"protocol\":\"%s\",\"work\":\"%s\"", load->adapter->name, load->work->name);
    print_count("connections", load->count);
    print_count("operations", results->operations);
    print_count("sent", results->sent);
    print_count("expected", results->expected);
    print_count("delivered", results->delivered);
    print_count("answered", results->answered);
    print_count("unanswered", load->work->unanswered((struct load *)load));
    print_count("refused", results->refused);
    print_count("corrupt", results->corrupt);
    print_count("reordered", results->reordered);
    print_count("skipped", results->skipped);
    print_count("lagged", results->lagged);
    print_count("reread", results->reread);
    print_count("missing", results->missing);
    print_count("closed", results->closed);
    print_count("overrun", results->overrun);
    print_count("heartbeats", results->heartbeats);
    print_count("heartbeat_ms", load->heartbeat_ms);
    print_histogram("connect_us", &results->connect);
    print_histogram("latency_us", &results->latency);
    print_histogram("delivery_us", &results->delivery);
    print_series(&load->series);
    printf(",\"marks\":[");
    for (uint32_t place = 0; place < load->marks.count; place++) {
        printf("%s", place ? "," : "");
        print_mark(&load->marks.at[place], &load->options);
    }
    printf("]}\n");
}
