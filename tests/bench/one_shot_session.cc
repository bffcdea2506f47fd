#include "one_shot_session.h"

#include <algorithm>

#include "math/math.h"

namespace chorus::bench {
namespace {

constexpr uint32_t kMembers = 128;
constexpr PartyId kFirstMember = PartyId{1} << 32U;
// Parties whose questions and answers are on their way at a time.
constexpr size_t kInFlight = 4;

}  // namespace

OneShotSession::OneShotSession(const OneShotShape& shape)
    : shape_(shape),
      rng_(crypto::NewSystemRng()),
      signing_seed_(SeedOf(UINT64_MAX)),
      members_(kMembers),
      plain_sum_(shape.dim) {
  OneShotSpec task;
  task.gamma_members_ppm = 100'000;
  task.delta_members_ppm = 100'000;
  for (uint32_t j = 0; j < kMembers; ++j) {
    member_seeds_.push_back(SeedOf(kFirstMember + j));
    committee_ids_.push_back(crypto::Ed25519Public(member_seeds_[j].Reveal()));
  }
  for (uint32_t i = 0; i < shape.clients; ++i) client_seeds_.push_back(SeedOf(i));
  task.members = committee_ids_;
  params_.protocol = Protocol::kOneShot;
  params_.vec_len = shape.dim;
  params_.bits = static_cast<uint8_t>(shape.bits);
  params_.word_bytes = static_cast<uint8_t>(math::WordBytesFor(shape.bits));
  params_.bound = shape.bound;
  params_.n_min = shape.clients;
  params_.n_max = shape.clients;
  params_.gamma_ppm = 50'000;
  params_.a_min = 2;
  params_.coordinator_id = crypto::Ed25519Public(signing_seed_.Reveal());
  params_.committee = *aggregation::CommitteeOf(task);
}

Status OneShotSession::Begin() {
  for (uint32_t j = 0; j < kMembers; ++j) {
    aggregation::MemberOptions options;
    options.coordinator = params_.coordinator_id;
    options.expected = params_;
    options.committee_ids = committee_ids_;
    options.identity_seed = member_seeds_[j].Reveal();
    options.verifier = &verifier_;
    options.rng = rng_.get();
    const OnAccount on(members_[j].account);
    CHORUS_TRY_ASSIGN(members_[j].contributor, NewCommitteeMember(std::move(options)));
  }
  {
    const Charge charge(server_, costs_.step_seconds[0]);
    aggregation::AggregatorOptions options;
    options.params = params_;
    options.signing_seed = signing_seed_.Reveal();
    options.verifier = &verifier_;
    options.committee_ids = committee_ids_;
    for (PartyId i = 0; i < shape_.clients; ++i) options.parties.push_back(i);
    for (uint32_t j = 0; j < kMembers; ++j) options.committee.push_back({kFirstMember + j, j + 1});
    CHORUS_TRY_ASSIGN(aggregator_, NewAggregator(std::move(options)));
  }
  CHORUS_TRY(Ask());
  CHORUS_TRY(AskAll());
  return Ask();
}

Result<std::unique_ptr<Contributor>> OneShotSession::NewClient(PartyId client,
                                                               RingVector input) const {
  aggregation::ContributorOptions options;
  options.coordinator = params_.coordinator_id;
  options.expected = params_;
  options.honest_min = params_.a_min;
  options.identity_seed = client_seeds_[client].Reveal();
  options.verifier = &verifier_;
  options.rng = rng_.get();
  options.committee_ids = committee_ids_;
  options.input = std::move(input);
  return NewContributor(std::move(options));
}

Result<OneShotCosts> OneShotSession::Finish() {
  const double begin = WallSeconds();
  CHORUS_TRY(AskAll());
  while (!aggregator_->done()) {
    CHORUS_TRY(Ask());
    CHORUS_TRY(AskAll());
  }
  Result<Sum> sum = [this] {
    const Charge charge(server_, costs_.open_seconds);
    return aggregator_->Finish();
  }();
  if (!sum.ok()) return sum.status();
  costs_.wall_seconds = WallSeconds() - begin;
  costs_.server_bytes = server_.peak;
  for (const Member& member : members_) {
    costs_.member_seconds += member.seconds / kMembers;
    costs_.member_bytes = std::max(costs_.member_bytes, member.account.peak);
  }
  costs_.wrong_values = sum->contributors == shape_.clients ? WrongValues(*sum) : shape_.dim;
  return costs_;
}

RingVector OneShotSession::InputOf(PartyId client) const {
  RingVector input = math::ZeroVector(shape_.dim, shape_.bits);
  const uint64_t values = 2 * shape_.bound + 1;
  // Knuth's linear congruential generator: fast, and different for each client.
  uint64_t state = client + 1;
  for (uint64_t j = 0; j < shape_.dim; ++j) {
    state = state * 6'364'136'223'846'793'005U + 1'442'695'040'888'963'407U;
    const auto value = static_cast<int64_t>((state >> 33U) % values);
    math::SetSigned(input, j, value - static_cast<int64_t>(shape_.bound));
  }
  return input;
}

Status OneShotSession::Ask() {
  const Charge charge(server_, costs_.step_seconds[step_]);
  CHORUS_TRY_ASSIGN(const std::vector<chorus::Question> questions, aggregator_->Ask());
  asked_.clear();
  for (const chorus::Question& question : questions) asked_.push_back(question.to);
  return OkStatus();
}

Status OneShotSession::AskAll() {
  const std::span<const PartyId> asked(asked_);
  for (size_t i = 0; i < asked.size(); i += kInFlight) {
    CHORUS_TRY(Carry(asked.subspan(i, std::min(kInFlight, asked.size() - i))));
  }
  const Charge charge(server_, costs_.step_seconds[step_]);
  ++step_;
  return aggregator_->Close();
}

Status OneShotSession::Carry(std::span<const PartyId> parties) {
  std::vector<Exchange> exchanges(parties.size());
  for (size_t i = 0; i < parties.size(); ++i) {
    exchanges[i].party = parties[i];
    const Charge charge(server_, costs_.step_seconds[step_]);
    CHORUS_TRY_ASSIGN(exchanges[i].question, aggregator_->Body(parties[i]));
  }
  threads_.ParallelFor(exchanges.size(), [&](size_t i) {
    Exchange& exchange = exchanges[i];
    exchange.status =
        exchange.party >= kFirstMember ? AnswerAsMember(exchange) : AnswerAsClient(exchange);
  });
  for (const Exchange& exchange : exchanges) {
    CHORUS_TRY(exchange.status);
    if (exchange.party < kFirstMember) NoteClient(exchange);
    const Charge charge(server_, costs_.step_seconds[step_]);
    CHORUS_TRY(aggregator_->Hear(exchange.party, exchange.answer));
  }
  return OkStatus();
}

Status OneShotSession::AnswerAsClient(Exchange& exchange) const {
  exchange.input = InputOf(exchange.party);
  CHORUS_TRY_ASSIGN(const std::unique_ptr<Contributor> client,
                    NewClient(exchange.party, exchange.input));
  const double begin = CpuSeconds();
  CHORUS_TRY_ASSIGN(exchange.answer, client->Answer(exchange.question));
  exchange.seconds = CpuSeconds() - begin;
  return OkStatus();
}

Status OneShotSession::AnswerAsMember(Exchange& exchange) {
  Member& member = members_[exchange.party - kFirstMember];
  const Charge charge(member.account, member.seconds);
  CHORUS_TRY_ASSIGN(exchange.answer, member.contributor->Answer(exchange.question));
  return OkStatus();
}

void OneShotSession::NoteClient(const Exchange& exchange) {
  costs_.client_seconds += exchange.seconds / shape_.clients;
  costs_.bytes_up = exchange.answer.size();
  costs_.bytes_down = exchange.question.size();
  for (uint64_t j = 0; j < shape_.dim; ++j) {
    plain_sum_[j] += math::SignedAt(exchange.input, j, shape_.bits);
  }
}

uint64_t OneShotSession::WrongValues(const Sum& sum) const {
  uint64_t wrong = 0;
  for (uint64_t j = 0; j < shape_.dim; ++j) {
    wrong += math::SignedAt(sum.values, j, shape_.bits) == plain_sum_[j] ? 0 : 1;
  }
  return wrong;
}

}  // namespace chorus::bench
