/* Invariants of the engine.
 *
 * chatd_require stays on in production: a broken invariant ends the process, it does not guess.
 * chatd_assert is for those too expensive for that; it exists in builds with CHATD_DEBUG=1 and in sanitized ones.
 * Neither is ever used on what a peer or another process sent: that is rejected with a status. */
#ifndef CHATD_CHECK_H
#define CHATD_CHECK_H

#include <stdio.h>
#include <stdlib.h>

__attribute__((noreturn, cold, unused)) static void chatd_invariant_broken(const char *what, const char *file, int line)
{
    fprintf(stderr, "chatd: invariant broken: %s (%s:%d)\n", what, file, line);
    abort();
}

#define chatd_require(condition) \
    (__builtin_expect(!(condition), 0) ? chatd_invariant_broken(#condition, __FILE__, __LINE__) : (void)0)

#ifdef CHATD_DEBUG
#define CHATD_IS_DEBUG 1
#define chatd_assert(condition) chatd_require(condition)
#else
#define CHATD_IS_DEBUG 0
#define chatd_assert(condition) ((void)sizeof(condition))
#endif

#endif
