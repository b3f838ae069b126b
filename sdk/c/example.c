/* A device on POSIX sockets: chatd_lite_example HOST PORT DEVICE KEY_HEX CID. Commands on standard input, one event per line out.
 *   send TEXT | fetch SEQ OFFSET LENGTH | drop (close the socket and resume) | quit */
#include "chatd_lite.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char *const names[] = {"", "online", "event", "stub", "chunk", "fetch-end", "acked", "refused", "ephemeral", "error", "closed", "reserve-cseq"};

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void print_event(void *context, const struct chatd_lite_event *e) {
    (void)context;
    printf("%s cid=%llu seq=%llu sender=%llu kind=%llu offset=%llu length=%llu code=%u payload=", names[e->type], (unsigned long long)e->cid,
           (unsigned long long)e->seq, (unsigned long long)e->sender, (unsigned long long)e->kind, (unsigned long long)e->offset,
           (unsigned long long)e->length, e->code);
    for (size_t i = 0; i < e->payload_bytes; i++) printf("%02x", e->payload[i]);
    putchar('\n');
    fflush(stdout);
}

static int dial(const char *host, const char *port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (s < 0 || inet_pton(AF_INET, host, &a.sin_addr) != 1 || connect(s, (struct sockaddr *)&a, sizeof a) != 0) {
        if (s >= 0) close(s);
        return -1;
    }
    fcntl(s, F_SETFL, O_NONBLOCK);
    return s;
}

/* Returns 0 when the connection is to be closed. */
static int exchange(struct chatd_lite *c, int s) {
    uint8_t data[300];
    const uint8_t *out;
    ssize_t n = recv(s, data, sizeof data, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN)) return 0;
    if (n > 0 && !chatd_lite_input(c, data, (size_t)n)) return 0;
    chatd_lite_tick(c, now_ms());
    size_t ready = chatd_lite_output(c, &out);
    if (!ready) return 1;
    n = send(s, out, ready, MSG_NOSIGNAL);
    if (n > 0) chatd_lite_sent(c, (size_t)n);
    return n > 0 || errno == EAGAIN;
}

/* Returns 0 for quit; drop asks for a new connection. */
static int command(struct chatd_lite *c, uint64_t cid, char *line, int *drop) {
    unsigned long long seq, offset, length;
    line[strcspn(line, "\n")] = 0;
    if (!strcmp(line, "quit")) return 0;
    if (!strcmp(line, "drop")) *drop = 1;
    else if (!strncmp(line, "send ", 5)) {
        if (!chatd_lite_send(c, cid, 1, (const uint8_t *)line + 5, strlen(line + 5))) puts("busy");
    } else if (sscanf(line, "fetch %llu %llu %llu", &seq, &offset, &length) == 3) chatd_lite_fetch(c, cid, seq, offset, length);
    else puts("unknown command");
    fflush(stdout);
    return 1;
}

int main(int argc, char **argv) {
    struct chatd_lite c;
    struct chatd_lite_config config = {.agent = "chatd-lite-example", .handle = print_event};
    char line[600];
    size_t have = 0;
    if (argc != 6 || strlen(argv[4]) != 64) {
        fprintf(stderr, "usage: %s HOST PORT DEVICE KEY_HEX CID\n", argv[0]);
        return 2;
    }
    config.device = strtoull(argv[3], NULL, 10);
    for (size_t i = 0; i < 32; i++) sscanf(argv[4] + 2 * i, "%2hhx", &config.key[i]);
    uint64_t cid = strtoull(argv[5], NULL, 10);
    chatd_lite_init(&c, &config);
    chatd_lite_follow(&c, cid, 0);
    fcntl(0, F_SETFL, O_NONBLOCK);
    int s = -1, drop = 0;
    for (;;) {
        if (s < 0) {
            s = dial(argv[1], argv[2]);
            if (s >= 0) chatd_lite_connected(&c, now_ms());
        }
        struct pollfd fds[2] = {{0, POLLIN, 0}, {s, POLLIN, 0}};
        poll(fds, s >= 0 ? 2 : 1, 20);
        if (s >= 0 && (!exchange(&c, s) || drop)) {
            close(s);
            s = -1;
            drop = 0;
        }
        ssize_t n = read(0, line + have, sizeof line - 1 - have);
        if (n == 0) return 0;
        if (n > 0) have += (size_t)n;
        line[have] = 0;
        for (char *end; (end = strchr(line, '\n'));) {
            size_t used = (size_t)(end + 1 - line);
            if (!command(&c, cid, line, &drop)) return 0;
            memmove(line, line + used, have + 1 - used);
            have -= used;
        }
        if (have == sizeof line - 1) have = 0;
    }
}
