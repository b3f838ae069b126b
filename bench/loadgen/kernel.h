/* Kernel memory of the server's sockets, as sock_diag(7) tells it (INET_DIAG_SKMEMINFO). */
#ifndef LOADGEN_KERNEL_H
#define LOADGEN_KERNEL_H

#include "base.h"

/* Bytes that the established sockets of this local port hold: received, queued to be sent, reserved and optional memory. */
uint64_t kernel_socket_bytes(uint16_t port);

#endif
