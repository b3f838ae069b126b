/* Sockets: connect at a measured pace, read into one window, write once per turn. */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_PER_TURN 512
#define READ_BYTES (64u << 10)
#define DESCRIPTORS_SPARE 32

static void keep(struct kept *kept, const uint8_t *bytes, size_t size) {
    if (kept->size + size > kept->capacity) {
        kept->capacity = (uint32_t)(kept->size + size + 64);
        kept->bytes = enlarge(kept->bytes, kept->capacity);
    }
    memcpy(kept->bytes + kept->size, bytes, size);
    kept->size += (uint32_t)size;
}

void network_open(struct load *load) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < load->count + DESCRIPTORS_SPARE) {
        die("%u connections, but this process may open %llu files only", load->count, (unsigned long long)files.rlim_cur);
    }
    load->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (load->epoll_fd < 0) {
        die("epoll_create1: %s", strerror(errno));
    }
    load->connections = allocate(load->count, sizeof *load->connections);
    load->dirty = allocate(load->count, sizeof *load->dirty);
    load->scratch_in = allocate(SCRATCH_BYTES, 1);
    load->scratch_out = allocate(SCRATCH_BYTES, 1);
    for (uint32_t index = 0; index < load->count; index++) {
        struct connection *connection = &load->connections[index];
        connection->load = load;
        connection->fd = -1;
        connection->index = index;
        connection->plan = &load->plan.lines[index];
    }
}

static void watch(struct connection *connection, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (epoll_ctl(connection->load->epoll_fd, operation, connection->fd, &event) < 0) {
        die("epoll_ctl: %s", strerror(errno));
    }
}

/* One source address has some 28,000 ports, so every ports_per_address connections move on to the next one.
 * Generator 1 begins at 127.0.0.1, generator 2 at 127.0.1.1, … */
static struct sockaddr_in source_address(const struct connection *connection) {
    const struct options *options = &connection->load->options;
    uint32_t host = 1 + connection->index / options->ports_per_address;
    return (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(0x7F000000u | ((options->generator - 1) & 0xFF) << 8 | (host & 0xFF)),
    };
}

static void start(struct connection *connection) {
    const struct options *options = &connection->load->options;
    struct sockaddr_in target = {.sin_family = AF_INET, .sin_port = htons(options->port)};
    if (inet_pton(AF_INET, options->host, &target.sin_addr) != 1 || (ntohl(target.sin_addr.s_addr) >> 24) != 127) {
        die("'%s' is not an IPv4 address of the loopback interface", options->host);
    }
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0) {
        die("socket: %s", strerror(errno));
    }
    int one = 1;
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    /* Without it bind() would take one of the ports of all destinations. */
    setsockopt(connection->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    struct sockaddr_in source = source_address(connection);
    if (bind(connection->fd, (struct sockaddr *)&source, sizeof source) < 0) {
        die("bind: %s", strerror(errno));
    }
    connection->connect_ns = now_ns();
    connection->phase = CONNECTING;
    if (connect(connection->fd, (struct sockaddr *)&target, sizeof target) < 0 && errno != EINPROGRESS) {
        die("connect: %s", strerror(errno));
    }
    watch(connection, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

void network_connect_more(struct load *load) {
    while (load->born < load->count && load->born - load->ready < load->options.connecting_max) {
        start(&load->connections[load->born++]);
    }
}

void connection_touch(struct connection *connection) {
    if (!connection->dirty) {
        connection->dirty = true;
        connection->load->dirty[connection->load->dirty_count++] = connection;
    }
}

void connection_queue(struct connection *connection, const void *bytes, size_t size) {
    keep(&connection->backlog, bytes, size);
    connection_touch(connection);
}

void connection_ready(struct connection *connection) {
    struct load *load = connection->load;
    connection->phase = READY;
    connection->ready_ns = load->now_ns;
    load->ready++;
    histogram_add(&load->results.connect, connection->ready_ns - connection->connect_ns);
}

void connection_stick(struct connection *connection) {
    if (!connection->gone) {
        watch(connection, EPOLL_CTL_DEL, 0);
    }
}

void connection_unstick(struct connection *connection) {
    watch(connection, EPOLL_CTL_ADD, EPOLLIN);
}

static void on_connected(struct connection *connection) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) {
        die("connection %u: %s", connection->index, strerror(error));
    }
    watch(connection, EPOLL_CTL_MOD, EPOLLIN);
    connection->phase = GREETING;
    connection->load->adapter->greet(connection);
}

