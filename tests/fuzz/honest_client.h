// The honest side of the sessions that an aggregator is tried with.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "cohort.h"
#include "fuzz.h"

namespace chorus::aggregation {

inline constexpr int64_t kNow = 1'800'000'000;
inline constexpr int64_t kHour = 3'600;

// A cohort that can spare two: k = 6 and t = 4 in every graph, by the tables of
// small_graph_tables.cc. The bound leaves sums nearly the whole ring, so that a wrong one is not
// refused for its range alone.
inline CohortShape ShapeOf(SharingGraph graph) {
  const bool complete = graph == SharingGraph::kComplete;
  CohortShape shape{.graph = graph, .clients = complete ? 7U : 14U, .dim = 5, .bits = 21};
  shape.bound = ((uint64_t{1} << 20U) - 1) / shape.clients;
  shape.minimum = complete ? 4 : 8;
  shape.gamma_ppm = 50'000;
  shape.delta_ppm = complete ? 150'000 : 100'000;
  return shape;
}

// Its keys and inputs, which are the same in every session.
inline const Cohort& CohortOf(SharingGraph graph) {
  static const Cohort complete(11, ShapeOf(SharingGraph::kComplete));
  static const Cohort self_selected(12, ShapeOf(SharingGraph::kSelfSelected));
  static const Cohort harary(13, ShapeOf(SharingGraph::kHarary));
  if (graph == SharingGraph::kSelfSelected) return self_selected;
  return graph == SharingGraph::kHarary ? harary : complete;
}

// One honest client in one session. It is a function of the questions it was asked, which the
// fuzzer repeats over and over, so answers are kept from session to session, and a contributor
// works only when a question is new.
class HonestClient {
 public:
  struct Is {
    SharingGraph graph = SharingGraph::kComplete;
    uint8_t number = 0;
    bool has_prekeys = false;
  };
  explicit HonestClient(Is is) : is_(is) {
    const uint8_t who[] = {static_cast<uint8_t>(is.graph), is.number, is.has_prekeys};
    history_.assign(std::begin(who), std::end(who));
  }

  // What it sends ahead of the session.
  Bytes Record() const {
    static std::map<uint32_t, Bytes> known;
    Bytes& record = known[static_cast<uint32_t>(is_.graph) << 8U | is_.number];
    if (record.empty()) record = NewPreKeys(*NewRng()).record;
    return record;
  }

  Result<Bytes> Answer(Bytes question) {
    static std::map<Digest, Result<Bytes>> known;
    const Digest content = crypto::Sha256(question);
    questions_.push_back(std::move(question));
    history_.insert(history_.end(), content.begin(), content.end());
    const Digest key = crypto::Sha256(history_);
    if (const auto found = known.find(key); found != known.end()) return found->second;
    if (known.size() >= kKnownMax) known.clear();
    if (contributor_ == nullptr) Begin();
    Result<Bytes> answer = Bytes();
    for (; answered_ < questions_.size(); ++answered_) {
      answer = contributor_->Answer(questions_[answered_]);
    }
    known.emplace(key, answer);
    return answer;
  }

 private:
  static constexpr size_t kKnownMax = 60'000;  // answers of about a kilobyte
  const Cohort& cohort() const { return CohortOf(is_.graph); }

  std::unique_ptr<Rng> NewRng() const {
    return crypto::NewSeededRng(cohort().Secret("keys", is_.number).Reveal());
  }
  PreKeys NewPreKeys(Rng& rng) const {
    const Bytes evidence = {1, 2, 3};
    auto made =
        MakePreKeys({cohort().identities[is_.number].Reveal(), evidence, kNow + kHour}, rng);
    fuzz::Require(made.ok(), "pre-keys are made");
    return *std::move(made);
  }

  void Begin() {
    rng_ = NewRng();
    ContributorOptions options;
    options.coordinator = cohort().coordinator;
    options.expected = cohort().params;
    options.honest_min = 1;
    options.identity_seed = cohort().identities[is_.number].Reveal();
    options.evidence = {1, 2, 3};
    options.verifier = &cohort().verifier;
    options.rng = rng_.get();
    options.unix_now = kNow;
    if (is_.has_prekeys) options.prekeys = NewPreKeys(*rng_);
    const std::vector<int64_t>& input = cohort().inputs[is_.number];
    options.input = math::ZeroVector(input.size(), cohort().params.bits);
    for (size_t j = 0; j < input.size(); ++j) math::SetSigned(options.input, j, input[j]);
    auto made = NewContributor(std::move(options));
    fuzz::Require(made.ok(), "a contributor is made");
    contributor_ = *std::move(made);
  }

  Is is_;
  Bytes history_;  // who it is, and digests of the questions
  std::vector<Bytes> questions_;
  std::unique_ptr<Rng> rng_;
  std::unique_ptr<Contributor> contributor_;
  size_t answered_ = 0;  // questions that the contributor has seen
};

}  // namespace chorus::aggregation
