/* Preloaded into a process under test. Of files whose path contains FAULTFS_PATH
 *   fdatasync and fsync fail with EIO as often as the file FAULTFS_ARMED has bytes,
 *   pwrite fails with ENOSPC as often as the file FAULTFS_FULL has bytes;
 * each failure removes one byte, so a test says by the size of a file how many calls are to fail.
 * SABOTAGE=12 is the deliberate fault of that number: whoever asked for a sync that failed asks again. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int must_fail(int fd, const char *variable)
{
    const char *armed = getenv(variable), *part = getenv("FAULTFS_PATH");
    char link[64], path[4096];
    struct stat state;
    if (!armed || !part || stat(armed, &state) != 0 || state.st_size == 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return strstr(path, part) && truncate(armed, state.st_size - 1) == 0;
}

static int synced(int fd, const char *name)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    const char *sabotage = getenv("SABOTAGE");
    if (must_fail(fd, "FAULTFS_ARMED") && !(sabotage && strcmp(sabotage, "12") == 0)) {
        errno = EIO;
        return -1;
    }
    return real(fd);
}

static ssize_t written(int fd, const void *data, size_t size, off_t offset, const char *name)
{
    ssize_t (*real)(int, const void *, size_t, off_t) =
        (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, name);
    if (must_fail(fd, "FAULTFS_FULL")) {
        errno = ENOSPC;
        return -1;
    }
    return real(fd, data, size, offset);
}

int fdatasync(int fd) { return synced(fd, "fdatasync"); }
int fsync(int fd) { return synced(fd, "fsync"); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return written(fd, data, size, offset, "pwrite"); }
ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset)
{
    return written(fd, data, size, offset, "pwrite64");
}
