// One SecAgg aggregator, over any graph, against clients of whom up to three lie: each lie changes,
// replays, doubles, delays or withholds one answer or a pre-key record, with the liar's true
// signature over it or without. Laws: nothing crashes; what is refused harms only its sender, so
// that the sum opens as long as no more are missing than the parameters allow; an opened sum is
// exactly that of the contributors that were heard; whatever else is kAborted; who did not lie is
// not blamed for what only a liar does.
#include <map>
#include <set>

#include "aggregation/graph.h"
#include "aggregation/secagg.h"
#include "honest_client.h"
#include "liar.h"

namespace chorus::aggregation {
namespace {

using fuzz::Choices;
using fuzz::Require;

constexpr size_t kLiarsMax = 3;

enum class Kind : uint8_t {
  kHonest,
  kSilent,
  kChanged,   // fields, and the signature over them true
  kUnsigned,  // fields, and the signature as it was
  kBytes,
  kReplayed,  // another client's answer to the same row
  kOld,       // its own answer to an earlier row
  kTwice,     // the honest one, then another
  kLate,      // in the next row
  kKinds
};

struct Lie {
  Kind kind = Kind::kHonest;
  BytesView detail;
};

// What the session knows of one client.
struct Client {
  explicit Client(HonestClient::Is is) : honest(is) {}
  HonestClient honest;
  std::vector<Bytes> answers;  // by row; none of a row that it was not asked in
  Digest sid{};
  Index index = 0;
  uint32_t n = 0;
  std::vector<Index> holders;  // of its shares
  bool admitted = false;       // by its pre-key record
  bool out = false;            // silent or refused in some row
  bool believed = false;       // a lie of its was taken
  bool lies = false;
};

using Vector = std::vector<uint64_t>;  // modulo 2^bits

class Session {
 public:
  Session(SharingGraph graph, Choices& choices)
      : graph_(graph),
        cohort_(CohortOf(graph)),
        params_(cohort_.params),
        steps_(Steps(Protocol::kSecAgg, graph)),
        expected_(params_.vec_len, 0) {
    const size_t count = cohort_.identities.size();
    const uint32_t prekeys = choices.Below(3);  // made by nobody, by every other, by all
    AggregatorOptions options;
    for (size_t i = 0; i < count; ++i) {
      const bool has = prekeys == 2 || (prekeys == 1 && i % 2 == 1);
      clients_.emplace_back(HonestClient::Is{graph, static_cast<uint8_t>(i), has});
      clients_.back().answers.resize(steps_.size());
      options.parties.push_back(Cohort::kFirstParty + i);
      if (has) options.prekeys.push_back({Cohort::kFirstParty + i, clients_[i].honest.Record()});
    }
    for (uint32_t left = choices.Below(kLiarsMax + 1); left > 0; --left) {
      const size_t client = choices.Below(count);
      const size_t row = choices.Below(steps_.size());
      const auto kind = static_cast<Kind>(choices.Below(static_cast<size_t>(Kind::kKinds)));
      lies_[{row, client}] = {kind, choices.Take(16)};
      clients_[client].lies = true;
    }
    for (PreKey& prekey : options.prekeys) Offer(prekey);
    options.params = params_;
    options.signing_seed = cohort_.signing_seed.Reveal();
    options.verifier = &cohort_.verifier;
    options.blame = &blame_;
    options.unix_now = kNow;
    Result<std::unique_ptr<Aggregator>> made = NewAggregator(std::move(options));
    Require(made.ok(), "an aggregator is made");
    aggregator_ = *std::move(made);
  }

  void Run() {
    for (size_t row = 0; row < steps_.size(); ++row) {
      const Result<std::vector<Question>> questions = aggregator_->Ask();
      Require(questions.ok(), "an open session asks");
      HearLate(*questions);
      CheckAsked(row, *questions);
      for (const Question& question : *questions) Answer(row, question);
      const Status closed = aggregator_->Close();
      if (closed.ok()) continue;
      Require(closed.code() == Code::kAborted, "a row that cannot go on aborts");
      Require(!MustSucceed(), "refused answers do not end the session");
      Require(!aggregator_->Ask().ok() && !aggregator_->Finish().ok(),
              "an aborted session is spent");
      return CheckBlame();
    }
    Require(aggregator_->done(), "the last row ends the session");
    CheckSum(aggregator_->Finish());
    Require(!aggregator_->Finish().ok(), "a sum opens once");
    CheckBlame();
  }

