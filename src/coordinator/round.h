// One round, from the invitations to the sum, as a pure machine over time: it is told what parties
// answered and what time it is, and says whom to ask what. Also the parameters of its session.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "aggregation/protocols.h"
#include "base/parallel.h"
#include "base/pieces.h"
#include "base/random.h"
#include "chorus/aggregation.h"
#include "chorus/bytes.h"
#include "chorus/host.h"
#include "chorus/model.h"
#include "chorus/status.h"
#include "chorus/store.h"
#include "chorus/task.h"

namespace chorus::coordinator {

// The parameters of one round's session, but for the nonce. The client computes the same from the
// task and the model that it was sent, and compares.
struct SessionSubject {
  const TaskSpec& task;  // valid
  BytesView task_bytes;  // as signed
  std::span<const float> weights;
  uint64_t round = 0;
};
Result<aggregation::SessionParams> SessionParamsFor(const SessionSubject& subject);

// How long each step may take, training first; no longer than the task says in any case.
std::vector<Time> StepDeadlines(const TaskSpec& task);

// What a round keeps to within the task's deadlines (tempo.h).
struct StepLimits {
  std::vector<Time> at_most = {};  // [steps], training first; none: as the task says
  bool fitted = false;             // some of them are below the task's
  bool patient = false;            // no step closes before its deadline while somebody may answer
};

struct RoundOptions {
  const TaskSpec* task = nullptr;  // must outlive the round, as signing_seed and verifier
  aggregation::SessionParams params;
  BytesView signing_seed;
  const IdentityVerifier* verifier = nullptr;
  const Clock* clock = nullptr;                // the age of session keys; must outlive the round
  aggregation::SeenKeys* seen_keys = nullptr;  // of all sessions; must outlive the round
  Executor* executor = nullptr;                // for unmasking; null: on the caller's thread
  std::vector<PartyId> invited;                // distinct clients
  // Of OneShot: the members that are there, who are no clients; invited like those.
  std::vector<aggregation::CommitteeMember> committee = {};
  StepLimits limits = {};
};

// The longest answer to an invitation: none, or under SecAgg a record of pre-keys.
uint64_t ReadyBytesMax(const TaskSpec& task);

// A step that has ended: the training first, then the protocol's.
struct ClosedStep {
  std::string_view name;
  uint32_t cohort = 1;  // of the round
  uint32_t asked = 0;
  uint32_t answered = 0;
  size_t index = 0;             // among the round's steps, training being 0
  uint32_t silent = 0;          // neither answered nor left
  std::vector<Time> took = {};  // [answered]: from the question to the answer
  bool fitted = false;          // as the round's limits
  bool patient = false;
  bool before_upload = false;  // clients were asked for their input or something before it
};

// What happened since it was last taken.
struct RoundNews {
  std::vector<Question> questions;
  std::vector<PartyId> lost;  // out of the round for not answering, or no longer asked
  std::vector<ClosedStep> closed;
};

// A step that is open.
struct Step {
  std::set<PartyId> pending;  // asked, still in the round and not heard
  uint32_t asked = 0;
  uint32_t answered = 0;
  uint32_t declined = 0;
  Time began{};
  Time deadline{};
  std::vector<Time> took;           // [answered] so far as Advance has seen them
  std::optional<Time> hedge_until;  // set once nearly all have answered
};
// How far a step is.
struct StepProgress {
  std::string_view name;  // empty: no step is open
  uint32_t asked = 0;
  uint32_t answered = 0;
};
// The phases of a round; each owns what it needs, so leaving it lets that go.
struct Training {
  Step step;
  std::vector<PartyId> ready;
  std::vector<aggregation::PreKey> prekeys;  // of some who are ready
};
struct Aggregating {
  std::unique_ptr<Aggregator> aggregator;
  Step step;
  size_t index = 0;  // of the protocol's steps
};
struct Ended {
  Result<Sum> outcome;
};

// Thread-compatible.
class Round {
 public:
  Round(RoundOptions options, Time now);

  // Takes an answer: to the invitation of no bytes or, under SecAgg, a record of pre-keys, which is
  // judged when the protocol begins; then the protocol's. A failure is what to tell
  // its sender, who is then out of the round. kFailedPrecondition: not asked in this step, or
  // answered already.
  Status Hear(PartyId from, Pieces answer);
  // Another answer of a party that was heard in this step. It changes nothing, but two signed
  // answers that differ are proof against their sender.
  void HearAgain(PartyId from, Pieces answer);
  // What to ask a party of RoundNews::questions; kNotFound once its step is over or it has
  // answered.
  Result<Bytes> Body(PartyId to);
  // The party will not answer: it declined, its session ended, or it failed. The step does not
  // wait for it. Of a party that is not in the round: no effect.
  enum class Departure : uint8_t { kDeclined, kFailed };
  void Leave(PartyId party, Departure departure);
  // Does what is due by `now`. Call it after every Hear and Leave, and at NextTick().
  void Advance(Time now);
  // Whether Advance would open the sum, which may take long.
  bool OpensBy(Time now) const;
  Time NextTick() const;  // Time::max() once ended
  // Moves the open step's deadline: for so long nobody could be heard.
  void Postpone(Time by);

  RoundNews TakeNews() { return std::exchange(news_, {}); }
  std::string_view step() const;  // the open step's name; empty once ended
  StepProgress progress() const;  // of the open step
  // Null while the round goes on; then its sum, or why there is none.
  Result<Sum>* outcome();
  bool Contributed(PartyId party) const { return contributed_.contains(party); }

  uint32_t declined() const { return declined_; }
  const std::vector<uint32_t>& dropouts() const { return dropouts_; }  // of the closed steps
  // What was found against parties.
  std::vector<aggregation::Blame> TakeBlame() { return std::exchange(*blame_, {}); }

 private:
  using Phase = std::variant<Training, Aggregating, Ended>;

  Step* OpenStep();
  const Step* OpenStep() const;
  static bool IsOver(const Step& step, Time now);
  void Close(Step& step);
  Phase AfterTraining(Training& training, Time now);
  Phase AfterStep(Aggregating& aggregating, Time now);
  Result<Step> AskStep(Aggregator& aggregator, size_t index, Time now);
  bool GivesToTheSum(size_t index) const;
  bool BeforeUpload() const;
  Time LimitOf(size_t index) const;
  bool AsksTheCommittee(size_t index) const;
  Result<std::unique_ptr<Aggregator>> NewSession(Training& training);

  RoundOptions options_;
  std::set<PartyId> committee_;    // those invited
  std::set<PartyId> parties_;      // clients and members still in the round
  std::set<PartyId> contributed_;  // heard in the step that carries the input, or opens the sum
  uint32_t declined_ = 0;
  std::vector<uint32_t> dropouts_;
  RoundNews news_;
  // Where the aggregator finds it, wherever the round is moved.
  std::unique_ptr<std::vector<aggregation::Blame>> blame_;
  Phase phase_;
};

}  // namespace chorus::coordinator
