// Work that runs on its caller's thread and can be left in the middle, to be gone on with later.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "chorus/status.h"

namespace chorus {

// A piece of work with a stack of its own. Thread-compatible; Resume may be called from one thread
// now and another later, so the work may not keep what belongs to a thread across a Leave.
class Fiber {
 public:
  // Whether this platform can switch stacks.
  static bool Supported();
  // kUnimplemented: this platform cannot switch stacks; kResourceExhausted: no memory for one.
  static Result<std::unique_ptr<Fiber>> Create(std::function<void()> work);
  virtual ~Fiber() = default;
  // Runs the work until it leaves or is done; true when it is done. A fiber may only be destroyed
  // once it is done or before its first Resume: what stands on its stack would never be destroyed.
  virtual bool Resume() = 0;
  // From inside the work: returns to whoever resumed it, until the next Resume.
  virtual void Leave() = 0;
};

}  // namespace chorus