 private:
  static PartyId PartyOf(size_t client) { return Cohort::kFirstParty + client; }
  static size_t ClientOf(PartyId party) { return static_cast<size_t>(party - Cohort::kFirstParty); }

  // A client's pre-key record on its way to the aggregator: a lie in the keys row changes it first,
  // for who made pre-keys has nothing else to say there.
  void Offer(PreKey& prekey) {
    const size_t client = ClientOf(prekey.from);
    Client& state = clients_[client];
    const auto lie = lies_.find({0, client});
    bool sound = true;
    if (lie != lies_.end() && lie->second.kind != Kind::kHonest) {
      Choices detail(lie->second.detail);
      const Bytes honest = std::exchange(prekey.record, {});
      prekey.record = ChangedRecord(client, detail, honest, sound);
      if (prekey.record == honest) sound = true;
      // Two liars may have chosen the same keys; whose record comes first has them.
      sound = sound && AreNew(*DecodePreKeyRecord(prekey.record));
      state.believed = sound && prekey.record != honest;
      lies_.erase(lie);
    }
    state.admitted = sound;
  }

  bool AreNew(const PreKeyRecord& record) {
    if (unknown_keys_.contains(record.c) || unknown_keys_.contains(record.s)) return false;
    unknown_keys_.insert({record.c, record.s});
    return true;
  }

  // The record with a change; `sound` says whether its client can have made it so.
  Bytes ChangedRecord(size_t client, Choices& choices, const Bytes& honest, bool& sound) const {
    PreKeyRecord record = *DecodePreKeyRecord(honest);
    PublicKey& key = choices.Flag() ? record.s : record.c;
    const uint64_t latest = kNow + static_cast<uint64_t>(limits::kPreKeyLifeMax.count());
    sound = false;
    switch (choices.Below(9)) {
      case 0:
        record.not_after = kNow - 1;
        break;
      case 1:
        record.not_after = latest + 1;
        break;
      case 2:
        record.not_after = choices.Number();
        sound = record.not_after >= kNow && record.not_after <= latest;
        break;
      case 3:
        record.s = record.c;
        break;
      case 4:
        key = {choices.Byte()};
        if (key[0] > 1) return honest;
        break;
      case 5:
        key.fill(0xff);
        break;
      case 6:
        record.signature[choices.Below(sizeof(Signature))] ^= 1U;
        return Encode(record);
      case 7: {
        Bytes changed = honest;
        fuzz::Mutate(choices, changed);
        return changed;
      }
      default:
        // Keys that nobody has the secret of.
        key = crypto::X25519Public(fuzz::Key("unknown", choices.Byte()).Reveal());
        sound = true;
    }
    record.signature =
        crypto::Ed25519Sign(cohort_.identities[client].Reveal(), PreKeyMessage(record));
    return Encode(record);
  }

  // Whom the aggregator asks: all it has heard so far, but nobody for keys that it has. Who has
  // lost too many holders is dropped after the rows in which holders are found.
  void CheckAsked(size_t row, const std::vector<Question>& questions) const {
    std::set<size_t> asked;
    for (const Question& question : questions) asked.insert(ClientOf(question.to));
    for (size_t client = 0; client < clients_.size(); ++client) {
      const Client& state = clients_[client];
      const bool due = row == 0 ? !state.admitted : !state.out;
      const bool spared = row <= 1 || Out() <= 2;
      Require(!due || !spared || asked.contains(client), "who is in the session is asked");
      Require(row > 1 || due || !asked.contains(client), "nobody else is");
    }
  }

