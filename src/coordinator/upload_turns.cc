#include "coordinator/upload_turns.h"

namespace chorus::coordinator {
namespace {

constexpr Time kSlot{500};
// Of the bytes that came in one to two slots, those that come in the longest wait.
constexpr uint64_t kSoon = 4;

}  // namespace

void UploadTurns::Begin(uint64_t bytes, Time now) {
  const uint64_t half = bytes_at_a_time_ / 2;
  if (announced_ <= half && announced_ + bytes > half) full_since_ = now;
  announced_ += bytes;
}

void UploadTurns::Took(uint64_t bytes, Time now) {
  const Time slot = now - now % kSlot;
  if (slot != slot_) {
    before_slot_ = slot - slot_ == kSlot ? in_slot_ : 0;
    in_slot_ = 0;
    slot_ = slot;
  }
  in_slot_ += bytes;
  received_ += bytes;
}

uint64_t UploadTurns::Lately(Time now) const {
  const Time slot = now - now % kSlot;
  if (slot == slot_) return in_slot_ + before_slot_;
  return slot - slot_ == kSlot ? in_slot_ : 0;
}

bool UploadTurns::MayBegin(uint64_t bytes, Time now) const {
  if (announced_ == 0 || announced_ + bytes <= bytes_at_a_time_) return true;
  // At first there is no rate yet.
  return now - full_since_ >= kSlot && announced_ - received_ > Lately(now) / kSoon;
}

}  // namespace chorus::coordinator
