// The honest side of the sessions of OneShot that a server or a party is tried with, and the
// contributions of clients who are not.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "fuzz.h"
#include "one_shot_adversary.h"

namespace chorus::aggregation {

inline constexpr uint32_t kFewestClients = 4;
inline constexpr uint32_t kMostClients = 6;

// How many there are of each: four or seven helper servers.
struct Size {
  uint32_t clients = kFewestClients;
  uint32_t members = 4;
};

// Its keys and inputs, which are the same in every session. The bound leaves sums nearly the whole
// ring, so that a wrong one is not refused for its range alone. A wrong sum of keys passes for
// right when the errors of all coefficients happen to be small, by at most 225 in 2^14 each: never
// with twelve of them.
inline constexpr uint64_t kDim = 47;  // four fields to a coefficient, the last one not full
inline Cohort& CohortOf(Size size) {
  static std::map<uint32_t, std::unique_ptr<Cohort>> known;
  std::unique_ptr<Cohort>& cohort = known[size.members << 8U | size.clients];
  if (cohort == nullptr) {
    CohortShape shape = Shape(size.clients);
    shape.dim = kDim;
    shape.bound = ((uint64_t{1} << 20U) - 1) / size.clients;
    shape.members = size.members;
    cohort = std::make_unique<Cohort>(21, shape);
  }
  return *cohort;
}

inline std::unique_ptr<Rng> RngOf(const Cohort& cohort, std::string_view tag, size_t party) {
  return crypto::NewSeededRng(cohort.Secret(tag, party).Reveal());
}

// One honest client or member in one session. It is a function of the questions it was asked, which
// the fuzzer repeats over and over, so answers are kept from session to session, and a party works
// only when a question is new.
class HonestParty {
 public:
  struct Is {
    Size size;
    bool member = false;
    size_t number = 0;
  };
  explicit HonestParty(Is is) : is_(is) {
    history_ = {static_cast<uint8_t>(is.size.clients), static_cast<uint8_t>(is.size.members),
                static_cast<uint8_t>(is.member), static_cast<uint8_t>(is.number)};
  }

  Result<Bytes> Answer(Bytes question) {
    static std::map<Digest, Result<Bytes>> known;
    const Digest content = crypto::Sha256(question);
    questions_.push_back(std::move(question));
    history_.insert(history_.end(), content.begin(), content.end());
    const Digest key = crypto::Sha256(history_);
    if (const auto found = known.find(key); found != known.end()) return found->second;
    if (known.size() >= kKnownMax) known.clear();
    if (party_ == nullptr) Begin();
    Result<Bytes> answer = Bytes();
    for (; answered_ < questions_.size(); ++answered_) {
      answer = party_->Answer(questions_[answered_]);
    }
    known.emplace(key, answer);
    return answer;
  }

 private:
  static constexpr size_t kKnownMax = 3'000;  // answers of up to sixty kilobytes

  void Begin() {
    Cohort& cohort = CohortOf(is_.size);
    rng_ = RngOf(cohort, is_.member ? "member keys" : "keys", is_.number);
    if (is_.member) {
      MemberOptions options = cohort.MemberOptionsFor(is_.number);
      options.rng = rng_.get();
      party_ = *NewCommitteeMember(std::move(options));
    } else {
      ContributorOptions options = cohort.OptionsFor(is_.number);
      options.rng = rng_.get();
      party_ = *NewContributor(std::move(options));
    }
  }

  Is is_;
  Bytes history_;  // who it is, and digests of the questions
  std::vector<Bytes> questions_;
  std::unique_ptr<Rng> rng_;
  std::unique_ptr<Contributor> party_;
  size_t answered_ = 0;  // questions that the party has seen
};

// The same for the same arguments, whatever was asked before.
inline Bytes LyingContributionOf(Size size, size_t client, BytesView question, const Lie& lie) {
  Cohort& cohort = CohortOf(size);
  cohort.rngs[client] = RngOf(cohort, "lying shares", client);
  return LyingContribution(cohort, client, question, lie);
}

}  // namespace chorus::aggregation