  // Whoever missed a row is out, and what it says afterwards is not heard.
  void HearLate(const std::vector<Question>& questions) {
    for (const auto& [client, answer] : late_) {
      const PartyId party = PartyOf(client);
      const bool asked = std::any_of(questions.begin(), questions.end(),
                                     [party](const Question& q) { return q.to == party; });
      Require(!asked, "who missed a row is not asked again");
      Require(aggregator_->Hear(party, answer).code() == Code::kNotFound, "nor is it heard");
    }
    late_.clear();
  }

  void Answer(size_t row, const Question& question) {
    const size_t client = ClientOf(question.to);
    Client& state = clients_[client];
    Result<Bytes> body = aggregator_->Body(question.to);
    Require(body.ok(), "who is asked has a question");
    if (row == 1) LearnRoster(state, *body);
    const Result<Bytes> honest = state.honest.Answer(*std::move(body));
    if (!honest.ok()) {
      state.out = true;
      // Only lies that were believed can make an honest client give up.
      Require(AnyBelieved(), "honest clients go on");
      return;
    }
    Require(honest->size() <= question.answer_bytes_max, "an honest answer fits its bound");
    if (steps_[row] == Step::kNeighbours) state.holders = DecodeChoose(*honest, state.n)->holders;
    state.answers[row] = *honest;
    const auto lie = lies_.find({row, client});
    if (lie == lies_.end()) return Say(row, client, *honest, *honest);
    Choices detail(lie->second.detail);
    Tell(row, client, lie->second.kind, detail, *honest);
  }

  void Tell(size_t row, size_t client, Kind kind, Choices& detail, const Bytes& honest) {
    Client& state = clients_[client];
    switch (kind) {
      case Kind::kSilent:
        state.out = true;
        return;
      case Kind::kChanged:
      case Kind::kUnsigned:
        return Say(row, client, Changed(row, client, detail, honest, kind == Kind::kChanged),
                   honest);
      case Kind::kBytes: {
        Bytes changed = honest;
        fuzz::Mutate(detail, changed);
        visible_ = steps_[row] <= Step::kInput;  // signed as a whole
        return Say(row, client, changed, honest);
      }
      case Kind::kReplayed:
        return Say(row, client, clients_[detail.Below(clients_.size())].answers[row], honest);
      case Kind::kOld:
        return Say(row, client, state.answers[detail.Below(row + 1)], honest);
      case Kind::kTwice: {
        Say(row, client, honest, honest);
        if (state.out) return;  // refused, since a liar took its identity or its keys before
        const Bytes other = Changed(row, client, detail, honest, true);
        const Status second = aggregator_->Hear(PartyOf(client), other);
        Require(second.code() == Code::kAlreadyExists, "an answer is heard once");
        visible_ = false;
        return;
      }
      case Kind::kLate:
        state.out = true;
        late_[client] = honest;
        return;
      default:
        return Say(row, client, honest, honest);
    }
  }

  // Hears `said`, where an honest client would have said `honest`.
  void Say(size_t row, size_t client, const Bytes& said, const Bytes& honest) {
    Client& state = clients_[client];
    const Status heard = aggregator_->Hear(PartyOf(client), said);
    Require(heard.code() != Code::kInternal, "no answer reaches a broken invariant");
    // But for who lied before, and whose identity or keys a liar took when they were heard.
    Require(heard.ok() || said != honest || state.believed || (row == 0 && AnyBelieved()),
            "honest answers are heard");
    Require(!heard.ok() || said == honest || !visible_, "what can be seen is refused");
    visible_ = false;
    if (!heard.ok()) {
      state.out = true;
    } else if (said != honest) {
      state.believed = true;
    }
    if (!heard.ok()) return;
    Require(aggregator_->Body(PartyOf(client)).status().code() == Code::kNotFound,
            "who was heard has no question left");
    if (steps_[row] == Step::kInput) Count(client, said, honest);
  }

  // Adds the input of `client`, and by how much what it sent differs from its honest masked input.
  void Count(size_t client, const Bytes& said, const Bytes& honest) {
    ++contributors_;
    const Vector sent = Packed(said);
    const Vector due = Packed(honest);
    for (size_t j = 0; j < expected_.size(); ++j) {
      expected_[j] += static_cast<uint64_t>(cohort_.inputs[client][j]) + sent[j] - due[j];
    }
  }

