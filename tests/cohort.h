// A whole secure sum in memory: one aggregator, many contributors, and hooks where a test drops,
// changes or watches messages. Everything follows from a seed.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "aggregation/protocols.h"
#include "aggregation/secagg.h"
#include "base/codec.h"
#include "crypto/crypto.h"
#include "math/math.h"

namespace chorus::aggregation {

// Certifies everybody but those named.
class ListVerifier final : public IdentityVerifier {
 public:
  Result<Identity> Verify(const PublicKey& key, BytesView) const override {
    if (refused.contains(key)) return Unauthenticated("not certified");
    return Identity{};
  }
  std::set<PublicKey> refused;
};

struct CohortShape {
  Protocol protocol = Protocol::kSecAgg;
  SharingGraph graph = SharingGraph::kComplete;
  uint32_t clients = 5;
  uint64_t dim = 8;
  int bits = 21;
  uint64_t bound = 1000;
  uint32_t minimum = 3;
  uint32_t gamma_ppm = 50'000;
  uint32_t delta_ppm = 100'000;
  // Of OneShot.
  OneShotSet set = OneShotSet::kOsa4096;
  uint32_t members = 7;
  uint32_t gamma_members_ppm = 0;
  uint32_t delta_members_ppm = 0;
};

// A message under way: which step of the protocol (0-based), which client, or which member of
// OneShot's committee (0-based too).
struct Where {
  size_t step = 0;
  size_t client = 0;
  bool of_committee = false;
};

class Cohort {
 public:
  static constexpr PartyId kFirstParty = 100;
  static constexpr PartyId kFirstMember = 1'000'000;

  explicit Cohort(uint64_t seed, CohortShape shape = {}) : shape_(shape), seed_(seed) {
    signing_seed = Secret("coordinator", 0);
    coordinator = crypto::Ed25519Public(signing_seed.Reveal());
    if (shape.protocol == Protocol::kOneShot) {
      for (size_t j = 0; j < shape.members; ++j) {
        member_identities.push_back(Secret("member", j));
        committee_ids.push_back(crypto::Ed25519Public(member_identities[j].Reveal()));
        member_rngs.push_back(crypto::NewSeededRng(Secret("member keys", j).Reveal()));
      }
    }
    params = Params();
    for (size_t j = 0; j < committee_ids.size(); ++j) {
      committee.push_back(*NewCommitteeMember(MemberOptionsFor(j)));
    }
    for (size_t i = 0; i < shape.clients; ++i) {
      identities.push_back(Secret("identity", i));
      rngs.push_back(crypto::NewSeededRng(Secret("keys", i).Reveal()));
      inputs.push_back(Input(i));
      contributors.push_back(*NewContributor(OptionsFor(i)));
    }
  }

  // The client answers nothing from `from_step` on.
  void DropOut(size_t client, size_t from_step) { drops_[client] = from_step; }

  void DropOutMember(size_t member, size_t from_step) { member_drops_[member] = from_step; }

  // Hooks; the body may be changed. `on_question` returning false loses the message.
  std::function<bool(Where, Bytes&)> on_question = [](Where, Bytes&) { return true; };
  std::function<bool(Where, Bytes&)> on_answer = [](Where, Bytes&) { return true; };
  // Order in which answers arrive: given the answerers, reorders them.
  std::function<void(std::vector<size_t>&)> arrival = [](std::vector<size_t>&) {};
  // After an answer was heard, while its step is open.
  std::function<void(Where, BytesView)> on_heard = [](Where, BytesView) {};

  Result<Sum> Run() {
    CHORUS_TRY(Begin());
    const auto mode = static_cast<SharingGraph>(params.mode);
    for (size_t row = 0; row < Steps(params.protocol, mode).size(); ++row) CHORUS_TRY(Step());
    return aggregator->Finish();
  }

