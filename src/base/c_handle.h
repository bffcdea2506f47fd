// What every handle and structure of the C headers goes through: nothing that a host gets wrong
// with them may reach memory that is not there. A pointer that was never a handle, of any kind,
// cannot be told from one.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "chorus/bytes.h"
#include "chorus/common_c.h"
#include "chorus/status.h"

namespace chorus::c_abi {

// Keeps the message for chorus_last_error, and gives the code.
int32_t Report(const Status& status);
// Keeps text that a call gives back until the next such call of this thread.
const char* Lend(std::string text);

inline BytesView View(const chorus_bytes& bytes) {
  return {static_cast<const uint8_t*>(bytes.data), static_cast<size_t>(bytes.size)};
}
inline std::string_view TextOf(const chorus_bytes& bytes) {
  return {static_cast<const char*>(bytes.data), static_cast<size_t>(bytes.size)};
}
// kInvalidArgument: a null pointer with a size, or more than any text or key may have.
Status CheckBytes(const chorus_bytes& bytes, std::string_view name);
// Likewise, and of another size than `size`.
Status CheckKey(const chorus_bytes& bytes, std::string_view name, size_t size);

Status NullPointer(std::string_view name);
Status WrongStructSize(std::string_view name);

// Bytes of a structure in the first version that had it, which no caller has less of. Each file
// that reads one says where its first version ended, so that a field added later does not move it.
template <typename Struct>
extern const uint32_t kFirstSize;
#define CHORUS_FIRST_VERSION_ENDS_AFTER(type, field) \
  template <>                                        \
  inline constexpr uint32_t kFirstSize<type> =       \
      static_cast<uint32_t>(offsetof(type, field) + sizeof(type::field))

inline constexpr uint32_t kStructSizeMax = 4'096;

// The caller's structure, of which it may know less or more than this library.
template <typename Struct>
Result<Struct> ReadStruct(const Struct* from, std::string_view name) {
  if (from == nullptr) return NullPointer(name);
  uint32_t size = 0;
  std::memcpy(&size, from, sizeof(size));
  if (size < kFirstSize<Struct> || size > kStructSizeMax) return WrongStructSize(name);
  Struct all{};
  std::memcpy(&all, from, std::min<size_t>(size, sizeof(Struct)));
  const auto* const bytes = reinterpret_cast<const uint8_t*>(from);
  for (size_t i = sizeof(Struct); i < size; ++i) {
    if (bytes[i] != 0)
      return Status(Code::kUnimplemented,
                    std::string(name) + " sets a field that this library is too old for");
  }
  return all;
}

// Whether WriteStruct can fill `to`.
template <typename Struct>
Status CheckRoom(const Struct* to, std::string_view name) {
  if (to == nullptr) return NullPointer(name);
  uint32_t size = 0;
  std::memcpy(&size, to, sizeof(size));
  return size < kFirstSize<Struct> ? WrongStructSize(name) : OkStatus();
}

// Fills as much of the caller's structure as it knows.
template <typename Struct>
Status WriteStruct(Struct* to, Struct all, std::string_view name) {
  CHORUS_TRY(CheckRoom(to, name));
  all.struct_size = std::min<uint32_t>(to->struct_size, sizeof(Struct));
  std::memcpy(to, &all, all.struct_size);
  return OkStatus();
}

// Fills the `size` bytes that the caller knows of `to` with `defaults`, and zeros beyond.
template <typename Struct>
Status InitStruct(Struct* to, uint32_t size, Struct defaults, std::string_view name) {
  if (to == nullptr) return NullPointer(name);
  if (size < kFirstSize<Struct> || size > kStructSizeMax) return WrongStructSize(name);
  defaults.struct_size = size;
  auto* const bytes = reinterpret_cast<uint8_t*>(to);
  std::memcpy(bytes, &defaults, std::min<size_t>(size, sizeof(Struct)));
  std::fill(bytes + std::min<size_t>(size, sizeof(Struct)), bytes + size, uint8_t{0});
  return OkStatus();
}

// The calling thread, as a number that is no other living thread's and never 0.
inline uint64_t ThisThread() {
  thread_local const char mark = 0;
  return reinterpret_cast<uintptr_t>(&mark);
}

// What a handle stands for. A body says its kind as `kHandleKind`.
enum class HandleKind : uint64_t { kModel = 'M', kClient = 'C', kCoordinator = 'S' };

// What a handle points to, whatever its kind. It is never freed, so any handle that there ever was
// may be looked at; but nothing of it may be touched beside `state` until that has shown that it is
// alive and of the kind that was asked for.
struct Gate {
  static constexpr uint64_t kAlive = 0x43484f5255532b00;  // "CHORUS+", and the kind
  static constexpr uint64_t kDead = 0x43484f5255532d00;
  static constexpr uint64_t Alive(HandleKind kind) { return kAlive + static_cast<uint64_t>(kind); }

