// Nor is a failure that came instead of a value.
#include "chorus/status.h"

chorus::Result<int> Open();

void Close() {
#ifdef CHORUS_MUST_NOT_COMPILE
  Open();
#else
  if (!Open().ok()) return;
#endif
}
