#include "coordinator/party.h"

#include <algorithm>
#include <array>
#include <string>

#include "base/codec.h"
#include "base/limits.h"

namespace chorus::coordinator {
namespace {

constexpr size_t kChallengeMacBytes = 16;
constexpr Time kSweepEvery{5'000};
constexpr Time kContactLately = limits::kPollParked * 2;

// A session lives longer than any challenge it could have been opened with; hence it is enough to
// remember the number of the challenge in the session to accept each only once.
static_assert(limits::kSessionIdleMax >= limits::kChallengeLife);
static_assert(sizeof(wire::SessionToken) > sizeof(PartyId) + 16,
              "a token holds an id and a secret");

bool CalledLately(const Party& party, Time now) {
  return party.parked || now - party.contact <= kContactLately;
}

PartyId IdIn(const wire::SessionToken& session) { return Reader(session).U64(); }

}  // namespace

Parties::Parties(const PartiesOptions& options)
    : options_(options), challenge_key_(crypto::RandomSecret(*options.rng, crypto::kMacBytes)) {}

Parties::~Parties() {
  for (auto& [id, party] : parties_) {
    AnswerParked(party, Unavailable("the coordinator is stopping; call again later"));
  }
}

// --- check-in ---

Digest Parties::MakeChallenge(uint64_t number, Time at) const {
  Writer writer;
  writer.U64(number).U64(static_cast<uint64_t>(at.count()));
  const Digest mac = crypto::HmacSha256(challenge_key_.Reveal(), writer.view());
  writer.Raw(BytesView(mac).first(kChallengeMacBytes));
  return Reader(writer.view()).Array<32>();
}

Digest Parties::NewChallenge(Time now) { return MakeChallenge(++challenges_, now); }

Status Parties::CheckChallenge(const Digest& challenge, Time now) const {
  Reader reader(challenge);
  const uint64_t number = reader.U64();
  const Time at{static_cast<Time::rep>(reader.U64())};
  if (!crypto::EqualConstantTime(MakeChallenge(number, at), challenge)) {
    return Unauthenticated("the challenge was not given by this coordinator; ask for a new one");
  }
  if (now - at >= limits::kChallengeLife) {
    return Unauthenticated("the challenge is too old; ask for a new one");
  }
  return OkStatus();
}

Result<Admission> Parties::CheckIn(const wire::CheckInRequest& request, Time now) {
  if (request.version != wire::kVersion) {
    return Status(Code::kUnimplemented, "this coordinator speaks version " +
                                            std::to_string(wire::kVersion) +
                                            " of the protocol; use a client that does");
  }
  if (request.evidence.size() > limits::kEvidenceBytesMax) {
    return InvalidArgument("the evidence is longer than " +
                           std::to_string(limits::kEvidenceBytesMax) + " bytes");
  }
  CHORUS_TRY(CheckChallenge(request.challenge, now));
  const Digest evidence_hash = crypto::Sha256(request.evidence);
  const Digest signed_hash = crypto::LabeledHash(
      "CHORUS1/check-in",
      {options_.coordinator, request.challenge, request.identity, evidence_hash});
  if (!crypto::Ed25519Verify(request.identity, signed_hash, request.signature)) {
    return Unauthenticated("the check-in is not signed by the identity that it names");
  }
  CHORUS_TRY_ASSIGN(const Identity identity,
                    options_.verifier->Verify(request.identity, request.evidence));

  const uint64_t challenge = Reader(request.challenge).U64();
  std::optional<PartyId> replaced;
  if (const auto known = by_identity_.find(request.identity); known != by_identity_.end()) {
    if (challenge <= parties_.at(known->second).challenge) {
      return Unauthenticated("the challenge was used before; ask for a new one");
    }
    replaced = known->second;
  } else if (parties_.size() >= options_.sessions_max) {
    return ResourceExhausted("the coordinator holds as many clients as it can; call again later");
  }
  if (replaced) Remove(*replaced, Unauthenticated("a newer check-in has ended this session"));

  const PartyId id = ++last_id_;
  Party party;
  party.id = id;
  party.identity = request.identity;
  party.serial = identity.serial;
  if (options_.committee != nullptr) party.member = options_.committee->IndexOf(party.identity);
  party.challenge = challenge;
  party.contact = now;
  party.idle_since = now;
  wire::SessionToken session{};
  options_.rng->Fill(session);
  const Bytes id_bytes = std::move(Writer().U64(id)).Take();
  std::copy(id_bytes.begin(), id_bytes.end(), session.begin());
  party.token = SecretBytes(Bytes(session.begin(), session.end()));
  parties_.emplace(id, std::move(party));
  by_identity_[request.identity] = id;
  return Admission{.session = session, .replaced = replaced};
}

Party* Parties::Authenticate(const wire::SessionToken& session, Time now) {
  Party* party = Find(IdIn(session));
  if (party == nullptr || !crypto::EqualConstantTime(party->token.Reveal(), session)) {
    return nullptr;
  }
  party->contact = now;
  party->idle_since = now;
  return party;
}

Party* Parties::Find(PartyId id) {
  const auto found = parties_.find(id);
  return found == parties_.end() ? nullptr : &found->second;
}

void Parties::Remove(PartyId id, Status why) {
  Party* party = Find(id);
  if (party == nullptr) return;
  CloseUpload(*party);
  AnswerParked(*party, std::move(why));
  by_identity_.erase(party->identity);
  parties_.erase(id);
}

// --- what waits for a party ---

void Parties::Put(Party& party, Item what, std::optional<Upload> upload) {
  CloseUpload(party);
  party.question = Bytes();
  party.item = wire::NextReply{.sequence = ++party.sequence, .what = std::move(what)};
  party.upload = std::move(upload);
  if (party.upload) party.upload->sequence = party.sequence;
  if (party.parked) AnswerParked(party, EncodeItem(party));
}

void Parties::Tell(Party& party, wire::RoundOver over) {
  Put(party, std::move(over), std::nullopt);
}

void Parties::Ask(Party& party, wire::Invitation invitation, uint64_t answer_bytes_max) {
  party.in_round = true;
  Upload upload;
  upload.bytes_max = answer_bytes_max;
  upload.ready = true;
  Put(party, std::move(invitation), std::move(upload));
}

void Parties::Ask(Party& party, const chorus::Question& question) {
  Upload upload;
  upload.bytes_max = question.answer_bytes_max;
  Put(party, wire::Question{}, std::move(upload));
}

// What the party is told of its question. Only one that takes more than this is kept: a cohort's
// questions together can be a hundred times what they are made from.
Result<wire::Question> Parties::MakeQuestion(Party& party) {
  Bytes body = std::exchange(party.question, Bytes());
  if (body.empty()) {
    CHORUS_TRY_ASSIGN(body, options_.question(party.id));
  }
  wire::Question question;
  question.total_bytes = body.size();
  question.sha256 = crypto::Sha256(body);
  const size_t inline_bytes = std::min(body.size(), limits::kChunkBytesMax);
  question.data.assign(body.begin(), body.begin() + static_cast<std::ptrdiff_t>(inline_bytes));
  if (inline_bytes < body.size()) {
    party.question_sha256 = question.sha256;
    party.question = std::move(body);
  }
  return question;
}

void Parties::CloseUpload(Party& party) {
  if (!party.upload) return;
  in_flight_bytes_ -= party.upload->buffer.capacity();
  party.upload.reset();
}

void Parties::Withdraw(Party& party) {
  CloseUpload(party);
  party.question = Bytes();
  party.item.reset();
}

void Parties::LeaveRound(Party& party, Time now) {
  Withdraw(party);
  party.in_round = false;
  party.idle_since = now;
}

void Parties::Next(Party& party, uint64_t done, Time now, Reply reply) {
  AnswerParked(party, Aborted("a second Next of this session has ended this one"));
  if (done > party.sequence) {
    reply(InvalidArgument("done is ahead of everything that was given; check in again"));
    return;
  }
  if (party.item && party.item->sequence <= done) party.item.reset();
  if (party.item) {
    reply(EncodeItem(party));
    return;
  }
  if (complete_) {
    reply(EncodeWait(done));
    return;
  }
  party.parked = std::move(reply);
  party.parked_done = done;
  party.parked_until = now + limits::kPollParked;
  parked_.emplace(party.parked_until, party.id);
}

void Parties::Complete() {
  complete_ = true;
  while (!parked_.empty()) {
    Party& party = parties_.at(parked_.begin()->second);
    AnswerParked(party, EncodeWait(party.parked_done));
  }
}

void Parties::AnswerParked(Party& party, Result<Bytes> answer) {
  if (!party.parked) return;
  parked_.erase({party.parked_until, party.id});
  const Reply reply = std::exchange(party.parked, nullptr);
  reply(std::move(answer));
}

Result<Bytes> Parties::EncodeItem(Party& party) {
  if (std::holds_alternative<wire::Question>(party.item->what)) {
    CHORUS_TRY_ASSIGN(wire::Question question, MakeQuestion(party));
    Count(party, {.down = question.data.size()});
    return wire::Encode(
        wire::NextReply{.sequence = party.item->sequence, .what = std::move(question)});
  }
  if (const auto* invitation = std::get_if<wire::Invitation>(&party.item->what)) {
    Count(party, {.down = invitation->task.size()});
  }
  return wire::Encode(*party.item);
}

void Parties::Count(const Party& party, const Traffic& more) {
  if (party.member != 0) return;
  traffic_.up += more.up;
  traffic_.down += more.down;
}

Bytes Parties::EncodeWait(uint64_t done) const {
  wire::Wait wait;
  wait.complete = complete_;
  if (complete_) wait.retry_ms = static_cast<uint32_t>(limits::kBackoffMax.count());
  return wire::Encode(wire::NextReply{.sequence = done, .what = wait});
}

// --- what a party sends ---

Status Parties::RefuseUpload(const Party& party, const wire::UploadRequest& request) const {
  if (!party.upload || party.upload->sequence != request.sequence) {
    return FailedPrecondition("the step of this answer has closed; ask Next what to do");
  }
  if (request.total_bytes > party.upload->bytes_max) {
    return ResourceExhausted("the answer is longer than this step allows");
  }
  if (request.data.size() > limits::kChunkBytesMax) {
    return InvalidArgument("a chunk is longer than " + std::to_string(limits::kChunkBytesMax) +
                           " bytes");
  }
  if (request.offset > request.total_bytes ||
      request.data.size() > request.total_bytes - request.offset) {
    return InvalidArgument("a chunk reaches beyond total_bytes");
  }
  return OkStatus();
}

Status Parties::Append(Upload& upload, BytesView data) {
  const size_t needed = upload.buffer.size() + data.size();
  const size_t before = upload.buffer.capacity();
  if (needed > before) {
    // Doubling as std::vector does, but never beyond what was announced, and only when it fits
    // into what all uploads together may hold.
    const size_t wanted =
        std::min<size_t>(std::max(needed, before * 2), static_cast<size_t>(upload.total_bytes));
    if (in_flight_bytes_ + (wanted - before) > options_.uploads_in_flight_bytes_max) {
      return Unavailable("too many answers are being received; send this chunk again later");
    }
    upload.buffer.reserve(wanted);
    in_flight_bytes_ += upload.buffer.capacity() - before;
  }
  upload.buffer.insert(upload.buffer.end(), data.begin(), data.end());
  upload.hash->Update(data);
  return OkStatus();
}

Result<bool> Parties::Receive(Party& party, const wire::UploadRequest& request,
                              uint64_t* received) {
  *received = 0;
  if (party.in_round) Count(party, {.up = request.data.size()});
  if (party.answered && party.answered->sequence == request.sequence) {
    if (party.answered->sha256 != request.sha256 ||
        party.answered->total_bytes != request.total_bytes) {
      return AlreadyExists("this was answered before, and differently");
    }
    if (!party.answered->outcome.ok()) return party.answered->outcome;
    *received = party.answered->total_bytes;
    return false;
  }
  CHORUS_TRY(RefuseUpload(party, request));
  Upload& upload = *party.upload;
  const auto begin_again = [&] {
    upload.total_bytes = request.total_bytes;
    upload.sha256 = request.sha256;
    in_flight_bytes_ -= upload.buffer.capacity();
    upload.buffer = Bytes();
    upload.hash.emplace();
  };
  if (!upload.hash || upload.total_bytes != request.total_bytes ||
      upload.sha256 != request.sha256) {
    begin_again();
  }
  if (request.offset == upload.buffer.size()) CHORUS_TRY(Append(upload, request.data));
  *received = upload.buffer.size();
  if (upload.buffer.size() < upload.total_bytes) return false;
  if (upload.hash->Finish() != upload.sha256) {
    begin_again();
    *received = 0;
    return DataLoss("the answer does not have the digest that was announced; send it again");
  }
  return true;
}

void Parties::FinishUpload(Party& party, Status outcome) {
  if (!party.upload) return;
  party.answered = Answered{.sequence = party.upload->sequence,
                            .total_bytes = party.upload->total_bytes,
                            .sha256 = party.upload->sha256,
                            .outcome = std::move(outcome)};
  Withdraw(party);
}

bool Parties::Contradicts(const Party& party, const wire::UploadRequest& request) const {
  return party.answered && party.answered->outcome.ok() &&
         party.answered->sequence == request.sequence && party.sequence == request.sequence &&
         party.answered->sha256 != request.sha256 && request.offset == 0 &&
         request.data.size() == request.total_bytes &&
         crypto::Sha256(request.data) == request.sha256;
}

Result<wire::DownloadReply> Parties::Chunk(const Party& party, BytesView body, uint64_t offset) {
  if (offset >= body.size()) {
    return Status(Code::kOutOfRange, "the offset is past the end of what is downloaded");
  }
  const size_t first = static_cast<size_t>(offset);
  const BytesView chunk =
      body.subspan(first, std::min(body.size() - first, limits::kChunkBytesMax));
  if (party.in_round) Count(party, {.down = chunk.size()});
  wire::DownloadReply reply;
  reply.data.assign(chunk.begin(), chunk.end());
  reply.total_bytes = body.size();
  return reply;
}

// --- over time ---

std::vector<PartyId> Parties::Waiting(Time now) const {
  std::vector<PartyId> waiting;
  for (const auto& [id, party] : parties_) {
    if (party.in_round || party.item || party.member != 0) continue;
    if (options_.standing != nullptr && options_.standing->Expelled(party.identity)) continue;
    if (CalledLately(party, now)) waiting.push_back(id);
  }
  return waiting;
}

std::vector<aggregation::CommitteeMember> Parties::WaitingMembers(Time now) const {
  std::vector<aggregation::CommitteeMember> waiting;
  for (const auto& [id, party] : parties_) {
    if (party.in_round || party.item || party.member == 0) continue;
    if (options_.standing != nullptr && options_.standing->Expelled(party.identity)) continue;
    if (CalledLately(party, now)) waiting.push_back({id, party.member});
  }
  return waiting;
}

size_t Parties::clients() const {
  return static_cast<size_t>(std::count_if(parties_.begin(), parties_.end(), [](const auto& entry) {
    return entry.second.member == 0;
  }));
}

std::vector<wire::CommitteeMember> Parties::CommitteeStatus(Time now) const {
  std::vector<wire::CommitteeMember> status;
  if (options_.committee == nullptr) return status;
  for (const PublicKey& member : options_.committee->members()) {
    const auto found = by_identity_.find(member);
    const bool present =
        found != by_identity_.end() && CalledLately(parties_.at(found->second), now);
    status.push_back({member, present});
  }
  return status;
}

void Parties::Shuffle(std::vector<PartyId>& ids, const Selection& selection) {
  if (!selection.experiment_seed) {
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      std::swap(ids[i], ids[i + UniformBelow(*options_.rng, ids.size() - i)]);
    }
    return;
  }
  const Bytes seed = std::move(Writer().U64(*selection.experiment_seed)).Take();
  const Bytes round = std::move(Writer().U64(selection.round)).Take();
  std::vector<std::pair<Digest, PartyId>> ranked;
  ranked.reserve(ids.size());
  for (const PartyId id : ids) {
    const Bytes serial = std::move(Writer().U64(parties_.at(id).serial)).Take();
    ranked.emplace_back(crypto::LabeledHash("CHORUS1/select", {seed, round, serial}), id);
  }
  std::sort(ranked.begin(), ranked.end());
  std::transform(ranked.begin(), ranked.end(), ids.begin(),
                 [](const std::pair<Digest, PartyId>& entry) { return entry.second; });
}

std::vector<PartyId> Parties::Select(std::vector<PartyId> waiting, size_t count,
                                     const Selection& selection) {
  Shuffle(waiting, selection);
  if (waiting.size() <= count || options_.standing == nullptr) {
    waiting.resize(std::min(count, waiting.size()));
    return waiting;
  }
  std::vector<std::pair<uint64_t, PartyId>> ranked;
  ranked.reserve(waiting.size());
  for (const PartyId id : waiting) {
    ranked.emplace_back(options_.standing->Strikes(parties_.at(id).identity, selection.round), id);
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  ranked.resize(count);
  std::transform(ranked.begin(), ranked.end(), waiting.begin(),
                 [](const std::pair<uint64_t, PartyId>& entry) { return entry.second; });
  waiting.resize(count);
  // Those with strikes are last now, and cut into cohorts in this order they would all be in one.
  if (count > 0 && ranked.back().first > 0) Shuffle(waiting, selection);
  return waiting;
}

void Parties::Tick(Time now) {
  while (!parked_.empty() && parked_.begin()->first <= now) {
    Party& party = parties_.at(parked_.begin()->second);
    // The client waited here all the time, which is as good as a call just now.
    party.contact = now;
    party.idle_since = now;
    AnswerParked(party, EncodeWait(party.parked_done));
  }
  if (now < next_sweep_) return;
  next_sweep_ = now + kSweepEvery;
  std::vector<PartyId> gone;
  for (const auto& [id, party] : parties_) {
    if (party.in_round || party.parked) continue;
    if (now - party.idle_since >= limits::kSessionIdleMax) gone.push_back(id);
  }
  for (const PartyId id : gone) Remove(id, Unauthenticated("the session was idle too long"));
}

Time Parties::NextTick() const {
  if (parked_.empty()) return next_sweep_;
  return std::min(next_sweep_, parked_.begin()->first);
}

}  // namespace chorus::coordinator
