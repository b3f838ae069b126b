/* Marks: what the clock, the generator's CPU, the server's processes and the machine say at one moment.
 *
 * The generator reads them itself at the borders of the measured interval, so that the CPU time of the server belongs to
 * exactly the messages that were counted. The driver subtracts. */
#ifndef LOADGEN_OBSERVE_H
#define LOADGEN_OBSERVE_H

#include "options.h"

struct process_reading {
    uint64_t cpu_ns;        /* user and system time */
    uint64_t private_bytes; /* this process alone; private pages of /proc/PID/smaps_rollup: shared rings and libraries are not counted */
};

struct mark {
    const char *name;
    uint64_t at_ns;
    uint64_t generator_us;
    uint64_t machine_ticks; /* all time of all cores, and what the hypervisor took of it */
    uint64_t stolen_ticks;
    uint64_t kernel_bytes; /* of the server's sockets; read when memory is */
    struct process_reading processes[WATCHED_MAX];
};

#define MARKS_MAX 8

struct marks {
    struct mark at[MARKS_MAX];
    uint32_t count;
};

/* How many operations were done by when, for the plot of throughput over time. */
#define SERIES_MAX 256

struct series {
    uint64_t begin_ns;
    uint64_t every_ns;
    uint32_t count;
    uint64_t at_ns[SERIES_MAX];
    uint64_t operations[SERIES_MAX];
};

struct series series_of(uint64_t begin_ns, double seconds);
void series_add(struct series *series, uint64_t now, uint64_t operations);

/* `memory`: also read smaps_rollup, which takes milliseconds per process and therefore has no place in a measured interval. */
void observe(struct marks *marks, const char *name, const struct options *options, bool memory);

#endif