  Status Begin() {
    AggregatorOptions options;
    options.params = params;
    options.signing_seed = signing_seed.Reveal();
    options.verifier = &verifier;
    options.blame = &blame;
    options.seen_keys = seen_keys;
    options.mask_path = mask_path;
    options.prekeys = prekeys;
    options.unix_now = unix_now;
    for (size_t i = 0; i < shape_.clients; ++i) options.parties.push_back(kFirstParty + i);
    options.committee_ids = committee_ids;
    for (uint32_t j = 0; j < committee_ids.size(); ++j) {
      if (!absent_members.contains(j)) options.committee.push_back({kFirstMember + j, j + 1});
    }
    CHORUS_TRY_ASSIGN(aggregator, NewAggregator(std::move(options)));
    return OkStatus();
  }

  Status Step() {
    CHORUS_TRY_ASSIGN(std::vector<Question> questions, aggregator->Ask());
    std::map<size_t, Bytes> answers;
    std::vector<size_t> order;
    bool of_committee = false;  // of all who are asked in this step
    for (const Question& question : questions) {
      of_committee = question.to >= kFirstMember;
      const size_t client = question.to - (of_committee ? kFirstMember : kFirstParty);
      const Where where{step, client, of_committee};
      std::map<size_t, size_t>& drops = of_committee ? member_drops_ : drops_;
      if (!of_committee) answer_bytes_max[client] = question.answer_bytes_max;
      if (drops.contains(client) && drops[client] <= step) continue;
      CHORUS_TRY_ASSIGN(Bytes body, aggregator->Body(question.to));
      if (question.to == kFirstMember || question.to == kFirstParty) first_question[step] = body;
      if (!on_question(where, body)) continue;
      Result<Bytes> answer = Of(question.to).Answer(body);
      (of_committee ? member_status : client_status)[client] = answer.status();
      if (!answer.ok() || !on_answer(where, *answer)) continue;
      answers[client] = *std::move(answer);
      order.push_back(client);
    }
    arrival(order);
    for (const size_t client : order) {
      const PartyId party = (of_committee ? kFirstMember : kFirstParty) + client;
      const BytesView answer = answers[client];
      // Every second answer comes in pieces, as from a network.
      const size_t cut = answer.size() / 3;
      const std::array<BytesView, 3> pieces = {answer.first(cut), answer.subspan(cut, cut / 2),
                                               answer.subspan(cut + cut / 2)};
      (of_committee ? member_hear_status : hear_status)[client] =
          client % 2 == 0 ? aggregator->Hear(party, answer) : aggregator->HearPieces(party, pieces);
      on_heard({step, client, of_committee}, answers[client]);
    }
    ++step;
    return aggregator->Close();
  }

  // The exact sum over `clients`, reduced to the ring.
  std::vector<int64_t> Expected(const std::set<size_t>& clients) const {
    std::vector<int64_t> sum(shape_.dim, 0);
    for (const size_t client : clients) {
      for (uint64_t j = 0; j < shape_.dim; ++j) sum[j] += inputs[client][j];
    }
    return sum;
  }

  std::vector<int64_t> Values(const Sum& sum) const {
    std::vector<int64_t> values;
    for (uint64_t j = 0; j < shape_.dim; ++j) {
      values.push_back(math::SignedAt(sum.values, j, shape_.bits));
    }
    return values;
  }

  ContributorOptions OptionsFor(size_t client) {
    ContributorOptions options;
    options.coordinator = coordinator;
    options.expected = params;
    options.honest_min = 1;
    options.identity_seed = identities[client].Reveal();
    options.evidence = {1, 2, 3};
    options.verifier = &verifier;
    options.rng = rngs[client].get();
    options.committee_ids = committee_ids;
    options.unix_now = unix_now;
    options.input = math::ZeroVector(shape_.dim, shape_.bits);
    for (uint64_t j = 0; j < shape_.dim; ++j) {
      math::SetSigned(options.input, j, inputs[client][j]);
    }
    return options;
  }

  MemberOptions MemberOptionsFor(size_t member) {
    MemberOptions options;
    options.coordinator = coordinator;
    options.expected = params;
    options.committee_ids = committee_ids;
    options.identity_seed = member_identities[member].Reveal();
    options.verifier = &verifier;
    options.rng = member_rngs[member].get();
    return options;
  }

