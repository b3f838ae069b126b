/* Deliberate faults, which the fault programme must catch: docs/internals/sabotages.md names them by number.
 *
 * They exist only in the build of `make sabotage` (CHATD_SABOTAGES defined), where SABOTAGE=n in the environment
 * chooses one when the module is loaded. In every other build the question is the constant 0: no code, no variable, no
 * look at the environment. */
#ifndef CHATD_SABOTAGE_H
#define CHATD_SABOTAGE_H

#ifdef CHATD_SABOTAGES
#include <stdlib.h>

#define CHATD_HAS_SABOTAGES 1

static int chatd_sabotage_chosen;

__attribute__((constructor, unused)) static void chatd_sabotage_choose(void)
{
    const char *chosen = getenv("SABOTAGE");
    chatd_sabotage_chosen = chosen ? atoi(chosen) : 0;
}

#define chatd_sabotage(number) (chatd_sabotage_chosen == (number))
#else
#define CHATD_HAS_SABOTAGES 0
#define chatd_sabotage(number) 0
#endif

#endif
