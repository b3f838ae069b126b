/* The load generator. What it is: load.h. How it is driven: bench/README.md. */
#include "load.h"

static const struct adapter *const ADAPTERS[] = {&ADAPTER_CHATD, &ADAPTER_NATS, &ADAPTER_REDIS, &ADAPTER_MQTT,
                                                &ADAPTER_POSTGRES};
static const struct work *const WORKS[] = {&WORK_RELAY, &WORK_DURABLE, &WORK_GROUP, &WORK_IDLE};

#define COUNT(table) (sizeof(table) / sizeof *(table))

static const struct adapter *adapter_named(const char *name) {
    for (size_t place = 0; place < COUNT(ADAPTERS); place++) {
        if (strcmp(ADAPTERS[place]->name, name) == 0) {
            return ADAPTERS[place];
        }
    }
    die("no protocol '%s'", name);
}

static const struct work *work_named(const char *name) {
    for (size_t place = 0; place < COUNT(WORKS); place++) {
        if (strcmp(WORKS[place]->name, name) == 0) {
            return WORKS[place];
        }
    }
    die("no work '%s'", name);
}

int main(int count, char **arguments) {
    static struct load load;
    load.options = options_parse(count, arguments);
    load.adapter = adapter_named(load.options.protocol);
    load.work = work_named(load.options.work);
    load.plan = plan_load(load.options.plan);
    load.count = load.plan.count;
    load.heartbeat_ms = load.options.heartbeat_ms;
    load.stores = load.work->stores && (!load.work->must_deliver || load.adapter->delivers_stored);
    if (load.stores && !load.adapter->stores) {
        die("%s stores nothing", load.adapter->name);
    }
    if (load.work->stores && !load.stores && load.options.rate_per_s == 0) {
        die("%s does not answer: it needs --rate, or the work relay", load.adapter->name);
    }
    network_open(&load);
    load_run(&load);
    report_print(&load);
    return 0;
}
