// A party's part in one round: what it agrees to, what it trains, what it lets out.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "aggregation/protocols.h"
#include "base/limits.h"
#include "chorus/aggregation.h"
#include "chorus/bytes.h"
#include "chorus/model.h"
#include "chorus/status.h"
#include "chorus/task.h"
#include "client/device_state.h"
#include "client/session.h"
#include "math/math.h"

namespace chorus::client {

// A task that the coordinator signed and this client agrees to.
struct AcceptedTask {
  TaskSpec spec;
  TaskId id{};
  Digest hash{};                           // SHA-256 of the task's bytes as signed
  math::FixedPoint encoding;               // that the task implies; its dim is the model's
  aggregation::CommitteeParams committee;  // of OneShot
  uint64_t published = 0;                  // numbers in the model that a round begins with
  // What the coordinator's parameters must agree with, but for the round and its model.
  aggregation::SessionParams expected;
};

// kUnauthenticated: not signed by the pinned coordinator. kPermissionDenied: against the player's
// policy, or a committee member is not one of this task. kInvalidArgument: the task cannot work, or
// this device's examples do not fit its model.
// kResourceExhausted: training needs more memory than allowed. Each in words for the player.
Result<AcceptedTask> AcceptTask(const SessionOptions& options, BytesView task,
                                const Signature& signature);

// No question to this party is longer.
uint64_t QuestionBytesMax(const SessionOptions& options);

// At most so many bytes are held at once while training this task and contributing to it.
uint64_t RoundBytes(const AcceptedTask& task, const Examples& examples);

// A model as it was received, its content checked against `sha256`.
struct Model {
  Digest sha256{};
  Weights weights;
  // aggregation::ModelHash of weights that are all finite, where one process plays many devices and
  // has worked it out for all of them. A device by itself leaves that to Permit.
  std::optional<Digest> model_hash = std::nullopt;
};

// A model on its way here, in pieces and in order. It outlives a lost session, so that what was
// received is not fetched again.
class ModelDownload {
 public:
  ModelDownload() = default;
  ModelDownload(const Digest& sha256, uint64_t dim) : model_{sha256, Weights(dim)} {}

  bool Of(const Digest& sha256, uint64_t dim) const {
    return model_.sha256 == sha256 && model_.weights.size() == dim;
  }
  const Digest& sha256() const { return model_.sha256; }
  uint64_t received() const { return received_; }  // bytes
  // How large a piece to ask for: a call holds several copies of one, and the allocator keeps what
  // they took. A sixteenth of the model keeps them to a byte or so a parameter.
  uint64_t piece_bytes() const {
    return std::clamp<uint64_t>(model_.weights.size() * sizeof(float) / 16, kPieceBytesMin,
                                limits::kChunkBytesMax);
  }
  bool whole() const { return received_ == model_.weights.size() * sizeof(float); }
  // The next piece. kInvalidArgument: a total or a size that cannot be; nothing has changed.
  Status Take(BytesView piece, uint64_t total_bytes);
  // The model, once whole. kDataLoss: its content is not what the digest promised.
  Result<Model> Finish() &&;

 private:
  // Smaller ones would only be more calls.
  static constexpr uint64_t kPieceBytesMin = uint64_t{256} << 10U;

  Model model_;
  uint64_t received_ = 0;
};

// How long a round of this task can take before nobody waits for it any more.
std::chrono::milliseconds LongestRound(const DeadlineSpec& deadlines);

// Random draws for `purpose` ("held-back", "training") in `round`: keyed afresh from the
// system's randomness, save that held-back examples are the same for the life of an identity; all
// from the experiment's seed when there is one.
std::unique_ptr<Rng> DrawsFor(const SessionOptions& options, std::string_view purpose,
                              uint64_t round);

// Use: Permit, Train, send Ready, then Answer for each question. Thread-compatible.
class Round {
 public:
  // What `options` points to must outlive the round.
  Round(const SessionOptions& options, AcceptedTask task, uint64_t number);
  // The same for a process that plays many devices, whose task is one: it must outlive the round.
  Round(const SessionOptions& options, const AcceptedTask* task, uint64_t number);
  ~Round();
  Round(const Round&) = delete;
  Round& operator=(const Round&) = delete;

  // Whether the ledger lets this round's session begin today. kPermissionDenied in words for the
  // player.
  Status PermitAttempt() const;
  // Whether the ledger lets this round's update be made from `model`. kPermissionDenied in words
  // for the player; kDataLoss: the model holds numbers that are not finite.
  Status Permit(const Model& model);
  // Trains on this device's examples, starting from `model`, and makes ready to contribute. What
  // the task keeps on the device is kept once the update leaves; a round that is lost before leaves
  // no trace. kCancelled; kDeadlineExceeded: it was not done by `until`, when nobody waits for it
  // any more; kAborted: training diverged; the failures of the host's trainer. Every
  // copy of the result but the contributor's is wiped, in the session's own `buffers` by whoever
  // has them.
  Status Train(const Model& model, Time until = Time::max());
  // What to send with the word that it is ready, once trained: the record of fresh pre-keys, with
  // which the keys step need not ask this client; of no bytes for plain.
  const Bytes& ready() const { return ready_; }
  // The answer to send to `question`. When it carries the update, the ledger has it on disk before
  // this returns. A failure ends the round: its code may be sent, nothing else.
  Result<SecretBytes> Answer(BytesView question);

  // In place of Permit and Train, of a committee member: makes ready to answer the committee's
  // questions. Its keys and its vote live in this object only.
  Status Attend();

  const AcceptedTask& task() const { return task_; }
  // Whether the ledger, not the protocol, made Answer fail.
  bool refused_by_ledger() const { return refused_by_ledger_; }
  // Whether an update was put into the ledger, so that it may have left this device; of a committee
  // member, whether it opened its shares.
  bool uploaded() const { return uploaded_; }
  // When Answer found that the coordinator had signed two rosters for this session: how keeping the
  // evidence went, which is on disk if ok.
  const std::optional<Status>& evidence_kept() const { return evidence_kept_; }
  // Whether every question of the protocol was answered.
  bool done() const { return contributor_ != nullptr && contributor_->done(); }

 private:
  Status KeepRecord();
  Status NoteUpload();
  Result<std::optional<DeviceRecord>> FindRecord() const;
  Result<RingVector> TrainAndEncode(const Model& model, Time until);
  Status NoteAttempt();
  Status BeginSession();
  void KeepEvidenceFound();

  const SessionOptions options_;
  const std::unique_ptr<const AcceptedTask> own_task_;  // unless it is another's
  const AcceptedTask& task_;
  const uint64_t number_;
  Digest model_hash_{};
  Bytes ready_;
  // Between training and the first question; holds the update and the pre-keys.
  std::unique_ptr<aggregation::ContributorOptions> prepared_;
  std::unique_ptr<Contributor> contributor_;
  std::optional<DeviceRecord> to_keep_;  // once the update leaves
  std::optional<aggregation::Equivocation> equivocation_;
  std::optional<Status> evidence_kept_;
  bool attempted_ = false;
  bool uploaded_ = false;
  bool refused_by_ledger_ = false;
};

}  // namespace chorus::client
