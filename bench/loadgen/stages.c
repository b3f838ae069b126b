/* The stages of a run: connect, settle, warm up, measure, drain.
 *
 * Marks are taken at their borders. What happens outside the measured interval is verified like everything else, but it does
 * not count. A run without progress for STALL_S ends: what is missing then is reported as lost. */
#include "load.h"

#include <stdio.h>

#define TICK_NS (50 * NS_PER_MS)
#define PROGRESS_NS (250 * NS_PER_MS)
#define SETTLE_NS (500 * NS_PER_MS)
#define STALL_S 5

struct clockwork {
    uint64_t started_ns;
    uint64_t next_tick_ns;
    uint64_t next_progress_ns;
    uint64_t beats_from_ns;
    uint64_t beats;
    uint64_t progress;
    uint64_t progress_ns;
};

static uint64_t progress_of(const struct results *results) {
    return results->delivered + results->answered + results->refused + results->reread;
}

/* Heartbeats of all connections, spread evenly over the interval. */
static void beat(struct load *load, struct clockwork *clockwork) {
    if (load->heartbeat_ms == 0 || load->ready < load->count) {
        return;
    }
    if (clockwork->beats_from_ns == 0) {
        clockwork->beats_from_ns = load->now_ns;
    }
    double interval_ns = (double)load->heartbeat_ms * (double)NS_PER_MS;
    uint64_t due = (uint64_t)((double)(load->now_ns - clockwork->beats_from_ns) / interval_ns * load->count);
    for (; clockwork->beats < due; clockwork->beats++) {
        load->adapter->heartbeat(&load->connections[clockwork->beats % load->count]);
        load->results.heartbeats++;
        load->results.operations += load->measuring && load->work == &WORK_IDLE;
    }
}

static void tick(struct load *load, struct clockwork *clockwork) {
    if (load->now_ns < clockwork->next_tick_ns) {
        return;
    }
    clockwork->next_tick_ns = load->now_ns + TICK_NS;
    if (load->measuring) {
        series_add(&load->series, load->now_ns, load->results.operations);
    }
    if (load->adapter->tick != NULL) {
        for (uint32_t index = 0; index < load->ready; index++) {
            load->adapter->tick(&load->connections[index]);
        }
    }
}

static void show(struct load *load, struct clockwork *clockwork, const char *stage, double done) {
    if (!load->options.progress || load->now_ns < clockwork->next_progress_ns) {
        return;
    }
    clockwork->next_progress_ns = load->now_ns + PROGRESS_NS;
    fprintf(stderr, "progress %s %.3f %llu\n", stage, done < 1 ? done : 1,
            (unsigned long long)progress_of(&load->results));
}

static void turn(struct load *load, struct clockwork *clockwork, uint64_t until_ns) {
    uint64_t wake_ns = clockwork->next_tick_ns < until_ns ? clockwork->next_tick_ns : until_ns;
    if (load->started && load->work->tick != NULL) {
        uint64_t wanted_ns = load->work->tick(load);
        wake_ns = wanted_ns < wake_ns ? wanted_ns : wake_ns;
    }
    network_turn(load, wake_ns);
    tick(load, clockwork);
    beat(load, clockwork);
    uint64_t progress = progress_of(&load->results) + load->ready;
    if (progress != clockwork->progress) {
        clockwork->progress = progress;
        clockwork->progress_ns = load->now_ns;
    }
}

static bool stalled(const struct load *load, const struct clockwork *clockwork) {
    return load->now_ns > clockwork->progress_ns + STALL_S * NS_PER_S;
}

static void run_connect(struct load *load, struct clockwork *clockwork) {
    while (load->ready < load->count) {
        network_connect_more(load);
        turn(load, clockwork, load->now_ns + TICK_NS);
        show(load, clockwork, "connect", (double)load->ready / load->count);
        if (stalled(load, clockwork)) {
            die("%u of %u connections are ready, then nothing for %d s", load->ready, load->count, STALL_S);
        }
    }
}

static void run_for(struct load *load, struct clockwork *clockwork, const char *stage, uint64_t duration_ns) {
    uint64_t from_ns = load->now_ns;
    while (load->now_ns < from_ns + duration_ns) {
        turn(load, clockwork, from_ns + duration_ns);
        show(load, clockwork, stage, (double)(load->now_ns - from_ns) / (double)duration_ns);
        if (load->sending && load->work->unanswered(load) > 0 && stalled(load, clockwork)) {
            return;
        }
    }
}

static void run_drain(struct load *load, struct clockwork *clockwork) {
    clockwork->progress_ns = load->now_ns;
    while ((load->work->unanswered(load) > 0 || load->pulls_open > 0) && !stalled(load, clockwork)) {
        turn(load, clockwork, load->now_ns + TICK_NS);
        show(load, clockwork, "drain", 0);
    }
}

/* What was acknowledged must be there. */
static void run_reread(struct load *load, struct clockwork *clockwork) {
    clockwork->progress_ns = load->now_ns;
    load->rereading = true;
    load->work->reread(load);
    while (load->pulls_open > 0 && !stalled(load, clockwork)) {
        turn(load, clockwork, load->now_ns + TICK_NS);
        show(load, clockwork, "reread", (double)load->results.reread / (double)(load->results.answered + 1));
    }
    load->results.missing = load->work->missing(load);
}

static void measure(struct load *load, struct clockwork *clockwork) {
    observe(&load->marks, "begin", &load->options, load->options.stuck > 0);
    if (load->work->measure_begins != NULL) {
        load->work->measure_begins(load);
    }
    load->measuring = true;
    load->series = series_of(now_ns(), load->options.seconds);
    run_for(load, clockwork, "measure", (uint64_t)(load->options.seconds * (double)NS_PER_S));
    load->measuring = false;
    observe(&load->marks, "end", &load->options, false);
    load->sending = false;
    if (load->work->measure_ends != NULL) {
        load->work->measure_ends(load);
    }
}

void load_run(struct load *load) {
    load->now_ns = now_ns();
    struct clockwork clockwork = {.started_ns = load->now_ns, .progress_ns = load->now_ns};
    load->work->prepare(load);
    observe(&load->marks, "start", &load->options, true);
    run_connect(load, &clockwork);
    observe(&load->marks, "connected", &load->options, false);
    run_for(load, &clockwork, "settle", SETTLE_NS);
    observe(&load->marks, "settled", &load->options, true);
    load->started = true;
    load->sending = true;
    load->work->start(load);
    run_for(load, &clockwork, "warm-up", (uint64_t)(load->options.warm_up_s * (double)NS_PER_S));
    measure(load, &clockwork);
    run_drain(load, &clockwork);
    observe(&load->marks, "drained", &load->options, true);
    if (load->options.reread && load->work->reread != NULL) {
        run_reread(load, &clockwork);
    }
}