  Gate() = default;
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  std::atomic<uint64_t> state{kDead};
  std::atomic<uint64_t> inside{0};  // the thread whose call it is
  std::atomic<uint32_t> quick{0};   // calls from any thread that are inside
};

// The gate of a handle, whose type the headers never define.
template <typename Handle>
Gate* GateOf(Handle* handle) {
  return reinterpret_cast<Gate*>(handle);
}

// A gate and what is behind it. It outlives its body, so that a call on a destroyed handle finds
// that written; a shell is used again, for its own kind, only after kDeadMin others have died.
template <typename Body>
class Shell : public Gate {
 public:
  // A new handle, never null.
  template <typename Handle>
  static Handle* Make(std::unique_ptr<Body> body) {
    Shell* shell = TakeDead();
    if (shell == nullptr) shell = new Shell;
    shell->body_ = std::move(body);
    shell->state.store(Alive(Body::kHandleKind), std::memory_order_release);
    return reinterpret_cast<Handle*>(static_cast<Gate*>(shell));
  }

 private:
  template <typename>
  friend class Call;
  static constexpr size_t kDeadMin = 1'024;

  // Those that died, the first to have done so first. It is never destroyed: handles may be misused
  // until the process ends.
  struct Graveyard {
    std::mutex mutex;
    Shell* first = nullptr;
    Shell* last = nullptr;
    size_t count = 0;
  };
  static Graveyard& Dead() {
    static Graveyard& graveyard = *new Graveyard;
    return graveyard;
  }
  static Shell* TakeDead() {
    Graveyard& dead = Dead();
    const std::lock_guard lock(dead.mutex);
    if (dead.count < kDeadMin) return nullptr;
    Shell* const shell = dead.first;
    dead.first = shell->next_;
    shell->next_ = nullptr;
    --dead.count;
    return shell;
  }
  static void Bury(Shell* shell) {
    Graveyard& dead = Dead();
    const std::lock_guard lock(dead.mutex);
    (dead.count == 0 ? dead.first : dead.last->next_) = shell;
    dead.last = shell;
    ++dead.count;
  }

  Shell() = default;

  std::unique_ptr<Body> body_;
  Shell* next_ = nullptr;
};

enum class Entry {
  kAlone,     // not from inside another call
  kNested,    // also from a callback of a call on the same thread
  kAnyThread  // beside whatever else: what it calls must be thread-safe
};

// One call on a handle, from its begin to its end.
template <typename Body>
class Call {
 public:
  Call(Gate* gate, Entry entry) : gate_(gate), entry_(entry) { status_ = Enter(); }
  ~Call() {
    if (!status_.ok() || gate_ == nullptr) return;
    if (entry_ == Entry::kAnyThread) --gate_->quick;
    if (owns_) gate_->inside.store(0, std::memory_order_release);
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // When it is a failure, nothing else of the call may be used.
  const Status& status() const { return status_; }
  Body* operator->() const { return shell()->body_.get(); }

  // Ends the handle. Calls from any thread are over or come too late.
  void Destroy() {
    gate_->state.store(Gate::kDead, std::memory_order_seq_cst);
    while (gate_->quick.load(std::memory_order_seq_cst) != 0) {
    }
    shell()->body_.reset();
    gate_->inside.store(0, std::memory_order_release);
    Shell<Body>::Bury(shell());
    gate_ = nullptr;
  }

 private:
  Shell<Body>* shell() const { return static_cast<Shell<Body>*>(gate_); }
  bool IsAlive() const {
    return gate_->state.load(std::memory_order_seq_cst) == Gate::Alive(Body::kHandleKind);
  }

  Status Enter() {
    if (gate_ == nullptr) return InvalidArgument("the handle is null");
    // Nothing is written to a handle of another kind. One of this kind keeps it for ever, and may
    // die at any moment: hence the second looks below.
    if (!IsAlive()) return NotAHandle();
    if (entry_ == Entry::kAnyThread) {
      // Counted before it is looked at again: whoever destroys looks the other way round.
      gate_->quick.fetch_add(1, std::memory_order_seq_cst);
      if (IsAlive()) return OkStatus();
      --gate_->quick;
      return NotAHandle();
    }
    uint64_t none = 0;
    owns_ = gate_->inside.compare_exchange_strong(none, ThisThread());
    if (!owns_ && none != ThisThread())
      return FailedPrecondition("another thread is inside a call on this handle");
    if (!owns_ && entry_ == Entry::kAlone)
      return FailedPrecondition("this call may not be made from inside a callback");
    // Destroyed between the two looks, by a thread that has left since.
    if (IsAlive()) return OkStatus();
    if (owns_) gate_->inside.store(0, std::memory_order_release);
    return NotAHandle();
  }
  static Status NotAHandle() {
    return InvalidArgument("the handle is none of this kind, or was destroyed");
  }

  Gate* gate_;
  const Entry entry_;
  bool owns_ = false;
  Status status_;
};

}  // namespace chorus::c_abi
