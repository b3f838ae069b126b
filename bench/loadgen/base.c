#include "base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

_Noreturn void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("loadgen: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

void *allocate(size_t count, size_t size_bytes) {
    void *memory = calloc(count ? count : 1, size_bytes ? size_bytes : 1);
    if (memory == NULL) {
        die("no memory for %zu × %zu bytes", count, size_bytes);
    }
    return memory;
}

void *enlarge(void *memory, size_t size_bytes) {
    memory = realloc(memory, size_bytes);
    if (memory == NULL) {
        die("no memory for %zu bytes", size_bytes);
    }
    return memory;
}
