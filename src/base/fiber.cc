#include "base/fiber.h"

#include <utility>

#if defined(__linux__) && defined(__GLIBC__)
#define CHORUS_HAS_UCONTEXT
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdint>
#endif

// Sanitizers follow a stack by its thread, and have to be told when it changes.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CHORUS_FIBER_ASAN
#endif
#if __has_feature(thread_sanitizer)
#define CHORUS_FIBER_TSAN
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define CHORUS_FIBER_ASAN
#endif
#if defined(__SANITIZE_THREAD__)
#define CHORUS_FIBER_TSAN
#endif
#ifdef CHORUS_FIBER_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef CHORUS_FIBER_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace chorus {

#ifdef CHORUS_HAS_UCONTEXT
namespace {

// Training needs little of a stack, its numbers being in buffers; pages are taken when touched.
constexpr size_t kStackBytes = size_t{512} << 10U;

class ContextFiber final : public Fiber {
 public:
  ContextFiber(std::function<void()> work, uint8_t* memory, size_t guard)
      : work_(std::move(work)), memory_(memory), guard_(guard) {
#ifdef CHORUS_FIBER_TSAN
    own_ = __tsan_create_fiber(0);
#endif
  }
  ContextFiber(const ContextFiber&) = delete;
  ContextFiber& operator=(const ContextFiber&) = delete;
  ~ContextFiber() override {
#ifdef CHORUS_FIBER_TSAN
    __tsan_destroy_fiber(own_);
#endif
    (void)munmap(memory_, guard_ + kStackBytes);
  }

  // Apart from the constructor, since it can fail.
  bool Prepare() {
    if (getcontext(&inside_) != 0) return false;
    inside_.uc_stack.ss_sp = memory_ + guard_;
    inside_.uc_stack.ss_size = kStackBytes;
    inside_.uc_link = nullptr;
    // makecontext passes only ints, so the pointer goes in two.
    const auto self = reinterpret_cast<uintptr_t>(this);
    makecontext(&inside_, reinterpret_cast<void (*)()>(&Enter), 2, static_cast<uint32_t>(self),
                static_cast<uint32_t>(uint64_t{self} >> 32U));
    return true;
  }

  bool Resume() override {
    if (done_) return true;
#ifdef CHORUS_FIBER_ASAN
    void* kept = nullptr;
    __sanitizer_start_switch_fiber(&kept, memory_ + guard_, kStackBytes);
#endif
#ifdef CHORUS_FIBER_TSAN
    outer_ = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(own_, 0);
#endif
    (void)swapcontext(&outside_, &inside_);
#ifdef CHORUS_FIBER_ASAN
    __sanitizer_finish_switch_fiber(kept, nullptr, nullptr);
#endif
    return done_;
  }

  void Leave() override { SwitchOut(); }

 private:
  static void Enter(uint32_t low, uint32_t high) {
    const uint64_t self = uint64_t{low} | uint64_t{high} << 32U;
    // makecontext hands over integers only. NOLINTNEXTLINE(performance-no-int-to-ptr)
    reinterpret_cast<ContextFiber*>(static_cast<uintptr_t>(self))->Run();
  }

  void Run() {
#ifdef CHORUS_FIBER_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &outer_stack_, &outer_bytes_);
#endif
    work_();
    done_ = true;
    SwitchOut();
  }

  void SwitchOut() {
#ifdef CHORUS_FIBER_ASAN
    // Null at the end, when the stack will not be used again.
    void* kept = nullptr;
    __sanitizer_start_switch_fiber(done_ ? nullptr : &kept, outer_stack_, outer_bytes_);
#endif
#ifdef CHORUS_FIBER_TSAN
    __tsan_switch_to_fiber(outer_, 0);
#endif
    (void)swapcontext(&inside_, &outside_);
#ifdef CHORUS_FIBER_ASAN
    __sanitizer_finish_switch_fiber(kept, &outer_stack_, &outer_bytes_);
#endif
  }

  const std::function<void()> work_;
  uint8_t* const memory_;  // the guard page, then the stack, which grows towards it
  const size_t guard_;
  ucontext_t inside_{};
  ucontext_t outside_{};
  bool done_ = false;
#ifdef CHORUS_FIBER_ASAN
  const void* outer_stack_ = nullptr;
  size_t outer_bytes_ = 0;
#endif
#ifdef CHORUS_FIBER_TSAN
  void* own_ = nullptr;
  void* outer_ = nullptr;
#endif
};

}  // namespace

bool Fiber::Supported() { return true; }

Result<std::unique_ptr<Fiber>> Fiber::Create(std::function<void()> work) {
  const auto guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* const memory = mmap(nullptr, guard + kStackBytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return ResourceExhausted("there is no memory for a fiber's stack");
  auto fiber =
      std::make_unique<ContextFiber>(std::move(work), static_cast<uint8_t*>(memory), guard);
  if (mprotect(memory, guard, PROT_NONE) != 0 || !fiber->Prepare())
    return ResourceExhausted("the system gives no stack for a fiber");
  return std::unique_ptr<Fiber>(std::move(fiber));
}

#else

bool Fiber::Supported() { return false; }

Result<std::unique_ptr<Fiber>> Fiber::Create(std::function<void()> /*work*/) {
  return Status(Code::kUnimplemented,
                "this platform cannot switch stacks: let the worker thread train instead");
}

#endif

}  // namespace chorus
