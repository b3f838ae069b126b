/* Preloaded into a process under test: fdatasync and fsync of files whose path contains FAULTFS_PATH fail with EIO
 * while the file FAULTFS_ARMED exists. Each failure removes FAULTFS_ARMED's first byte; an empty file fails no more, so
 * a test says how many syncs are to fail by the size of the file. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int must_fail(int fd)
{
    const char *armed = getenv("FAULTFS_ARMED"), *part = getenv("FAULTFS_PATH");
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
    if (must_fail(fd)) {
        errno = EIO;
        return -1;
    }
    return real(fd);
}

int fdatasync(int fd) { return synced(fd, "fdatasync"); }
int fsync(int fd) { return synced(fd, "fsync"); }