  // The party's side of the session.
  Contributor& Of(PartyId party) {
    if (party >= kFirstMember) return *committee[party - kFirstMember];
    return *contributors[party - kFirstParty];
  }

  SecretBytes Secret(std::string_view tag, uint64_t index) const {
    const Digest digest =
        crypto::LabeledHash("CHORUS1/test", {ViewOf(tag), Writer().U64(seed_).U64(index).view()});
    return SecretBytes(Bytes(digest.begin(), digest.end()));
  }

  SecretBytes signing_seed;
  PublicKey coordinator{};
  SessionParams params;
  ListVerifier verifier;
  std::vector<SecretBytes> identities;
  std::vector<std::unique_ptr<Rng>> rngs;
  std::vector<std::vector<int64_t>> inputs;  // [clients × dim]
  std::vector<std::unique_ptr<Contributor>> contributors;
  std::unique_ptr<Aggregator> aggregator;
  size_t step = 0;
  std::map<size_t, Bytes> first_question;  // by step: the first client's, or first member's
  std::map<size_t, Status> client_status;  // of each client's last answer
  std::map<size_t, Status> hear_status;    // what the aggregator said to it
  std::map<size_t, uint64_t> answer_bytes_max;
  std::vector<SecretBytes> member_identities;  // of OneShot's committee, as what follows
  std::vector<std::unique_ptr<Rng>> member_rngs;
  std::vector<PublicKey> committee_ids;
  std::vector<std::unique_ptr<Contributor>> committee;
  std::set<uint32_t> absent_members;  // the aggregator is not told of them
  std::map<size_t, Status> member_status;
  std::map<size_t, Status> member_hear_status;
  std::vector<Blame> blame;
  SeenKeys* seen_keys = nullptr;                           // the aggregator's
  crypto::MaskPath mask_path = crypto::FastestMaskPath();  // likewise
  std::vector<PreKey> prekeys;  // what the aggregator has of its parties before it asks
  int64_t unix_now = 0;         // by every clock

 private:
  SessionParams Params() const {
    SessionParams p;
    p.protocol = shape_.protocol;
    p.mode = static_cast<uint8_t>(shape_.graph);
    p.round = 7;
    p.vec_len = shape_.dim;
    p.bits = static_cast<uint8_t>(shape_.bits);
    p.word_bytes = static_cast<uint8_t>(math::WordBytesFor(shape_.bits));
    p.bound = shape_.bound;
    p.n_min = shape_.minimum;
    p.n_max = std::max(shape_.clients, shape_.minimum);
    p.gamma_ppm = shape_.gamma_ppm;
    p.delta_ppm = shape_.delta_ppm;
    p.a_min = shape_.protocol == Protocol::kOneShot ? 2 : 1;
    p.model_hash = crypto::Sha256(ViewOf("model"));
    p.task_hash = crypto::Sha256(ViewOf("task"));
    p.nonce = crypto::Sha256(Writer().U64(seed_).view());
    p.coordinator_id = coordinator;
    if (shape_.protocol == Protocol::kOneShot) {
      OneShotSpec task;
      task.set = shape_.set;
      task.members = committee_ids;
      task.gamma_members_ppm = shape_.gamma_members_ppm;
      task.delta_members_ppm = shape_.delta_members_ppm;
      p.committee = *CommitteeOf(task);
    }
    return p;
  }

  std::vector<int64_t> Input(size_t client) const {
    const std::unique_ptr<Rng> rng = crypto::NewSeededRng(Secret("input", client).Reveal());
    std::vector<int64_t> input;
    const uint64_t span = 2 * shape_.bound + 1;
    for (uint64_t j = 0; j < shape_.dim; ++j) {
      input.push_back(static_cast<int64_t>(UniformBelow(*rng, span)) -
                      static_cast<int64_t>(shape_.bound));
    }
    return input;
  }

  CohortShape shape_;
  uint64_t seed_;
  std::map<size_t, size_t> drops_;
  std::map<size_t, size_t> member_drops_;
};

}  // namespace chorus::aggregation