static void on_readable(struct connection *connection) {
    struct load *load = connection->load;
    uint8_t *window = load->scratch_in;
    struct kept *partial = &connection->partial;
    memcpy(window, partial->bytes ? partial->bytes : window, partial->size);
    ssize_t received = recv(connection->fd, window + partial->size, READ_BYTES, 0);
    if (received < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (received <= 0 && connection->seen != NULL && !load->stores) {
        connection_stick(connection);
        connection->gone = true;
        load->results.closed++;
        return;
    }
    if (received <= 0) {
        die("connection %u was closed by the server: %s", connection->index, received < 0 ? strerror(errno) : "end of file");
    }
    load->now_ns = now_ns();
    const uint8_t *end = window + partial->size + received;
    const uint8_t *rest = load->adapter->consume(connection, window, end);
    partial->size = 0;
    if (rest < end) {
        if ((size_t)(end - rest) > SCRATCH_BYTES - READ_BYTES) {
            die("connection %u: a unit longer than %u bytes", connection->index, SCRATCH_BYTES - READ_BYTES);
        }
        keep(partial, rest, (size_t)(end - rest));
    }
}

static void block(struct connection *connection, const uint8_t *bytes, size_t size) {
    keep(&connection->backlog, bytes, size);
    if (!connection->blocked) {
        connection->blocked = true;
        watch(connection, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    }
}

/* Write what waits and what the work adds, until there is nothing more or the socket is full. */
static void flush(struct connection *connection) {
    struct load *load = connection->load;
    connection->dirty = false;
    if (connection->blocked || connection->gone) {
        return;
    }
    for (;;) {
        uint8_t *to = load->scratch_out;
        struct kept *backlog = &connection->backlog;
        if (backlog->size > SCRATCH_BYTES / 2) {
            die("connection %u: %u bytes wait to be written", connection->index, backlog->size);
        }
        memcpy(to, backlog->bytes ? backlog->bytes : to, backlog->size);
        to += backlog->size;
        backlog->size = 0;
        if (connection->phase == READY && load->started) {
            uint8_t *from = to;
            to = load->work->fill(connection, to, load->scratch_out + SCRATCH_BYTES - HEAD_BYTES_MAX);
            if (to > from && load->adapter->seal != NULL) {
                to = load->adapter->seal(to);
            }
        }
        size_t size = (size_t)(to - load->scratch_out);
        if (size == 0) {
            return;
        }
        ssize_t sent = send(connection->fd, load->scratch_out, size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            die("connection %u: %s", connection->index, strerror(errno));
        }
        if (sent < (ssize_t)size) {
            size_t taken = sent < 0 ? 0 : (size_t)sent;
            block(connection, load->scratch_out + taken, size - taken);
            return;
        }
        if (size < SCRATCH_BYTES / 2) {
            return;
        }
    }
}

static void on_event(struct connection *connection, uint32_t events) {
    if (connection->phase == CONNECTING) {
        if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
            on_connected(connection);
        }
        return;
    }
    if (connection->blocked && (events & EPOLLOUT)) {
        connection->blocked = false;
        watch(connection, EPOLL_CTL_MOD, EPOLLIN);
        connection_touch(connection);
    }
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
        on_readable(connection);
    }
}

void network_turn(struct load *load, uint64_t wait_until_ns) {
    for (uint32_t place = 0; place < load->dirty_count; place++) {
        flush(load->dirty[place]);
    }
    load->dirty_count = 0;
    uint64_t now = now_ns();
    uint64_t wait_ns = wait_until_ns > now ? wait_until_ns - now : 0;
    struct timespec wait = {.tv_sec = (time_t)(wait_ns / NS_PER_S), .tv_nsec = (long)(wait_ns % NS_PER_S)};
    struct epoll_event events[EVENTS_PER_TURN];
    int count = epoll_pwait2(load->epoll_fd, events, EVENTS_PER_TURN, &wait, NULL);
    if (count < 0 && errno != EINTR) {
        die("epoll_pwait2: %s", strerror(errno));
    }
    load->now_ns = now_ns();
    for (int place = 0; place < count; place++) {
        on_event(events[place].data.ptr, events[place].events);
    }
}
