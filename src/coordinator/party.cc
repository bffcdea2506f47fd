#include "coordinator/party.h"

#include <algorithm>
#include <array>
#include <string>

#include "base/codec.h"
#include "base/limits.h"

namespace chorus::coordinator {
namespace {

constexpr Time kSweepEvery{5'000};
constexpr Time kTurnWait{100};       // of an answer for which others are in the way
constexpr Time kTurnParked{10'000};  // at most, less than clients wait for any reply
constexpr Time kTurnLook{50};        // as time alone may make room
constexpr Time kContactLately = limits::kPollParked * 2;

// A session lives longer than any challenge it could have been opened with; hence it is enough to
// remember the number of the challenge in the session to accept each only once. Those of sessions
// that end before are kept apart for as long.
static_assert(limits::kSessionIdleMax >= limits::kChallengeLife);
static_assert(kTurnParked < limits::kCallDeadline);
static_assert(sizeof(wire::SessionToken) > sizeof(PartyId) + 16,
              "a token holds an id and a secret");

bool CalledLately(const Party& party, Time now) {
  return party.parked || now - party.contact <= kContactLately;
}

}  // namespace

Parties::Parties(const PartiesOptions& options)
    : options_(options),
      own_sessions_(options.sessions != nullptr
                        ? nullptr
                        : std::make_unique<Sessions>(SessionsOptions{
                              .rng = options.rng,
                              .admission = {.coordinator = options.coordinator,
                                            .verifier = options.verifier,
                                            .clock = options.clock,
                                            .options = options.admission},
                              .pacing = options.pacing,
                              .sessions_max = options.sessions_max,
                              .uploads_in_flight_bytes_max = options.uploads_in_flight_bytes_max})),
      sessions_(options.sessions != nullptr ? *options.sessions : *own_sessions_) {
  sessions_.hosted |= MaskOf(options_.place);
  if (options_.committee != nullptr) sessions_.admission()->Exempt(options_.committee->members());
}

// The door goes on letting their calls through, to where they are told that all is over.
Parties::~Parties() {
  for (auto& [id, party] : parties_) {
    const Status stopping = Unavailable("the coordinator is stopping; call again later");
    AnswerParked(party, stopping);
    if (party.upload && party.upload->turn) std::exchange(party.upload->turn, nullptr)(stopping);
    CloseUpload(party);
    sessions_.Close();
  }
}

// --- check-in ---

Result<Admitted> Parties::CheckIn(const wire::CheckInRequest& request, Time now) {
  CHORUS_TRY_ASSIGN(const Vetted vetted, sessions_.admission()->Vet(request, now));
  return Admit(vetted, now);
}

Result<Admitted> Parties::Admit(const Vetted& vetted, Time now) {
  const PublicKey& identity = vetted.request.identity;
  if (sessions_.Spent(identity, vetted.challenge)) {
    return Unauthenticated("the challenge was used before; ask for a new one");
  }
  std::optional<PartyId> replaced;
  if (const auto known = by_identity_.find(identity); known != by_identity_.end()) {
    if (vetted.challenge <= parties_.at(known->second).challenge) {
      return Unauthenticated("the challenge was used before; ask for a new one");
    }
    replaced = known->second;
  } else if (sessions_.full()) {
    return ResourceExhausted("the coordinator holds as many clients as it can; call again later")
        .RetryAfter(limits::kBackoffMax);
  }
  // Whoever came first stays: a stolen token does not push its owner out, and one account is not
  // two clients of a round. The identity may come with the same account or with another.
  if (vetted.subject && !sessions_.ClaimSubject(*vetted.subject, identity)) {
    return AlreadyExists("this account has a session with another identity; end that one first");
  }
  if (replaced) {
    Remove(*replaced, Unauthenticated("a newer check-in has ended this session"));
    if (vetted.subject) (void)sessions_.ClaimSubject(*vetted.subject, identity);
  }

  const PartyId id = sessions_.Open();
  Party party;
  party.id = id;
  party.identity = identity;
  party.serial = vetted.serial;
  party.subject = vetted.subject;
  party.token_ends = vetted.token_ends;
  if (options_.committee != nullptr) party.member = options_.committee->IndexOf(party.identity);
  party.challenge = vetted.challenge;
  party.contact = now;
  party.idle_since = now;
  wire::SessionToken session{};
  options_.rng->Fill(session);
  const Bytes id_bytes = std::move(Writer().U64(id)).Take();
  std::copy(id_bytes.begin(), id_bytes.end(), session.begin());
  party.token = SecretBytes(Bytes(session.begin(), session.end()));
  sessions_.admission()->Open(session);
  parties_.emplace(id, std::move(party));
  by_identity_[identity] = id;
  return Admitted{.session = session, .replaced = replaced};
}

PartyId Parties::IdIn(const wire::SessionToken& session) { return Reader(session).U64(); }

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

Party* Parties::FindIdentity(const PublicKey& identity) {
  const auto found = by_identity_.find(identity);
  return found == by_identity_.end() ? nullptr : &parties_.at(found->second);
}

void Parties::Remove(PartyId id, Status why) {
  Party* party = Find(id);
  if (party == nullptr) return;
  CloseUpload(*party);
  AnswerParked(*party, std::move(why));
  by_identity_.erase(party->identity);
  sessions_.admission()->End(Reader(party->token.Reveal()).Array<sizeof(wire::SessionToken)>());
  if (party->subject) sessions_.FreeSubject(*party->subject);
  parties_.erase(id);
  sessions_.Close();
}

Party Parties::Release(PartyId id) {
  const auto found = parties_.find(id);
  Party party = std::move(found->second);
  parties_.erase(found);
  by_identity_.erase(party.identity);
  if (party.parked) parked_.erase({party.parked_until, id});
  return party;
}

void Parties::Adopt(Party party) {
  party.member = options_.committee == nullptr ? 0 : options_.committee->IndexOf(party.identity);
  by_identity_[party.identity] = party.id;
  if (party.parked) parked_.emplace(party.parked_until, party.id);
  const PartyId id = party.id;
  parties_.emplace(id, std::move(party));
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
  party.allotted = false;
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
  if (Reply turn = std::exchange(party.upload->turn, nullptr)) {
    std::erase(turns_wanted_, party.id);
    turn(FailedPrecondition("the step of this answer has closed; ask Next what to do"));
  }
  sessions_.Release(party.upload->answer.held());
  if (party.upload->hash) {
    sessions_.upload_turns().End(party.upload->total_bytes, party.upload->answer.size());
  }
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
    Result<Bytes> item = EncodeItem(party);
    // Made and hashed anew each time, at many times the cost of a copy.
    constexpr size_t kMakingWeight = 16;
    if (item.ok()) party.allowance.Give(kMakingWeight * item->size(), now);
    reply(std::move(item));
    return;
  }
  if (Resting(party)) {
    reply(EncodeWait(party, done));
    return;
  }
  const bool idle = !party.in_round && party.member == 0;
  if (idle && sessions_.pacing().Crowded(sessions_.open())) {
    wire::Wait away;
    away.hang_up = true;
    away.retry_ms = static_cast<uint32_t>(sessions_.pacing().NextStay(now).count());
    RemoveEarly(party, now, OkStatus());
    reply(wire::Encode(wire::NextReply{.sequence = done, .what = away}));
    return;
  }
  party.parked = std::move(reply);
  party.parked_done = done;
  party.parked_until = now + limits::kPollParked;
  parked_.emplace(party.parked_until, party.id);
}

bool Parties::Over(const Party& party) const {
  return (party.serves & sessions_.hosted & ~sessions_.over) == 0;
}

bool Parties::Resting(const Party& party) const {
  return (party.serves & sessions_.hosted & ~sessions_.over & ~sessions_.paused) == 0;
}

void Parties::Complete() {
  sessions_.over |= MaskOf(options_.place);
  AnswerResting();
}

void Parties::Pause(bool paused) {
  const TaskMask mine = MaskOf(options_.place);
  sessions_.paused = paused ? sessions_.paused | mine : sessions_.paused & ~mine;
  AnswerResting();
}

void Parties::AnswerResting() {
  std::vector<PartyId> resting;
  for (const auto& [until, id] : parked_) {
    if (Resting(parties_.at(id))) resting.push_back(id);
  }
  for (const PartyId id : resting) {
    Party& party = parties_.at(id);
    AnswerParked(party, EncodeWait(party, party.parked_done));
  }
}

void Parties::NoteRefusal(Party& party, Time now) {
  if (now >= party.refused_until) party.refused = 0;
  party.refused |= MaskOf(options_.place);
  party.refused_until = now + limits::kRefusalLife;
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

Bytes Parties::EncodeWait(const Party& party, uint64_t done) const {
  wire::Wait wait;
  wait.complete = Over(party);
  if (Resting(party)) wait.retry_ms = static_cast<uint32_t>(limits::kBackoffMax.count());
  return wire::Encode(wire::NextReply{.sequence = done, .what = wait});
}

// --- what a party sends ---

Status Parties::RefuseUpload(const Party& party, const wire::UploadChunk& request) const {
  if (!party.upload || party.upload->sequence != request.sequence) {
    return FailedPrecondition("the step of this answer has closed; ask Next what to do");
  }
  if (request.total_bytes > party.upload->bytes_max) {
    return ResourceExhausted("the answer is longer than this step allows");
  }
  if (request.data_bytes > limits::kChunkBytesMax) {
    return InvalidArgument("a chunk is longer than " + std::to_string(limits::kChunkBytesMax) +
                           " bytes");
  }
  if (request.offset > request.total_bytes ||
      request.data_bytes > request.total_bytes - request.offset) {
    return InvalidArgument("a chunk reaches beyond total_bytes");
  }
  return OkStatus();
}

Status Parties::Append(Upload& upload, UploadCall& call) {
  if (!sessions_.HasRoomFor(upload.answer.Needs(call, upload.total_bytes))) {
    return Unavailable("too many answers are being received; send this chunk again later");
  }
  if (call.ahead && call.ahead->version == upload.version) {
    upload.hash = std::move(call.ahead->hash);
  } else {
    for (const BytesView piece : call.chunk.data) upload.hash->Update(piece);
  }
  const uint64_t before = upload.answer.held();
  upload.answer.Add(call, upload.total_bytes);
  sessions_.Hold(upload.answer.held() - before);
  upload.version = sessions_.NewVersion();
  return OkStatus();
}

std::optional<crypto::Sha256Stream::Share> Parties::AheadOf(UploadCall& call) const {
  const auto found = parties_.find(IdIn(call.chunk.session));
  if (found == parties_.end() || !found->second.upload ||
      !crypto::EqualConstantTime(found->second.token.Reveal(), call.chunk.session)) {
    return std::nullopt;
  }
  const Upload& upload = *found->second.upload;
  if (!upload.hash || upload.sequence != call.chunk.sequence ||
      upload.total_bytes != call.chunk.total_bytes || upload.sha256 != call.chunk.sha256 ||
      upload.answer.size() != call.chunk.offset) {
    return std::nullopt;
  }
  call.ahead = HashedAhead{.version = upload.version, .hash = *upload.hash};
  return crypto::Sha256Stream::Share{&call.ahead->hash, call.chunk.data};
}

Result<bool> Parties::Receive(Party& party, UploadCall& call, uint64_t* received) {
  const wire::UploadChunk& request = call.chunk;
  *received = 0;
  if (party.in_round) Count(party, {.up = request.data_bytes});
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
  UploadTurns& turns = sessions_.upload_turns();
  if (!upload.hash || upload.total_bytes != request.total_bytes ||
      upload.sha256 != request.sha256) {
    // What came as a whole is here already, and no room is kept by its waiting.
    const bool whole = request.offset == 0 && request.data_bytes == request.total_bytes;
    if (!upload.hash && !whole && !turns.MayBegin(request.total_bytes, party.contact)) {
      return ResourceExhausted("other answers are coming in; send this chunk again in a moment")
          .RetryAfter(kTurnWait);
    }
    if (upload.hash) turns.End(upload.total_bytes, upload.answer.size());
    upload.total_bytes = request.total_bytes;
    upload.sha256 = request.sha256;
    BeginUpload(upload, party.contact);
  }
  if (request.offset == upload.answer.size()) {
    CHORUS_TRY(Append(upload, call));
    turns.Took(request.data_bytes, party.contact);
  }
  *received = upload.answer.size();
  if (upload.answer.size() < upload.total_bytes) return false;
  if (upload.hash->Finish() != upload.sha256) {
    turns.End(upload.total_bytes, upload.answer.size());
    BeginUpload(upload, party.contact);
    *received = 0;
    return DataLoss("the answer does not have the digest that was announced; send it again");
  }
  return true;
}

void Parties::BeginUpload(Upload& upload, Time now) {
  sessions_.upload_turns().Begin(upload.total_bytes, now);
  sessions_.Release(upload.answer.held());
  upload.answer = Incoming();
  upload.hash.emplace();
  upload.version = sessions_.NewVersion();
}

bool Parties::WaitForTurn(Party& party, const wire::UploadChunk& request, Reply& reply) {
  if (!party.upload) return false;
  Upload& upload = *party.upload;
  // Whoever announces again has given the call before up.
  if (Reply before = std::exchange(upload.turn, nullptr)) {
    std::erase(turns_wanted_, party.id);
    before(Aborted("a second Upload of this session has ended this one"));
  }
  if (request.data_bytes > 0 || request.total_bytes == 0 || upload.hash) return false;
  if (!RefuseUpload(party, request).ok()) return false;
  if (turns_wanted_.empty() &&
      sessions_.upload_turns().MayBegin(request.total_bytes, party.contact)) {
    return false;
  }
  upload.total_bytes = request.total_bytes;
  upload.sha256 = request.sha256;
  upload.turn = std::move(reply);
  upload.turn_until = party.contact + kTurnParked;
  turns_wanted_.push_back(party.id);
  return true;
}

void Parties::GiveTurns(Time now) {
  while (!turns_wanted_.empty()) {
    Party* const party = Find(turns_wanted_.front());
    if (party != nullptr && party->upload && party->upload->turn) {
      Upload& upload = *party->upload;
      const bool may_begin = sessions_.upload_turns().MayBegin(upload.total_bytes, now);
      if (!may_begin && now < upload.turn_until) return;
      party->contact = now;  // it waited here all the time
      const Reply reply = std::exchange(upload.turn, nullptr);
      if (may_begin) {
        BeginUpload(upload, now);
        reply(wire::Encode(wire::UploadReply{}));
      } else {
        reply(ResourceExhausted("other answers are coming in; announce this one again")
                  .RetryAfter(kTurnWait));
      }
    }
    turns_wanted_.pop_front();
  }
}

void Parties::FinishUpload(Party& party, Status outcome) {
  if (!party.upload) return;
  party.answered = Answered{.sequence = party.upload->sequence,
                            .total_bytes = party.upload->total_bytes,
                            .sha256 = party.upload->sha256,
                            .outcome = std::move(outcome)};
  Withdraw(party);
}

bool Parties::Contradicts(const Party& party, const wire::UploadChunk& request) const {
  if (!party.answered || !party.answered->outcome.ok() ||
      party.answered->sequence != request.sequence || party.sequence != request.sequence ||
      party.answered->sha256 == request.sha256 || request.offset != 0 ||
      request.data_bytes != request.total_bytes) {
    return false;
  }
  crypto::Sha256Stream hash;
  for (const BytesView piece : request.data) hash.Update(piece);
  return hash.Finish() == request.sha256;
}

Result<wire::DownloadReply> Parties::Chunk(const Party& party, BytesView body,
                                           const wire::DownloadRequest& asked) {
  if (asked.offset >= body.size()) {
    return Status(Code::kOutOfRange, "the offset is past the end of what is downloaded");
  }
  const size_t first = static_cast<size_t>(asked.offset);
  const uint64_t wanted = asked.bytes_max == 0 ? limits::kChunkBytesMax : asked.bytes_max;
  const BytesView chunk = body.subspan(
      first, std::min<uint64_t>({body.size() - first, limits::kChunkBytesMax, wanted}));
  if (party.in_round) Count(party, {.down = chunk.size()});
  wire::DownloadReply reply;
  reply.data.assign(chunk.begin(), chunk.end());
  reply.total_bytes = body.size();
  return reply;
}

// --- over time ---

bool Parties::Free(const Party& party, Time now) const {
  if (party.in_round || party.item || !CalledLately(party, now)) return false;
  return options_.standing == nullptr || !options_.standing->Expelled(party.identity);
}

bool Parties::Present(const Party& party, Time now) const {
  return party.in_round || CalledLately(party, now);
}

std::vector<PartyId> Parties::Waiting(Time now) const {
  std::vector<PartyId> waiting;
  for (const auto& [id, party] : parties_) {
    if (party.member != 0 || (sessions_.shared_out && !party.allotted)) continue;
    if (Free(party, now)) waiting.push_back(id);
  }
  return waiting;
}

size_t Parties::Here(Time now, Time lately) const {
  return static_cast<size_t>(std::count_if(parties_.begin(), parties_.end(), [&](const auto& one) {
    const Party& party = one.second;
    if (party.in_round || party.member != 0) return false;
    if (options_.standing != nullptr && options_.standing->Expelled(party.identity)) return false;
    return now - party.contact <= lately || (!party.item && CalledLately(party, now));
  }));
}

std::vector<aggregation::CommitteeMember> Parties::WaitingMembers(Time now) const {
  std::vector<aggregation::CommitteeMember> waiting;
  for (const auto& [id, party] : parties_) {
    if (party.member == 0 || (sessions_.shared_out && !party.allotted)) continue;
    if (Free(party, now)) waiting.push_back({id, party.member});
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
    AnswerParked(party, EncodeWait(party, party.parked_done));
  }
  GiveTurns(now);
  next_turns_ = now + kTurnLook;
  if (now < next_sweep_) return;
  next_sweep_ = now + kSweepEvery;
  std::vector<PartyId> gone;
  for (const auto& [id, party] : parties_) {
    if (party.in_round || party.parked) continue;
    if (now - party.idle_since >= limits::kSessionIdleMax) gone.push_back(id);
  }
  for (const PartyId id : gone) Remove(id, Unauthenticated("the session was idle too long"));
  EndExpired(now);
}

void Parties::RemoveEarly(const Party& party, Time now, Status why) {
  sessions_.Spend(party.identity, party.challenge, now);
  Remove(party.id, std::move(why));
}

// A session is as good as the login behind it; a round that it is in may end first.
void Parties::EndExpired(Time now) {
  std::vector<PartyId> expired;
  for (const auto& [id, party] : parties_) {
    if (party.token_ends && now >= *party.token_ends && !party.in_round) expired.push_back(id);
  }
  for (const PartyId id : expired) {
    RemoveEarly(parties_.at(id), now,
                Unauthenticated("the session token has expired; check in with a new one"));
  }
}

Time Parties::NextTick() const {
  Time due = next_sweep_;
  if (!parked_.empty()) due = std::min(due, parked_.begin()->first);
  if (!turns_wanted_.empty()) due = std::min(due, next_turns_);
  return due;
}

}  // namespace chorus::coordinator
