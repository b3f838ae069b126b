#include "kernel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#define ESTABLISHED_BIT (1u << 1) /* TCP_ESTABLISHED of the kernel */
#define ANSWER_BYTES (64u << 10)

/* Places in the array of SKMEMINFO: enum of linux/sock_diag.h. */
static uint64_t held(const uint32_t *memory) {
    return (uint64_t)memory[SK_MEMINFO_RMEM_ALLOC] + memory[SK_MEMINFO_WMEM_QUEUED] + memory[SK_MEMINFO_FWD_ALLOC] +
           memory[SK_MEMINFO_OPTMEM];
}

static uint64_t of_socket(const struct nlmsghdr *header, uint16_t port) {
    const struct inet_diag_msg *message = NLMSG_DATA(header);
    if (ntohs(message->id.idiag_sport) != port) {
        return 0;
    }
    int rest = (int)(header->nlmsg_len - NLMSG_LENGTH(sizeof *message));
    for (const struct rtattr *at = (const struct rtattr *)(message + 1); RTA_OK(at, rest); at = RTA_NEXT(at, rest)) {
        if (at->rta_type == INET_DIAG_SKMEMINFO) {
            return held(RTA_DATA(at));
        }
    }
    return 0;
}

uint64_t kernel_socket_bytes(uint16_t port) {
    static uint8_t answer[ANSWER_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 request;
    } ask = {
        .header = {.nlmsg_len = sizeof ask, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .request = {.sdiag_family = AF_INET, .sdiag_protocol = IPPROTO_TCP, .idiag_ext = 1 << (INET_DIAG_SKMEMINFO - 1),
                    .idiag_states = ESTABLISHED_BIT},
    };
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (fd < 0 || send(fd, &ask, sizeof ask, 0) != sizeof ask) {
        die("sock_diag: %s", strerror(errno));
    }
    uint64_t sum = 0;
    for (bool done = false; !done;) {
        ssize_t received = recv(fd, answer, sizeof answer, 0);
        if (received <= 0) {
            die("sock_diag: %s", strerror(errno));
        }
        size_t rest = (size_t)received;
        for (struct nlmsghdr *at = (struct nlmsghdr *)answer; NLMSG_OK(at, rest); at = NLMSG_NEXT(at, rest)) {
            if (at->nlmsg_type == NLMSG_DONE || at->nlmsg_type == NLMSG_ERROR) {
                done = true;
                break;
            }
            sum += of_socket(at, port);
        }
    }
    close(fd);
    return sum;
}
