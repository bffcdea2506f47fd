// One SecAgg aggregator against clients of whom up to three lie: each lie changes, replays,
// doubles, delays or withholds one answer, with the liar's true signature over it or without. Laws:
// nothing crashes; what is refused harms only its sender, so that the sum opens as long as no more
// are missing than the parameters allow; an opened sum is exactly that of the contributors that
// were heard; whatever else is kAborted.
#include <map>
#include <set>

#include "aggregation/secagg.h"
#include "cohort.h"
#include "fuzz.h"

namespace chorus::aggregation {
namespace {

using fuzz::Choices;
using fuzz::Require;

constexpr uint32_t kClients = 7;
constexpr size_t kKnownMax = 20'000;
enum Row : uint8_t { kKeys, kShares, kInput, kAcks, kUnmask, kRows };

// The bound leaves sums nearly the whole ring, so that a wrong one is not refused for its range
// alone.
CohortShape Shape() {
  return {.clients = kClients,
          .dim = 5,
          .bits = 21,
          .bound = 149'000,
          .minimum = 4,
          .gamma_ppm = 50'000,
          .delta_ppm = 150'000};
}

const Cohort& TheCohort() {
  static const Cohort cohort(11, Shape());
  return cohort;
}

// One honest client in one session. It is a function of the questions it was asked, which the
// fuzzer repeats over and over, so answers are kept from session to session, and a contributor
// works only when a question is new.
class HonestClient {
 public:
  explicit HonestClient(size_t number) : number_(number) {}

  Result<Bytes> Answer(const Bytes& question) {
    static std::map<Digest, Result<Bytes>> known;
    questions_.push_back(question);
    const Digest content = crypto::Sha256(question);
    history_.insert(history_.end(), content.begin(), content.end());
    const Digest key =
        crypto::LabeledHash("CHORUS1/test", {Bytes{static_cast<uint8_t>(number_)}, history_});
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
  void Begin() {
    const Cohort& cohort = TheCohort();
    rng_ = crypto::NewSeededRng(cohort.Secret("keys", number_).Reveal());
    ContributorOptions options;
    options.coordinator = cohort.coordinator;
    options.expected = cohort.params;
    options.honest_min = 1;
    options.identity_seed = cohort.identities[number_].Reveal();
    options.evidence = {1, 2, 3};
    options.verifier = &cohort.verifier;
    options.rng = rng_.get();
    options.input = math::ZeroVector(Shape().dim, Shape().bits);
    for (uint64_t j = 0; j < Shape().dim; ++j) {
      math::SetSigned(options.input, j, cohort.inputs[number_][j]);
    }
    Result<std::unique_ptr<Contributor>> made = NewContributor(std::move(options));
    Require(made.ok(), "a contributor is made");
    contributor_ = *std::move(made);
  }

  size_t number_;
  Bytes history_;  // digests of the questions
  std::vector<Bytes> questions_;
  std::unique_ptr<Rng> rng_;
  std::unique_ptr<Contributor> contributor_;
  size_t answered_ = 0;  // questions that the contributor has seen
};

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
  explicit Client(size_t number) : honest(number) {}
  HonestClient honest;
  std::vector<Bytes> answers;
  Digest sid{};
  Index index = 0;
  uint32_t n = 0;
  bool out = false;       // silent or refused in some row
  bool believed = false;  // a lie of its was taken
};

using Vector = std::vector<uint64_t>;  // modulo 2^bits

class Session {
 public:
  explicit Session(Choices& choices) {
    for (uint32_t left = choices.Below(4); left > 0; --left) {
      const size_t client = choices.Below(kClients);
      const size_t row = choices.Below(kRows);
      const auto kind = static_cast<Kind>(choices.Below(static_cast<size_t>(Kind::kKinds)));
      lies_[{row, client}] = {kind, choices.Take(16)};
    }
    for (size_t client = 0; client < kClients; ++client) clients_.emplace_back(client);
    AggregatorOptions options;
    options.params = TheCohort().params;
    options.signing_seed = TheCohort().signing_seed.Reveal();
    options.verifier = &TheCohort().verifier;
    for (PartyId i = 0; i < kClients; ++i) options.parties.push_back(Cohort::kFirstParty + i);
    Result<std::unique_ptr<Aggregator>> made = NewAggregator(std::move(options));
    Require(made.ok(), "an aggregator is made");
    aggregator_ = *std::move(made);
  }

  void Run() {
    for (size_t row = 0; row < kRows; ++row) {
      const Result<std::vector<Question>> questions = aggregator_->Ask();
      Require(questions.ok(), "an open session asks");
      HearLate(*questions);
      std::set<size_t> asked;
      for (const Question& question : *questions) {
        asked.insert(static_cast<size_t>(question.to - Cohort::kFirstParty));
        Answer(row, question);
      }
      for (size_t client = 0; client < kClients; ++client) {
        Require(asked.contains(client) || clients_[client].out, "who answered is asked on");
      }
      const Status closed = aggregator_->Close();
      if (closed.ok()) continue;
      Require(closed.code() == Code::kAborted, "a row that cannot go on aborts");
      Require(!MustSucceed(), "refused answers do not end the session");
      Require(!aggregator_->Ask().ok() && !aggregator_->Finish().ok(),
              "an aborted session is spent");
      return;
    }
    Require(aggregator_->done(), "the last row ends the session");
    CheckSum(aggregator_->Finish());
    Require(!aggregator_->Finish().ok(), "a sum opens once");
  }

 private:
  // Whoever missed a row is out, and what it says afterwards is not heard.
  void HearLate(const std::vector<Question>& questions) {
    for (const auto& [client, answer] : late_) {
      const PartyId party = Cohort::kFirstParty + client;
      const bool asked = std::any_of(questions.begin(), questions.end(),
                                     [party](const Question& q) { return q.to == party; });
      Require(!asked, "who missed a row is not asked again");
      Require(aggregator_->Hear(party, answer).code() == Code::kNotFound, "nor is it heard");
    }
    late_.clear();
  }

  void Answer(size_t row, const Question& question) {
    const auto client = static_cast<size_t>(question.to - Cohort::kFirstParty);
    Client& state = clients_[client];
    if (row == kShares) LearnRoster(state, question.body);
    const Result<Bytes> honest = state.honest.Answer(question.body);
    if (!honest.ok()) {
      state.out = true;
      // Only lies that were believed can make an honest client give up.
      Require(AnyBelieved(), "honest clients go on");
      return;
    }
    Require(honest->size() <= question.answer_bytes_max, "an honest answer fits its bound");
    state.answers.push_back(*honest);
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
        visible_ = row <= kInput;  // signed as a whole
        return Say(row, client, changed, honest);
      }
      case Kind::kReplayed: {
        const Client& other = clients_[detail.Below(kClients)];
        return Say(row, client, other.answers.size() > row ? other.answers[row] : Bytes(), honest);
      }
      case Kind::kOld:
        return Say(row, client, state.answers[detail.Below(state.answers.size())], honest);
      case Kind::kTwice: {
        Say(row, client, honest, honest);
        const Bytes other = Changed(row, client, detail, honest, true);
        const Status second = aggregator_->Hear(Cohort::kFirstParty + client, other);
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
    const Status heard = aggregator_->Hear(Cohort::kFirstParty + client, said);
    Require(heard.code() != Code::kInternal, "no answer reaches a broken invariant");
    Require(heard.ok() || said != honest || AnyBelieved(), "honest answers are heard");
    Require(!heard.ok() || said == honest || !visible_, "what can be seen is refused");
    visible_ = false;
    if (!heard.ok()) {
      state.out = true;
    } else if (said != honest) {
      state.believed = true;
    }
    if (row == kInput && heard.ok()) Count(client, said, honest);
  }

  // Adds the input of `client`, and by how much what it sent differs from its honest masked input.
  void Count(size_t client, const Bytes& said, const Bytes& honest) {
    ++contributors_;
    const Vector sent = Packed(said);
    const Vector due = Packed(honest);
    for (size_t j = 0; j < expected_.size(); ++j) {
      expected_[j] += static_cast<uint64_t>(TheCohort().inputs[client][j]) + sent[j] - due[j];
    }
  }

  static Vector Packed(const Bytes& answer) {
    const uint64_t size = math::PackedBytes(Shape().dim, Shape().bits);
    const Result<Masked> masked = DecodeMasked(answer, kClients, size);
    Require(masked.ok(), "what was heard decodes");
    RingVector values = math::ZeroVector(Shape().dim, Shape().bits);
    Require(math::AddPacked(values, masked->packed, Shape().bits).ok(), "what was heard unpacks");
    Vector words;
    for (uint64_t j = 0; j < Shape().dim; ++j) {
      words.push_back(static_cast<uint64_t>(math::SignedAt(values, j, Shape().bits)));
    }
    return words;
  }

  void LearnRoster(Client& state, const Bytes& question) {
    const Result<RosterAndPeers> roster = DecodeRoster(question, kClients);
    Require(roster.ok(), "a roster that is sent decodes");
    const Bytes params = EncodeParams(TheCohort().params);
    const Digest sid0 = crypto::LabeledHash("CHORUS1/sid0", {params});
    state.sid = SessionId(sid0, roster->n, roster->root);
    state.index = roster->index;
    state.n = roster->n;
  }

  Bytes Changed(size_t row, size_t client, Choices& choices, const Bytes& honest, bool sign) {
    const BytesView seed = TheCohort().identities[client].Reveal();
    const Client& state = clients_[client];
    switch (row) {
      case kKeys:
        return ChangedKeys(choices, *DecodeAdvertise(honest), seed, sign);
      case kShares:
        return ChangedShares(choices, *DecodeShares(honest, state.n), state, seed, sign);
      case kInput:
        return ChangedInput(choices, honest, state, seed, sign);
      case kAcks:
        return ChangedAcks(choices, *DecodeAcks(honest, state.n), state);
      default:
        return ChangedUnmask(choices, *DecodeUnmask(honest, state.n, state.index + 1), state);
    }
  }

  Bytes ChangedKeys(Choices& choices, Advertise said, BytesView seed, bool sign) {
    const size_t other = choices.Below(kClients);
    const Bytes& others = clients_[other].answers.empty() ? Bytes() : clients_[other].answers[0];
    const Result<Advertise> its = DecodeAdvertise(others);
    PublicKey& key = choices.Flag() ? said.s : said.c;
    const uint32_t what = choices.Below(9);
    visible_ = !sign || what < 4 || what == 5 || what == 7;
    switch (what) {
      case 0:
        key = {};
        break;
      case 1:
        key = {1};
        break;
      case 2:
        key.fill(0xff);
        break;
      case 3:
        said.s = said.c;
        break;
      case 4:
        if (its.ok()) key = choices.Flag() ? its->c : its->s;
        break;
      case 5:
        if (its.ok()) said.id = its->id;
        break;
      case 6:
        said.evidence = Bytes(choices.Below(5'000), 7);
        break;
      case 7:
        said.sid0[choices.Below(32)] ^= 1U;
        break;
      default:
        // Keys that nobody has the secret of.
        key = crypto::X25519Public(fuzz::Key("unknown", choices.Byte()).Reveal());
    }
    if (sign) said.signature = crypto::Ed25519Sign(seed, AdvertiseMessage(said));
    return Encode(said);
  }

  Bytes ChangedShares(Choices& choices, Shares shares, const Client& state, BytesView seed,
                      bool sign) {
    auto& entry = shares.sealed[choices.Below(shares.sealed.size())];
    const uint32_t what = choices.Below(6);
    visible_ = !sign || what == 2 || what == 3 || what == 5;
    switch (what) {
      case 0:
        shares.commitment[0] ^= 1U;
        break;
      case 1:
        entry.second[choices.Below(kSealedSharesBytes)] ^= 1U;
        break;
      case 2:
        entry.first = choices.Below(kClients + 1);
        break;
      case 3:
        shares.sealed.pop_back();
        break;
      case 4:
        for (auto& [index, sealed] : shares.sealed) sealed[0] ^= choices.Flag() ? 1U : 0U;
        break;
      default:
        shares.sealed.push_back(entry);
    }
    if (sign) {
      shares.signature = crypto::Ed25519Sign(seed, SharesMessage(state.sid, state.index, shares));
    }
    return Encode(shares);
  }

  Bytes ChangedInput(Choices& choices, const Bytes& honest, const Client& state, BytesView seed,
                     bool sign) {
    const uint64_t size = math::PackedBytes(Shape().dim, Shape().bits);
    Masked masked = *DecodeMasked(honest, state.n, size);
    Bytes packed(masked.packed.begin(), masked.packed.end());
    auto& edge = masked.edges[choices.Below(masked.edges.size())];
    const uint32_t what = choices.Below(7);
    visible_ = !sign || what == 1 || what == 3 || what == 4 || what == 6;
    switch (what) {
      case 0:
        packed[choices.Below(packed.size())] ^= static_cast<uint8_t>(1U + choices.Byte());
        break;
      case 1:
        packed.pop_back();
        break;
      case 2:
        edge.second[0] ^= 1U;
        break;
      case 3:
        edge.first = choices.Below(kClients + 1);
        break;
      case 4:
        masked.edges.pop_back();
        break;
      case 5:
        for (Index v = 0; v < state.n; ++v) {
          if (v != state.index && choices.Flag()) masked.failed.push_back(v);
        }
        break;
      default:
        masked.sid[choices.Below(32)] ^= 1U;
    }
    masked.packed = packed;
    if (sign) {
      masked.signature = crypto::Ed25519Sign(seed, MaskedMessage(state.index, masked));
    }
    return Encode(masked);
  }

  Bytes ChangedAcks(Choices& choices, Acks acks, const Client& state) {
    if (acks.acks.empty()) return {};
    const size_t at = choices.Below(acks.acks.size());
    const uint32_t what = choices.Below(5);
    visible_ = what >= 2;
    switch (what) {
      case 0:
        acks.acks[at].second[0] ^= 1U;
        break;
      case 1:
        acks.refused.push_back(acks.acks[at].first);
        acks.acks.erase(acks.acks.begin() + static_cast<std::ptrdiff_t>(at));
        break;
      case 2:
        acks.acks[at].first = state.index;
        break;
      case 3:
        acks.acks.pop_back();
        break;
      default:
        acks = {};
    }
    return Encode(acks);
  }

  Bytes ChangedUnmask(Choices& choices, std::vector<UnmaskEntry> entries, const Client& state) {
    if (entries.empty()) return {};
    UnmaskEntry& entry = entries[choices.Below(entries.size())];
    const uint32_t what = choices.Below(6);
    visible_ = what >= 1 && what <= 3;
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
  static void Shift(UnmaskEntry& entry, const Client& state) {
    const Result<GraphParams> graph = CompleteGraph(state.n, Shape().gamma_ppm, Shape().delta_ppm);
    if (!graph.ok()) return;
    std::vector<uint32_t> xs;
    size_t mine = graph->t;
    for (Index v = 0; v < state.n && xs.size() < graph->t; ++v) {
      if (v == entry.owner) continue;
      if (v == state.index) mine = xs.size();
      xs.push_back(v + 1);
    }
    if (mine == graph->t) return;
    const uint64_t step = math::FieldInverse(math::LagrangeAtZero(xs)[mine]);
    entry.share.y[0] = math::FieldAdd(entry.share.y[0], step);
  }

  bool AnyBelieved() const {
    return std::any_of(clients_.begin(), clients_.end(),
                       [](const Client& client) { return client.believed; });
  }

  // One of seven may be missing twice, see Shape: A = 1, D = 2, t = 4, and a roster of six or five
  // bears one still.
  bool MustSucceed() const {
    const auto out = std::count_if(clients_.begin(), clients_.end(),
                                   [](const Client& client) { return client.out; });
    return !AnyBelieved() && out <= 2;
  }

  void CheckSum(const Result<Sum>& sum) const {
    Require(sum.ok() || sum.status().code() == Code::kAborted, "a sum opens or aborts");
    Require(sum.ok() || !MustSucceed(), "refused answers do not spoil the sum");
    if (!sum.ok()) return;
    Require(sum->contributors == contributors_, "the sum is over those who were heard");
    const uint64_t mask = (uint64_t{1} << static_cast<unsigned>(Shape().bits)) - 1;
    for (uint64_t j = 0; j < Shape().dim; ++j) {
      const auto value = static_cast<uint64_t>(math::SignedAt(sum->values, j, Shape().bits));
      Require(((value ^ expected_[j]) & mask) == 0, "an opened sum is exact");
    }
  }

  std::map<std::pair<size_t, size_t>, Lie> lies_;  // by row and client
  std::unique_ptr<Aggregator> aggregator_;
  std::vector<Client> clients_;
  std::map<size_t, Bytes> late_;
  Vector expected_ = Vector(Shape().dim, 0);
  uint32_t contributors_ = 0;
  bool visible_ = false;  // what is about to be said shows its lie to whoever hears it
};

}  // namespace

void RunSession(BytesView input) {
  Choices choices(input);
  Session(choices).Run();
}

}  // namespace chorus::aggregation

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chorus::aggregation::RunSession({data, size});
  return 0;
}
