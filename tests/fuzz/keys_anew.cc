// crypto/keys.cc in a namespace of its own, for remembered_keys.cc to call what it does not
// remember yet.
#define crypto anew
#include "crypto/keys.cc"
