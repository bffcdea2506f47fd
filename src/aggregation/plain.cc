// The plain protocol: one step, the encoded update in the clear under TLS. The coordinator reads
// every contribution; a client takes part only when its own policy says so. It shares parameters,
// encoding and sum with every other protocol.
#include <algorithm>
#include <map>
#include <span>
#include <utility>

#include "aggregation/secagg.h"
#include "base/codec.h"
#include "base/pieces.h"
#include "crypto/crypto.h"

namespace chorus::aggregation {
namespace {

constexpr size_t kSid0Bytes = sizeof(Digest);

class PlainAggregator final : public Aggregator {
 public:
  explicit PlainAggregator(AggregatorOptions options)
      : params_(options.params),
        offer_(MakeOffer(options.params, options.signing_seed)),
        sum_(math::ZeroVector(options.params.vec_len, options.params.bits)) {
    const BytesView params_bytes = BytesView(offer_).first(kSessionParamsBytes);
    sid0_ = crypto::LabeledHash("CHORUS1/sid0", {params_bytes});
    for (const PartyId party : options.parties) heard_[party] = false;
  }

  Result<std::vector<Question>> Ask() override {
    if (phase_ != Phase::kReady) return FailedPrecondition("this sum has asked already");
    phase_ = Phase::kAsked;
    std::vector<Question> questions;
    const uint64_t answer = kSid0Bytes + math::PackedBytes(params_.vec_len, params_.bits);
    for (const auto& [party, heard] : heard_) questions.push_back({party, answer});
    return questions;
  }

  Result<Bytes> Body(PartyId to) override {
    const auto found = heard_.find(to);
    if (phase_ != Phase::kAsked || found == heard_.end() || found->second) {
      return NotFound("nothing is asked of this party in this step");
    }
    return offer_;
  }

  Status HearPieces(PartyId from, Pieces answer) override {
    const auto found = heard_.find(from);
    if (phase_ != Phase::kAsked || found == heard_.end()) {
      return NotFound("this party was not asked in this step");
    }
    if (found->second) return AlreadyExists("this party's answer was heard before");
    if (!std::ranges::equal(Join(Cut(answer, 0, kSid0Bytes)), sid0_)) {
      return InvalidArgument("the contribution belongs to another session");
    }
    CHORUS_TRY(math::AddPackedPieces(sum_, Cut(answer, kSid0Bytes, SizeOf(answer)), params_.bits));
    found->second = true;
    ++contributors_;
    return OkStatus();
  }

  Status Close() override {
    if (phase_ != Phase::kAsked) return FailedPrecondition("nothing was asked");
    phase_ = contributors_ < params_.n_min ? Phase::kSpent : Phase::kDone;
    if (phase_ == Phase::kSpent) return Aborted("too few clients contributed");
    return OkStatus();
  }

  bool done() const override { return phase_ == Phase::kDone; }

  Result<Sum> Finish() override {
    if (phase_ != Phase::kDone) return FailedPrecondition("there is no sum to open");
    phase_ = Phase::kSpent;
    math::ReduceBits(sum_, params_.bits);
    Sum sum{std::move(sum_), contributors_};
    CHORUS_TRY(CheckSumRange(params_, sum));
    return sum;
  }

 private:
  enum class Phase : uint8_t { kReady, kAsked, kDone, kSpent };

  SessionParams params_;
  Bytes offer_;
  Digest sid0_{};
  RingVector sum_;
  std::map<PartyId, bool> heard_;
  uint32_t contributors_ = 0;
  Phase phase_ = Phase::kReady;
};

class PlainContributor final : public Contributor {
 public:
  explicit PlainContributor(ContributorOptions options) : options_(std::move(options)) {}
  ~PlainContributor() override { math::WipeVector(options_.input); }

  Result<Bytes> Answer(BytesView question) override {
    if (done_) return FailedPrecondition("this session has ended");
    done_ = true;
    Result<AcceptedOffer> offer = AcceptOffer(options_, question);
    if (offer.ok()) {
      const int bits = offer->params.bits;
      Bytes answer(kSid0Bytes + math::PackedBytes(math::DimOf(options_.input), bits));
      std::ranges::copy(offer->sid0, answer.begin());
      math::PackInto(options_.input, bits, std::span(answer).subspan(kSid0Bytes));
      ForgetInput();
      uploaded_ = true;
      return answer;
    }
    ForgetInput();
    return offer.status();
  }

  bool uploaded() const override { return uploaded_; }
  bool done() const override { return done_; }

 private:
  void ForgetInput() {
    RingVector spent = std::exchange(options_.input, RingVector());
    if (options_.spent != nullptr) {
      *options_.spent = std::move(spent);
    } else {
      math::WipeVector(spent);
    }
  }

  ContributorOptions options_;
  bool uploaded_ = false;
  bool done_ = false;
};

}  // namespace

Result<std::unique_ptr<Aggregator>> NewPlainAggregator(AggregatorOptions options) {
  return std::unique_ptr<Aggregator>(std::make_unique<PlainAggregator>(std::move(options)));
}

std::unique_ptr<Contributor> NewPlainContributor(ContributorOptions options) {
  return std::make_unique<PlainContributor>(std::move(options));
}

}  // namespace chorus::aggregation