  Vector Packed(const Bytes& answer) const {
    const Result<Masked> masked = DecodeMasked(answer, RosterMax(), PackedBytes());
    Require(masked.ok(), "what was heard decodes");
    RingVector values = math::ZeroVector(params_.vec_len, params_.bits);
    Require(math::AddPacked(values, masked->packed, params_.bits).ok(), "what was heard unpacks");
    Vector words;
    for (uint64_t j = 0; j < params_.vec_len; ++j) {
      words.push_back(static_cast<uint64_t>(math::SignedAt(values, j, params_.bits)));
    }
    return words;
  }

  uint32_t RosterMax() const { return params_.n_max; }
  uint64_t PackedBytes() const { return math::PackedBytes(params_.vec_len, params_.bits); }

  // The question of the row after the keys begins with a roster, behind the offer if the receiver
  // has not had it.
  void LearnRoster(Client& state, BytesView question) {
    if (state.admitted) {
      Require(question.size() > kOfferBytes, "who was not asked for keys gets the offer first");
      question = question.subspan(kOfferBytes);
    }
    const Result<Roster> roster = ReadSignedRoster(question);
    Require(roster.ok(), "a roster that is sent decodes");
    const Digest sid0 = crypto::LabeledHash("CHORUS1/sid0", {EncodeParams(params_)});
    state.sid = SessionId(sid0, roster->n, roster->root);
    state.index = roster->index;
    state.n = roster->n;
    if (graph_ == SharingGraph::kSelfSelected) return;  // it chooses its holders itself
    const Result<RosterAndPeers> peers = DecodeRing(question, RosterMax());
    Require(peers.ok(), "and so do the peers");
    for (const Peer& peer : peers->peers) state.holders.push_back(peer.index);
  }

  Bytes Changed(size_t row, size_t client, Choices& choices, const Bytes& honest, bool sign) {
    const Client& state = clients_[client];
    if (steps_[row] == Step::kUnmask) {
      return ChangedUnmask(choices, *DecodeUnmask(honest, state.n, state.index + 1), state);
    }
    Liar liar(choices, {state.sid, state.index, state.n},
              {cohort_.identities[client].Reveal(), sign});
    const Bytes changed = ChangedBy(liar, steps_[row], honest, choices);
    visible_ = liar.visible();
    return changed;
  }

  Bytes ChangedBy(Liar& liar, Step step, const Bytes& honest, Choices& choices) const {
    switch (step) {
      case Step::kKeys:
        return liar.Keys(*DecodeAdvertise(honest),
                         clients_[choices.Below(clients_.size())].answers[0]);
      case Step::kNeighbours:
        return liar.Choice(*DecodeChoose(honest, RosterMax()));
      case Step::kShares:
        return liar.Deal(*DecodeShares(honest, RosterMax()));
      case Step::kInput:
        return liar.Input(*DecodeMasked(honest, RosterMax(), PackedBytes()));
      default:
        return liar.Acknowledge(*DecodeAcks(honest, RosterMax()));
    }
  }

  Bytes ChangedUnmask(Choices& choices, std::vector<UnmaskEntry> entries, const Client& state) {
    if (entries.empty()) return {};
    UnmaskEntry& entry = entries[choices.Below(entries.size())];
    const uint32_t what = choices.Below(6);
    // On the ring who leaves an owner out refuses it.
    visible_ = what == 1 || what == 2 || (what == 3 && graph_ != SharingGraph::kHarary);
    switch (what) {
      case 0:
        entry.share.y[choices.Below(math::kLimbs)] ^= 1U;
        break;
      case 1:
        entry.fate = entry.fate == Fate::kAlive ? Fate::kDropped : Fate::kAlive;
        break;
      case 2:
        entry.owner = state.index;
        break;
      case 3:
        entries.pop_back();
        break;
      case 4:
        Shift(entry, state);
        break;
      default:
        for (uint64_t& limb : entry.share.y) limb = choices.Number() % math::kPrime;
    }
    return EncodeUnmask(entries);
  }

