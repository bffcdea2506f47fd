#include "session.h"

#include <algorithm>
#include <set>

#include "aggregation/secagg.h"
#include "base/codec.h"
#include "bench.h"
#include "crypto/crypto.h"
#include "math/math.h"
#include "memory.h"
#include "parties.h"
#include "raw_aes.h"

namespace chorus::bench {
namespace {

using aggregation::Index;
using aggregation::Step;

constexpr int kBits = 26;
constexpr uint64_t kBound = 32'767;  // the largest that 1,024 clients can add up in kBits
constexpr uint32_t kSelfSelectedMin = 160;
constexpr uint64_t kMillion = 1'000'000;
constexpr uint32_t kClientsBetweenAes = 16;

// The inputs: small enough for the bound, and such that their sum is told without adding them up.
int64_t OfClient(size_t client) { return static_cast<int64_t>(client % 64) - 32; }
int64_t OfPlace(uint64_t place) { return static_cast<int64_t>(place % 1'001) - 500; }

struct Party {
  Account& account = OpenAccount();
  double seconds = 0;
  uint64_t bytes_up = 0;
  uint64_t bytes_down = 0;
  Index index = 0;
  bool uploaded = false;
  std::vector<Index> edges;  // whom it shares a mask with
  SecretBytes identity;
  std::unique_ptr<Contributor> contributor;
};

class Session {
 public:
  explicit Session(const SessionShape& shape)
      : shape_(shape), signing_seed_(SeedOf(UINT64_MAX)), parties_(shape.clients) {
    params_.protocol = Protocol::kSecAgg;
    params_.mode = static_cast<uint8_t>(shape.graph);
    params_.vec_len = shape.dim;
    params_.bits = kBits;
    params_.word_bytes = static_cast<uint8_t>(math::WordBytesFor(kBits));
    params_.bound = kBound;
    params_.n_min = UploadsMin(shape);
    params_.n_max = shape.clients;
    params_.gamma_ppm = shape.gamma_ppm;
    params_.delta_ppm = shape.delta_ppm;
    params_.a_min = 1;
    params_.coordinator_id = crypto::Ed25519Public(signing_seed_.Reveal());
  }

  Result<SessionCosts> Run() {
    if (!CountsOpenSsl()) return FailedPrecondition("OpenSSL's memory is not counted");
    CHORUS_TRY_ASSIGN(costs_.sharing, aggregation::GraphFor(params_, shape_.clients));
    raw_aes_.push_back(RawAesSeconds());  // and OpenSSL has made what it keeps
    CHORUS_TRY(Begin());
    const std::span<const Step> steps = aggregation::Steps(Protocol::kSecAgg, shape_.graph);
    for (const Step step : steps) CHORUS_TRY(RunStep(step));
    CHORUS_TRY_ASSIGN(const Sum sum, Finish());
    for (int i = 0; i < 5; ++i) raw_aes_.push_back(RawAesSeconds());
    CHORUS_TRY(CheckSum(sum));
    return Costs();
  }

 private:
  Status Begin() {
    for (size_t i = 0; i < parties_.size(); ++i) {
      Party& party = parties_[i];
      party.identity = SeedOf(i);
      aggregation::ContributorOptions options;
      options.coordinator = params_.coordinator_id;
      options.expected = params_;
      options.honest_min = 1;
      options.identity_seed = party.identity.Reveal();
      options.verifier = &verifier_;
      options.rng = rng_.get();
      options.mask_path = shape_.path;
      {
        const OnAccount on(party.account);
        options.input = math::ZeroVector(shape_.dim, kBits);
      }
      for (uint64_t j = 0; j < shape_.dim; ++j) {
        math::SetSigned(options.input, j, OfClient(i) + OfPlace(j));
      }
      party.account.Rebase();
      const Charge charge(party.account, party.seconds);
      CHORUS_TRY_ASSIGN(party.contributor, NewContributor(std::move(options)));
    }
    aggregation::AggregatorOptions options;
    options.params = params_;
    options.signing_seed = signing_seed_.Reveal();
    options.verifier = &verifier_;
    options.mask_path = shape_.path;
    const Charge charge(server_, server_seconds_);
    for (size_t i = 0; i < parties_.size(); ++i) options.parties.push_back(i);
    CHORUS_TRY_ASSIGN(aggregator_, NewAggregator(std::move(options)));
    return OkStatus();
  }

  Status RunStep(Step step) {
    std::vector<PartyId> asked;
    {
      const Charge charge(server_, server_seconds_);
      CHORUS_TRY_ASSIGN(const std::vector<Question> questions, aggregator_->Ask());
      for (const Question& question : questions) asked.push_back(question.to);
    }
    for (const PartyId to : asked) {
      if (step == Step::kInput && IsDropped(to)) continue;
      CHORUS_TRY(Exchange(step, to));
      if (to % kClientsBetweenAes == 0) raw_aes_.push_back(RawAesSeconds());
    }
    costs_.unmask_seconds = -server_seconds_;  // until the last step's
    const Charge charge(server_, server_seconds_);
    return aggregator_->Close();
  }

  // Spread over the roster.
  bool IsDropped(size_t client) const {
    return (client + 1) * shape_.dropped / shape_.clients !=
           client * shape_.dropped / shape_.clients;
  }

  Status Exchange(Step step, PartyId to) {
    Party& party = parties_[to];
    Bytes question;
    {
      const Charge charge(server_, server_seconds_);
      CHORUS_TRY_ASSIGN(question, aggregator_->Body(to));
    }
    Bytes answer;
    {
      const Charge charge(party.account, party.seconds);
      CHORUS_TRY_ASSIGN(answer, party.contributor->Answer(question));
    }
    party.bytes_down += question.size();
    party.bytes_up += answer.size();
    {
      const Charge charge(server_, server_seconds_);
      CHORUS_TRY(aggregator_->Hear(to, answer));
    }
    Watch(step, party, question, answer);
    return OkStatus();
  }

  // Notes what tells how many masks the server will expand.
  void Watch(Step step, Party& party, BytesView question, BytesView answer) {
    const bool rostered = shape_.graph == SharingGraph::kSelfSelected ? step == Step::kNeighbours
                                                                      : step == Step::kShares;
    if (rostered) {
      Reader in(question);
      in.U32();  // n
      party.index = in.U32();
    }
    if (step != Step::kInput) return;
    party.uploaded = true;
    const uint64_t packed = math::PackedBytes(shape_.dim, kBits);
    const auto masked = aggregation::DecodeMasked(answer, shape_.clients, packed);
    if (!masked.ok()) return;
    for (const auto& [index, tag] : masked->edges) party.edges.push_back(index);
  }

  Result<Sum> Finish() {
    Result<Sum> sum = [this] {
      const Charge charge(server_, server_seconds_);
      return aggregator_->Finish();
    }();
    costs_.unmask_seconds += server_seconds_;
    return sum;
  }

  Status CheckSum(const Sum& sum) const {
    int64_t clients = 0;
    for (size_t i = 0; i < parties_.size(); ++i) clients += IsDropped(i) ? 0 : OfClient(i);
    const auto uploads = static_cast<int64_t>(shape_.clients - shape_.dropped);
    if (sum.contributors != uploads) return Internal("an upload is missing in the sum");
    for (uint64_t j = 0; j < shape_.dim; ++j) {
      if (math::SignedAt(sum.values, j, kBits) != clients + uploads * OfPlace(j)) {
        return Internal("the sum is wrong");
      }
    }
    return OkStatus();
  }

  SessionCosts Costs() {
    std::set<Index> dropped;
    for (const Party& party : parties_) {
      if (!party.uploaded) dropped.insert(party.index);
    }
    std::vector<double> seconds;
    std::vector<double> masks;
    std::vector<double> up;
    std::vector<double> down;
    for (const Party& party : parties_) {
      if (!party.uploaded) continue;
      costs_.server_masks += 1;
      for (const Index peer : party.edges) costs_.server_masks += dropped.contains(peer) ? 1 : 0;
      seconds.push_back(party.seconds);
      masks.push_back(1.0 + static_cast<double>(party.edges.size()));
      up.push_back(static_cast<double>(party.bytes_up));
      down.push_back(static_cast<double>(party.bytes_down));
      const size_t input = shape_.dim * params_.word_bytes;
      costs_.client_bytes = std::max(costs_.client_bytes, party.account.peak - input);
    }
    costs_.raw_aes_seconds = Median(raw_aes_);
    costs_.server_seconds = server_seconds_;
    costs_.client_seconds = Median(seconds);
    costs_.client_masks = Median(masks);
    costs_.server_bytes = server_.peak - shape_.dim * params_.word_bytes;
    costs_.bytes_up = Median(up);
    costs_.bytes_down = Median(down);
    costs_.packed_bytes = math::PackedBytes(shape_.dim, kBits);
    return costs_;
  }

  SessionShape shape_;
  aggregation::SessionParams params_;
  SecretBytes signing_seed_;
  AnyIdentity verifier_;
  std::unique_ptr<Rng> rng_ = crypto::NewSystemRng();
  std::vector<Party> parties_;
  Account& server_ = OpenAccount();
  double server_seconds_ = 0;
  std::unique_ptr<Aggregator> aggregator_;
  std::vector<double> raw_aes_;
  SessionCosts costs_;
};

}  // namespace

uint32_t UploadsMin(const SessionShape& shape) {
  const auto dropouts =
      static_cast<uint32_t>((uint64_t{shape.clients} * shape.delta_ppm + kMillion - 1) / kMillion);
  const uint32_t left = shape.clients - dropouts;
  return shape.graph == SharingGraph::kSelfSelected ? std::max(left, kSelfSelectedMin) : left;
}

Result<SessionCosts> RunSession(const SessionShape& shape) { return Session(shape).Run(); }

}  // namespace chorus::bench
