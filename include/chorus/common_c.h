/* What the C headers of Chorus have in common: status codes, bytes, and the rules of the ABI.
 *
 * The rules, for whoever binds these libraries from any language:
 *  - Everything exported is named chorus_*; a function returns a status code unless it says
 *    otherwise, and CHORUS_OK is 0. After a failure chorus_last_error() says in words what was
 * wrong and what to do.
 *  - A handle is opaque, made by a *_create or *_fetch_* function and ended by its *_destroy, once.
 *    A null or destroyed handle, or one of another kind, is refused with CHORUS_INVALID_ARGUMENT by
 *    every function.
 *  - One thread at a time is inside the calls on one handle; a second one is turned away with
 *    CHORUS_FAILED_PRECONDITION and has changed nothing. What says "from any thread" is exempt.
 *  - No thread of the library ever calls the host. Callbacks run inside chorus_client_poll() and
 *    chorus_coordinator_poll() alone, on the calling thread; from one, every call but poll, start
 *    and destroy on the same handle is allowed.
 *  - What a function is given is borrowed until it returns; a string that it gives back is the
 *    library's, ends with a zero byte, and is valid until the next call on the same thread.
 *  - A structure begins with struct_size, which the caller sets to sizeof of the structure as it
 * was compiled. Fields are only ever added, at the end, and zero always means what the library did
 *    before the field was there. A library that is older than its caller refuses fields that it
 *    does not know unless they are zero.
 *  - Within a major version no symbol, code, field or number changes its meaning or goes away.
 * Text is UTF-8. Integers have fixed widths; enumerations are int32_t or uint32_t and their numbers
 * are fixed. */
#pragma once

#include <stdint.h>

#if defined(__GNUC__)
#define CHORUS_API __attribute__((visibility("default")))
#else
#define CHORUS_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* gRPC's numbers, as chorus::Code. */
enum {
  CHORUS_OK = 0,
  CHORUS_CANCELLED = 1,
  CHORUS_UNKNOWN = 2,
  CHORUS_INVALID_ARGUMENT = 3,
  CHORUS_DEADLINE_EXCEEDED = 4,
  CHORUS_NOT_FOUND = 5,
  CHORUS_ALREADY_EXISTS = 6,
  CHORUS_PERMISSION_DENIED = 7,
  CHORUS_RESOURCE_EXHAUSTED = 8,
  CHORUS_FAILED_PRECONDITION = 9,
  CHORUS_ABORTED = 10,
  CHORUS_OUT_OF_RANGE = 11,
  CHORUS_UNIMPLEMENTED = 12,
  CHORUS_INTERNAL = 13,
  CHORUS_UNAVAILABLE = 14,
  CHORUS_DATA_LOSS = 15,
  CHORUS_UNAUTHENTICATED = 16
};

/* What a code means, in words; of a number that is no code, that. Never null. From any thread. */
CHORUS_API const char* chorus_status_message(int32_t code);

/* Why the last call of this thread that failed did so. Never null; empty before the first. */
CHORUS_API const char* chorus_last_error(void);

/* The library's version, for example "0.1.0". From any thread. */
CHORUS_API const char* chorus_version(void);

/* Text or bytes that the caller lends. All zero: none. */
typedef struct chorus_bytes {
  const void* data;
  uint64_t size;
} chorus_bytes;

#ifdef __cplusplus
}
#endif
