// crypto/keys.cc and ed25519.cc in a namespace of their own, for remembered_keys.cc to call what it
// does not remember yet.
#define crypto anew
#include "crypto/ed25519.cc"
#include "crypto/keys.cc"
