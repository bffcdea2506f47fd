// CHORUS_ENSURE: a check of our own invariants, never of a peer's input. Aborts where
// CHORUS_ENSURE_ABORTS is defined (debug builds and CI); in a release build the function returns
// kInternal and the round ends: we are guests in a player's game and a studio's server.
#pragma once

#include <cstdlib>

#include "chorus/status.h"

#ifdef CHORUS_ENSURE_ABORTS
#define CHORUS_ENSURE(condition)    \
  do {                              \
    if (!(condition)) std::abort(); \
  } while (false)
#else
#define CHORUS_ENSURE(condition)                                                            \
  do {                                                                                      \
    if (!(condition)) return ::chorus::Internal("an invariant does not hold: " #condition); \
  } while (false)
#endif
