#include "options.h"
#include "payload.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static const char USAGE[] =
    "loadgen --protocol chatd|nats|redis|mqtt|postgres --work relay|durable|group|idle --port N --plan FILE [options]\n"
    "  --host ADDRESS         IPv4 address of the server (127.0.0.1)\n"
    "  --window N             unanswered messages per connection (1)\n"
    "  --payload BYTES        size of every payload, 32..32000 (64)\n"
    "  --warm-up S            seconds of load before measuring (1)\n"
    "  --seconds S            seconds measured (5)\n"
    "  --rate N               durable, group: messages per second in all, sent on schedule (0: as fast as the windows allow)\n"
    "  --heartbeat-ms N       heartbeat interval (0: the server's)\n"
    "  --connecting N         connections being opened at one time (64)\n"
    "  --ports-per-address N  connections from one source address (20000)\n"
    "  --generator N          number of this generator, 1..255 (1)\n"
    "  --stuck N              group: the last N readers do not read while it is measured (0)\n"
    "  --reread               durable: read every acknowledged message again from the store\n"
    "  --watch PID,PID+       processes of the server; with + and their children\n"
    "  --progress             one line per 250 ms on stderr\n"
    "One JSON object on stdout; exit status 1 and a reason on stderr when the run cannot be trusted.\n";

enum option_code {
    HOST = 256, PORT, PROTOCOL, WORK, PLAN, WINDOW, PAYLOAD, WARM_UP, SECONDS, RATE, HEARTBEAT, CONNECTING, PORTS, GENERATOR,
    STUCK, REREAD, WATCH, PROGRESS, HELP
};

static const struct option OPTIONS[] = {
    {"host", required_argument, NULL, HOST},
    {"port", required_argument, NULL, PORT},
    {"protocol", required_argument, NULL, PROTOCOL},
    {"work", required_argument, NULL, WORK},
    {"plan", required_argument, NULL, PLAN},
    {"window", required_argument, NULL, WINDOW},
    {"payload", required_argument, NULL, PAYLOAD},
    {"warm-up", required_argument, NULL, WARM_UP},
    {"seconds", required_argument, NULL, SECONDS},
    {"rate", required_argument, NULL, RATE},
    {"heartbeat-ms", required_argument, NULL, HEARTBEAT},
    {"connecting", required_argument, NULL, CONNECTING},
    {"ports-per-address", required_argument, NULL, PORTS},
    {"generator", required_argument, NULL, GENERATOR},
    {"stuck", required_argument, NULL, STUCK},
    {"reread", no_argument, NULL, REREAD},
    {"watch", required_argument, NULL, WATCH},
    {"progress", no_argument, NULL, PROGRESS},
    {"help", no_argument, NULL, HELP},
    {0},
};

static uint32_t whole(const char *text, uint32_t smallest, uint32_t largest) {
    char *end;
    unsigned long long number = strtoull(text, &end, 10);
    if (end == text || *end != '\0' || number < smallest || number > largest) {
        die("'%s' is not a whole number between %u and %u", text, smallest, largest);
    }
    return (uint32_t)number;
}

static double decimal(const char *text) {
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || !(number >= 0) || number > 1e9) {
        die("'%s' is not a number between 0 and 10^9", text);
    }
    return number;
}

static void watch(struct options *options, char *list) {
    for (char *item = strsep(&list, ","); item != NULL; item = strsep(&list, ",")) {
        if (options->watched_count == WATCHED_MAX) {
            die("more than %d processes to watch", WATCHED_MAX);
        }
        size_t size = strlen(item);
        bool children = size > 0 && item[size - 1] == '+';
        if (children) {
            item[size - 1] = '\0';
        }
        options->watched[options->watched_count++] =
            (struct watched){.pid = (int)whole(item, 1, INT32_MAX), .children = children};
    }
}

static void apply(struct options *options, int code) {
    switch (code) {
        case HOST: options->host = optarg; break;
        case PORT: options->port = (uint16_t)whole(optarg, 1, UINT16_MAX); break;
        case PROTOCOL: options->protocol = optarg; break;
        case WORK: options->work = optarg; break;
        case PLAN: options->plan = optarg; break;
        case WINDOW: options->window = whole(optarg, 1, 1024); break;
        case PAYLOAD: options->payload_bytes = whole(optarg, PAYLOAD_BYTES_MIN, PAYLOAD_BYTES_MAX); break;
        case WARM_UP: options->warm_up_s = decimal(optarg); break;
        case SECONDS: options->seconds = decimal(optarg); break;
        case RATE: options->rate_per_s = decimal(optarg); break;
        case HEARTBEAT: options->heartbeat_ms = whole(optarg, 0, 3600000); break;
        case CONNECTING: options->connecting_max = whole(optarg, 1, 4096); break;
        case PORTS: options->ports_per_address = whole(optarg, 1, 28000); break;
        case GENERATOR: options->generator = whole(optarg, 1, 255); break;
        case STUCK: options->stuck = whole(optarg, 0, 10000); break;
        case REREAD: options->reread = true; break;
        case WATCH: watch(options, optarg); break;
        case PROGRESS: options->progress = true; break;
        case HELP: fputs(USAGE, stdout); exit(0);
        default: fputs(USAGE, stderr); exit(2);
    }
}

struct options options_parse(int count, char **arguments) {
    struct options options = {
        .host = "127.0.0.1",
        .generator = 1,
        .window = 1,
        .payload_bytes = 64,
        .warm_up_s = 1,
        .seconds = 5,
        .connecting_max = 64,
        .ports_per_address = 20000,
    };
    int code;
    while ((code = getopt_long(count, arguments, "", OPTIONS, NULL)) != -1) {
        apply(&options, code);
    }
    if (optind != count || options.protocol == NULL || options.work == NULL || options.plan == NULL || options.port == 0) {
        fputs(USAGE, stderr);
        exit(2);
    }
    return options;
}
