// A secret is moved, or copied in words.
#include <utility>

#include "chorus/bytes.h"

chorus::SecretBytes Keep(chorus::SecretBytes& secret) {
#ifdef CHORUS_MUST_NOT_COMPILE
  return secret;
#else
  return secret.Clone();
#endif
}