  // Changes a share such that the secret is off by one, if the aggregator opens it with the first
  // shares that it can have: of all wrong shares the one that is hardest to see.
  void Shift(UnmaskEntry& entry, const Client& state) const {
    const auto owner = std::find_if(clients_.begin(), clients_.end(), [&](const Client& client) {
      return client.n > 0 && client.index == entry.owner;
    });
    const Result<GraphParams> graph = GraphFor(params_, state.n);
    if (owner == clients_.end() || !graph.ok() || owner->holders.size() < graph->t) return;
    std::vector<uint32_t> xs;
    for (size_t i = 0; i < graph->t; ++i) xs.push_back(owner->holders[i] + 1);
    const auto mine = std::find(xs.begin(), xs.end(), state.index + 1) - xs.begin();
    if (mine == std::ssize(xs)) return;
    const uint64_t step = math::FieldInverse(math::LagrangeAtZero(xs)[static_cast<size_t>(mine)]);
    entry.share.y[0] = math::FieldAdd(entry.share.y[0], step);
  }

  bool AnyBelieved() const {
    return std::any_of(clients_.begin(), clients_.end(),
                       [](const Client& client) { return client.believed; });
  }

  size_t Out() const {
    return static_cast<size_t>(std::count_if(clients_.begin(), clients_.end(),
                                             [](const Client& client) { return client.out; }));
  }

  // Two may be missing: k - t = 2, and a complete graph of six or five bears one still.
  bool MustSucceed() const { return !AnyBelieved() && Out() <= 2; }

  void CheckBlame() const {
    for (const Blame& blame : blame_) {
      const Client& client = clients_[ClientOf(blame.party)];
      if (blame.cause == Blame::Cause::kEquivocated) {
        Require(client.lies && blame.first.message != blame.second.message &&
                    crypto::Ed25519Verify(blame.id, blame.first.message, blame.first.signature) &&
                    crypto::Ed25519Verify(blame.id, blame.second.message, blame.second.signature),
                "who is said to have signed two things did");
      } else if (blame.cause == Blame::Cause::kWrongShare) {
        Require(client.believed, "who is said to have opened a wrong share did");
      } else {
        Require(AnyBelieved(), "without lies nobody is blamed");
      }
    }
  }

  void CheckSum(const Result<Sum>& sum) const {
    Require(sum.ok() || sum.status().code() == Code::kAborted, "a sum opens or aborts");
    Require(sum.ok() || !MustSucceed(), "refused answers do not spoil the sum");
    if (!sum.ok()) return;
    Require(sum->contributors == contributors_, "the sum is over those who were heard");
    const uint64_t mask = (uint64_t{1} << static_cast<unsigned>(params_.bits)) - 1;
    for (uint64_t j = 0; j < params_.vec_len; ++j) {
      const auto value = static_cast<uint64_t>(math::SignedAt(sum->values, j, params_.bits));
      Require(((value ^ expected_[j]) & mask) == 0, "an opened sum is exact");
    }
  }

  const SharingGraph graph_;
  const Cohort& cohort_;
  const SessionParams& params_;
  const std::span<const Step> steps_;
  std::map<std::pair<size_t, size_t>, Lie> lies_;  // by row and client
  std::vector<Client> clients_;
  std::set<PublicKey> unknown_keys_;  // in liars' pre-key records that are taken
  std::map<size_t, Bytes> late_;
  std::vector<Blame> blame_;
  std::unique_ptr<Aggregator> aggregator_;
  Vector expected_;
  uint32_t contributors_ = 0;
  bool visible_ = false;  // what is about to be said shows its lie to whoever hears it
};

}  // namespace

void RunSession(BytesView input) {
  Choices choices(input);
  const auto graph = static_cast<SharingGraph>(choices.Below(3));
  Session(graph, choices).Run();
}

}  // namespace chorus::aggregation

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chorus::aggregation::RunSession({data, size});
  return 0;
}
