// What a device keeps of a task from one round to the next: its personal layers, and its control
// variate of SCAFFOLD. It never leaves the device.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "chorus/bytes.h"
#include "chorus/model.h"
#include "chorus/status.h"
#include "chorus/task.h"

namespace chorus::client {

class Disk;

// Numbers that hold what this device learned: wiped when they go. Movable, not copyable.
class PrivateWeights {
 public:
  PrivateWeights() = default;
  explicit PrivateWeights(Weights values) : values_(std::move(values)) {}
  PrivateWeights(PrivateWeights&& other) noexcept
      : values_(std::exchange(other.values_, Weights())) {}
  PrivateWeights& operator=(PrivateWeights&& other) noexcept {
    std::swap(values_, other.values_);
    return *this;
  }
  PrivateWeights(const PrivateWeights&) = delete;
  PrivateWeights& operator=(const PrivateWeights&) = delete;
  ~PrivateWeights() {
    Wipe({reinterpret_cast<uint8_t*>(values_.data()), values_.size() * sizeof(float)});
  }

  const Weights& get() const { return values_; }
  // Becomes `count` zeros, or copies of `from`, in the memory it has where that is enough.
  Weights& Reset(size_t count);
  Weights& Reset(std::span<const float> from);
  std::span<float> Mutable() { return values_; }

 private:
  Weights values_;
};

struct DeviceRecord {
  PrivateWeights personal;  // of the layers that are personal, in layout order
  PrivateWeights control;   // [shared] of SCAFFOLD, else empty
};

// Of which task and model a record is. What was kept for a model of another description is not
// read.
struct RecordKey {
  TaskId task{};
  Digest model{};  // SHA-256 of learning::CanonicalModel
  uint64_t personal_count = 0;
  uint64_t control_count = 0;
};

// Thread-compatible.
class DeviceState {
 public:
  // In files of `directory`, one a task, of mode 0600 and with a checksum, each replaced as a whole
  // once its successor is on disk. At most limits::kDeviceStatesMax are kept: the one that was
  // written longest ago makes room.
  static std::unique_ptr<DeviceState> InFiles(std::string directory);
  // Likewise on `disk`, which must outlive it.
  static std::unique_ptr<DeviceState> InFiles(Disk& disk, std::string directory);
  // In memory, for tests and simulation.
  static std::unique_ptr<DeviceState> InMemory();
  virtual ~DeviceState() = default;

  // What was kept last; nothing, if that was never or for another model. kDataLoss: what was kept
  // is damaged. kUnavailable: it cannot be read, with the reason.
  virtual Result<std::optional<DeviceRecord>> Find(const RecordKey& key) const = 0;
  // Durable when this returns; on failure what was kept before still is. kResourceExhausted: the
  // disk is full; kUnavailable.
  virtual Status Keep(const RecordKey& key, DeviceRecord record) = 0;
};

}  // namespace chorus::client
