// A failure is not dropped on the floor.
#include "chorus/status.h"

chorus::Status Save();

void Close() {
#ifdef CHORUS_MUST_NOT_COMPILE
  Save();
#else
  if (!Save().ok()) return;
#endif
}
