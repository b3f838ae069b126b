#include "observe.h"
#include "kernel.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static uint64_t microseconds(struct timeval time) {
    return (uint64_t)time.tv_sec * 1000000u + (uint64_t)time.tv_usec;
}

/* The process's own CPU clock: nanoseconds of all its threads, those that have ended included. /proc/PID/stat tells the same
 * time in ticks of 10 ms, too coarse for connections that rest. */
static void read_cpu(int pid, struct process_reading *reading) {
    clockid_t clock;
    struct timespec used;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0) {
        die("process %d of the server has gone", pid);
    }
    reading->cpu_ns += (uint64_t)used.tv_sec * NS_PER_S + (uint64_t)used.tv_nsec;
}

static void read_memory(int pid, struct process_reading *reading) {
    char path[64];
    char line[256];
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        die("%s cannot be read", path);
    }
    while (fgets(line, sizeof line, file) != NULL) {
        unsigned long long kibibytes;
        if (sscanf(line, "Private_Clean: %llu kB", &kibibytes) == 1 ||
            sscanf(line, "Private_Dirty: %llu kB", &kibibytes) == 1) {
            reading->private_bytes += kibibytes * 1024u;
        }
    }
    fclose(file);
}

static void read_process(int pid, struct process_reading *reading, bool memory) {
    read_cpu(pid, reading);
    if (memory) {
        read_memory(pid, reading);
    }
}

/* PostgreSQL has a process per connection. Who ends between two marks is missing in the second: hold connections open. */
static void read_children(int pid, struct process_reading *reading, bool memory) {
    char path[64];
    int child;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
    FILE *file = fopen(path, "r");
    while (file != NULL && fscanf(file, "%d", &child) == 1) {
        read_process(child, reading, memory);
    }
    if (file != NULL) {
        fclose(file);
    }
}

static void read_machine(struct mark *mark) {
    FILE *file = fopen("/proc/stat", "r");
    unsigned long long ticks[8];
    if (file == NULL || fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &ticks[0], &ticks[1], &ticks[2],
                               &ticks[3], &ticks[4], &ticks[5], &ticks[6], &ticks[7]) != 8) {
        die("/proc/stat is not as expected");
    }
    fclose(file);
    mark->machine_ticks = 0;
    for (int kind = 0; kind < 8; kind++) {
        mark->machine_ticks += ticks[kind];
    }
    mark->stolen_ticks = ticks[7];
}

void observe(struct marks *marks, const char *name, const struct options *options, bool memory) {
    if (marks->count == MARKS_MAX) {
        die("more than %d marks", MARKS_MAX);
    }
    struct mark *mark = &marks->at[marks->count++];
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    mark->name = name;
    mark->at_ns = now_ns();
    mark->generator_us = microseconds(usage.ru_utime) + microseconds(usage.ru_stime);
    read_machine(mark);
    for (uint32_t process = 0; process < options->watched_count; process++) {
        const struct watched *watched = &options->watched[process];
        read_process(watched->pid, &mark->processes[process], memory);
        if (watched->children) {
            read_children(watched->pid, &mark->processes[process], memory);
        }
    }
    if (memory) {
        mark->kernel_bytes = kernel_socket_bytes(options->port);
    }
}

struct series series_of(uint64_t begin_ns, double seconds) {
    uint64_t every_ns = (uint64_t)(seconds * (double)NS_PER_S / (SERIES_MAX - 6));
    return (struct series){.begin_ns = begin_ns, .every_ns = every_ns > 100 * NS_PER_MS ? every_ns : 100 * NS_PER_MS};
}

void series_add(struct series *series, uint64_t now, uint64_t operations) {
    if (series->count < SERIES_MAX && now >= series->begin_ns + (series->count + 1) * series->every_ns) {
        series->at_ns[series->count] = now;
        series->operations[series->count++] = operations;
    }
}
