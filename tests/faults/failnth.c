/* Preloaded into the workers of a server under test: one chosen call of one chosen role fails, once.
 *
 * A file that driver and workers map says which: struct failpoint. Every matching call of that role counts `left` down;
 * the one that takes it to 0 fails as the kernel would let it fail, and `fired` says so. Everything else goes on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum call { MALLOC = 1, ACCEPT4, EPOLL_CTL, READ, WRITE, MMAP, FTRUNCATE };

struct failpoint {
    _Atomic int64_t left;
    _Atomic int64_t fired;
    int64_t call;
    char role[8];
};

static struct failpoint *failpoint;
static char own_role[8];

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t n);
void *__libc_realloc(void *p, size_t n);

/* argv is "python -m chatd.worker ROLE INDEX …". */
__attribute__((constructor)) static void begin(void)
{
    static const char module[] = "chatd.worker";
    const char *path = getenv("FAILPOINT");
    char line[4096];
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
    close(fd);
    line[n > 0 ? n : 0] = 0;
    char *found = n > 0 ? memmem(line, (size_t)n, module, sizeof module) : NULL;
    if (!path || !found || (fd = open(path, O_RDWR | O_CLOEXEC)) < 0)
        return;
    strncpy(own_role, found + sizeof module, sizeof own_role - 1);
    void *shared = mmap(NULL, sizeof *failpoint, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    failpoint = shared == MAP_FAILED ? NULL : shared;
}

static int fails(enum call call, int error)
{
    if (!failpoint || atomic_load(&failpoint->left) <= 0 || failpoint->call != (int64_t)call ||
        strncmp(failpoint->role, own_role, sizeof own_role) != 0 || atomic_fetch_sub(&failpoint->left, 1) != 1)
        return 0;
    atomic_fetch_add(&failpoint->fired, 1);
    errno = error;
    return 1;
}

void *malloc(size_t n) { return fails(MALLOC, ENOMEM) ? NULL : __libc_malloc(n); }
void *calloc(size_t count, size_t n) { return fails(MALLOC, ENOMEM) ? NULL : __libc_calloc(count, n); }
void *realloc(void *p, size_t n) { return fails(MALLOC, ENOMEM) ? NULL : __libc_realloc(p, n); }

/* The real function, looked up once. */
#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) \
        real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

int accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict size, int flags)
{
    REAL(int, accept4, int, struct sockaddr *, socklen_t *, int);
    return fails(ACCEPT4, EMFILE) ? -1 : real(fd, address, size, flags);
}

int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    REAL(int, epoll_ctl, int, int, int, struct epoll_event *);
    return fails(EPOLL_CTL, ENOMEM) ? -1 : real(epoll, operation, fd, event);
}

ssize_t read(int fd, void *p, size_t n)
{
    REAL(ssize_t, read, int, void *, size_t);
    return fails(READ, EIO) ? -1 : real(fd, p, n);
}

ssize_t pread64(int fd, void *p, size_t n, off64_t offset)
{
    REAL(ssize_t, pread64, int, void *, size_t, off64_t);
    return fails(READ, EIO) ? -1 : real(fd, p, n, offset);
}

ssize_t recv(int fd, void *p, size_t n, int flags)
{
    REAL(ssize_t, recv, int, void *, size_t, int);
    return fails(READ, EIO) ? -1 : real(fd, p, n, flags);
}

ssize_t write(int fd, const void *p, size_t n)
{
    REAL(ssize_t, write, int, const void *, size_t);
    return fails(WRITE, EIO) ? -1 : real(fd, p, n);
}

ssize_t pwrite64(int fd, const void *p, size_t n, off64_t offset)
{
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    return fails(WRITE, EIO) ? -1 : real(fd, p, n, offset);
}

ssize_t send(int fd, const void *p, size_t n, int flags)
{
    REAL(ssize_t, send, int, const void *, size_t, int);
    return fails(WRITE, EIO) ? -1 : real(fd, p, n, flags);
}

void *mmap(void *address, size_t n, int protection, int flags, int fd, off_t offset)
{
    REAL(void *, mmap, void *, size_t, int, int, int, off_t);
    return fails(MMAP, ENOMEM) ? MAP_FAILED : real(address, n, protection, flags, fd, offset);
}

void *mmap64(void *address, size_t n, int protection, int flags, int fd, off64_t offset)
{
    return mmap(address, n, protection, flags, fd, offset);
}

int ftruncate(int fd, off_t size)
{
    REAL(int, ftruncate, int, off_t);
    return fails(FTRUNCATE, ENOSPC) ? -1 : real(fd, size);
}

int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }
