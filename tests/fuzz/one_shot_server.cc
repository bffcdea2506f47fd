// One OneShot aggregator against four to six clients and a committee of four or seven, of whom up
// to three lie: each lie changes, replays, doubles, delays or withholds one answer, with the liar's
// true signature over it or without, and answers arrive in any order. Laws: nothing crashes; what
// is refused harms only its sender, so that the sum opens as long as no more are missing than the
// parameters allow, one believed liar besides; an opened sum is exactly that of the survivors, who
// are all that nobody complained of, a liar's vector being what its ciphertext opens to; whatever
// else is kAborted; who is named gave cause for it.
#include <algorithm>
#include <map>
#include <set>

#include "one_shot_liar.h"

namespace chorus::aggregation {
namespace {

using fuzz::Choices;
using fuzz::Require;

constexpr size_t kLiarsMax = 3;

enum class Kind : uint8_t {
  kHonest,
  kSilent,
  kChanged,   // fields, and the signature over them true
  kUnsigned,  // fields, and the signature not
  kBytes,
  kReplayed,  // another party's answer to the same row
  kOld,       // its own answer to an earlier row
  kTwice,     // the honest one, then another
  kLate,      // in the next row
  kKinds
};

struct PartyLie {
  Kind kind = Kind::kHonest;
  BytesView detail;
};

// What the session knows of one client or member.
struct Party {
  explicit Party(HonestParty::Is who) : is(who), honest(who) {}
  HonestParty::Is is;
  HonestParty honest;
  std::vector<Bytes> answers = std::vector<Bytes>(5);  // honest ones, by row
  Positions complaints;                                // of a member: as they were heard
  bool out = false;                                    // silent, refused or left out
  bool believed = false;                               // a lie of its was taken
  bool lies = false;
};

class Session {
 public:
  Session(Size size, Choices& choices) : size_(size), cohort_(CohortOf(size)), choices_(choices) {
    for (size_t i = 0; i < size.clients; ++i)
      parties_.emplace_back(HonestParty::Is{size, false, i});
    for (size_t j = 0; j < size.members; ++j) parties_.emplace_back(HonestParty::Is{size, true, j});
    const uint32_t spare = size.members - MembersNeeded(cohort_.params.committee);
    uint32_t absent = choices.Below(spare + 1);
    for (uint32_t left = choices.Below(kLiarsMax + 1); left > 0; --left) {
      const size_t party = choices.Below(parties_.size());
      const size_t member_rows[] = {kKeysStep, kComplaintsStep, kVotesStep, kOpeningStep};
      const size_t row = choices.Below(4);
      const auto kind = static_cast<Kind>(choices.Below(static_cast<size_t>(Kind::kKinds)));
      const bool member = parties_[party].is.member;
      lies_[{member ? member_rows[row] : kInputStep, party}] = {kind, choices.Take(16)};
      parties_[party].lies = true;
    }
    AggregatorOptions options;
    options.params = cohort_.params;
    options.signing_seed = cohort_.signing_seed.Reveal();
    options.verifier = &cohort_.verifier;
    options.blame = &blame_;
    options.committee_ids = cohort_.committee_ids;
    for (size_t i = 0; i < size.clients; ++i) options.parties.push_back(IdOf(i));
    for (size_t j = size.members; j > 0; --j) {
      Party& member = parties_[size.clients + j - 1];
      member.out = absent > 0;
      if (absent > 0) {
        --absent;
      } else {
        options.committee.push_back({IdOf(size.clients + j - 1), static_cast<uint32_t>(j)});
      }
    }
    Result<std::unique_ptr<Aggregator>> made = NewAggregator(std::move(options));
    Require(made.ok(), "an aggregator is made");
    aggregator_ = *std::move(made);
  }

  void Run() {
    for (row_ = 0; row_ < 5; ++row_) {
      const Result<std::vector<Question>> questions = aggregator_->Ask();
      Require(questions.ok(), "an open session asks");
      HearLate();
      CheckAsked(*questions);
      LearnSession(*questions);
      for (const Question& question : InAnyOrder(*questions)) Answer(question);
      const Status closed = aggregator_->Close();
      if (closed.ok()) continue;
      Require(closed.code() == Code::kAborted, "a row that cannot go on aborts");
      Require(!MustGoOn(), "refused answers do not end the session");
      Require(!aggregator_->Ask().ok() && !aggregator_->Finish().ok(),
              "an aborted session is spent");
      return CheckBlame();
    }
    Require(aggregator_->done(), "the last row ends the session");
    const Result<Sum> sum = aggregator_->Finish();
    CheckSum(sum);
    Require(!aggregator_->Finish().ok(), "a sum opens once");
    CheckBlame();
  }

 private:
  PartyId IdOf(size_t party) const {
    if (party < size_.clients) return Cohort::kFirstParty + party;
    return Cohort::kFirstMember + party - size_.clients;
  }
  size_t Place(PartyId id) const {
    if (id < Cohort::kFirstMember) return id - Cohort::kFirstParty;
    return size_.clients + id - Cohort::kFirstMember;
  }

  std::vector<Question> InAnyOrder(std::vector<Question> questions) {
    const auto first = static_cast<std::ptrdiff_t>(choices_.Below(questions.size()));
    std::rotate(questions.begin(), questions.begin() + first, questions.end());
    if (choices_.Flag()) std::reverse(questions.begin(), questions.end());
    return questions;
  }

  // Who is asked: every client once, and the members that missed nothing so far.
  void CheckAsked(const std::vector<Question>& questions) {
    std::set<size_t> asked;
    for (const Question& question : questions) asked.insert(Place(question.to));
    for (size_t place = 0; place < parties_.size(); ++place) {
      Party& party = parties_[place];
      const bool of_row = party.is.member != (row_ == kInputStep);
      const bool due = of_row && !party.out;
      Require(due || !asked.contains(place), "nobody else is asked");
      if (!due || asked.contains(place)) continue;
      Require(row_ == kVotesStep && !party.complaints.empty(),
              "only who complains is left out without having missed anything");
      party.out = true;
    }
    const Bytes nothing;
    Require(aggregator_->Hear(7, nothing).code() == Code::kNotFound, "strangers are not heard");
  }

  // Whoever missed a row is out, and what it says afterwards is not heard.
  void HearLate() {
    for (const auto& [place, answer] : late_) {
      Require(aggregator_->Hear(IdOf(place), answer).code() == Code::kNotFound,
              "who missed a row is not heard in the next");
    }
    late_.clear();
  }

  // What the questions of a row tell everybody.
  void LearnSession(const std::vector<Question>& questions) {
    if (questions.empty()) return;
    const Bytes question = *aggregator_->Body(questions.front().to);
    const BytesView all = question;
    const CommitteeParams& shape = cohort_.params.committee;
    if (row_ == kInputStep) {
      const auto list = DecodeCommittee(all.subspan(OfferBytes(Protocol::kOneShot)), shape.members);
      Require(list.ok(), "the committee that is shown decodes");
      sid_ = OneShotSessionId(all.first(kOneShotParamsBytes), CommitteeRoot(*list));
      const auto present = static_cast<uint64_t>(
          std::count_if(list->begin(), list->end(), [](const auto& e) { return e.present(); }));
      shape_ = {.shares_bytes = present * SealedShareBytes(shape),
                .packed_bytes = EncodingOf(cohort_.params).ciphertext_bytes()};
    } else if (row_ == kVotesStep) {
      LearnSurvivors(question);
    }
  }

  // The survivors are all that nobody complained of, at least, and what they sent adds up.
  void LearnSurvivors(const Bytes& question) {
    const auto survivors = DecodeSurvivorMap(question, static_cast<uint32_t>(heard_.size()));
    Require(survivors.ok(), "the survivors are of those that were heard");
    std::set<uint32_t> accused;
    for (const Party& party : parties_) {
      accused.insert(party.complaints.begin(), party.complaints.end());
    }
    std::vector<Digest> leaves;
    uint32_t position = 0;
    for (const auto& [id, sent] : heard_) {
      const bool survives = std::binary_search(survivors->begin(), survivors->end(), position);
      Require(survives || accused.contains(position), "who is left out was complained of");
      ++position;
      if (!survives) continue;
      leaves.push_back(ContributionLeaf(sent.header));
      for (size_t k = 0; k < expected_.size(); ++k) expected_[k] += sent.input[k];
      wrong_dealt_.insert(sent.wrong_dealt.begin(), sent.wrong_dealt.end());
      error_ += sent.error;
      fatal_ = fatal_ || sent.fatal;
    }
    survivors_ = {crypto::MerkleRoot(leaves), static_cast<uint32_t>(leaves.size())};
  }

  void Answer(const Question& question) {
    const size_t place = Place(question.to);
    Party& party = parties_[place];
    Result<Bytes> body = aggregator_->Body(question.to);
    Require(body.ok(), "who is asked has a question");
    Require(*aggregator_->Body(question.to) == *body, "the same each time");
    question_ = *body;
    const Result<Bytes> honest = party.honest.Answer(*std::move(body));
    if (!honest.ok()) {
      party.out = true;
      Require(party.believed, "only a believed lie makes its own party give up");
      return;
    }
    Require(honest->size() <= question.answer_bytes_max, "an honest answer fits its bound");
    party.answers[row_] = *honest;
    const auto lie = lies_.find({row_, place});
    Told told;
    told.answer = *honest;
    if (!party.is.member) told.input = cohort_.inputs[party.is.number];
    if (lie == lies_.end()) return Say(place, told, *honest);
    Choices detail(lie->second.detail);
    Tell(place, lie->second.kind, detail, *std::move(honest));
  }

  void Tell(size_t place, Kind kind, Choices& detail, const Bytes& honest) {
    Party& party = parties_[place];
    Told told;
    told.answer = honest;
    if (!party.is.member) told.input = cohort_.inputs[party.is.number];
    switch (kind) {
      case Kind::kSilent:
        party.out = true;
        return;
      case Kind::kChanged:
      case Kind::kUnsigned:
        return Say(place, Changed(place, detail, honest, kind == Kind::kChanged), honest);
      case Kind::kBytes:
        fuzz::Mutate(detail, told.answer);
        told.visible = row_ != kComplaintsStep && !OnlyEvidence(told.answer, honest);
        return Say(place, told, honest);
      case Kind::kReplayed:
        told.answer = Other(place, detail).answers[row_];
        return Say(place, told, honest);
      case Kind::kOld:
        told.answer = party.answers[detail.Below(row_ + 1)];
        told.visible = true;
        return Say(place, told, honest);
      case Kind::kTwice: {
        Say(place, told, honest);
        if (party.out) return;
        const bool sign = !detail.Flag();
        const Told other = Changed(place, detail, honest, sign);
        const Status second = aggregator_->Hear(IdOf(place), other.answer);
        Require(second.code() == Code::kAlreadyExists, "an answer is heard once");
        return;
      }
      case Kind::kLate:
        party.out = true;
        late_[place] = honest;
        return;
      default:
        return Say(place, told, honest);
    }
  }

  // A contribution's evidence is the verifier's to judge: no signature covers it.
  bool OnlyEvidence(const Bytes& said, const Bytes& honest) const {
    if (row_ != kInputStep) return false;
    const auto now = DecodeContribution(said, shape_);
    const auto then = DecodeContribution(honest, shape_);
    if (!now.ok() || !then.ok()) return false;
    OsaContribution same = *now;
    same.evidence = then->evidence;
    return Encode(same) == honest;
  }

  const Party& Other(size_t place, Choices& detail) const {
    const bool member = parties_[place].is.member;
    const size_t other = detail.Below(member ? size_.members : size_.clients);
    return parties_[member ? size_.clients + other : other];
  }

  Told Changed(size_t place, Choices& detail, const Bytes& honest, bool sign) {
    OneShotLiar liar(detail, {size_, parties_[place].is.number, sign});
    switch (row_) {
      case kKeysStep: {
        const auto other = DecodeCommitteeKey(Other(place, detail).answers[kKeysStep]);
        const Digest sid0 = crypto::LabeledHash("CHORUS1/sid0", {EncodeParams(cohort_.params)});
        const bool taken = other.ok() && keys_.contains(other->key);
        return liar.Key(*DecodeCommitteeKey(honest), sid0, taken ? &*other : nullptr);
      }
      case kInputStep:
        return liar.Contribution(honest, question_, shape_);
      case kComplaintsStep:
        return liar.Complaints(static_cast<uint32_t>(heard_.size()));
      case kVotesStep:
        return liar.Vote(sid_, survivors_);
      default:
        return liar.Opening(honest, sid_, survivors_.root);
    }
  }

  // Hears what `told` says, where an honest party would have said `honest`.
  void Say(size_t place, Told told, const Bytes& honest) {
    Party& party = parties_[place];
    const Status heard = aggregator_->Hear(IdOf(place), told.answer);
    Require(heard.code() != Code::kInternal, "no answer reaches a broken invariant");
    const bool lied = told.answer != honest;
    Require(heard.ok() || lied || (row_ == kInputStep && stolen_) ||
                (row_ == kKeysStep && AnyBelieved()),
            "honest answers are heard");
    Require(!heard.ok() || !lied || !told.visible, "what can be seen is refused");
    party.out = !heard.ok();
    if (!heard.ok()) return;
    Require(aggregator_->Body(IdOf(place)).status().code() == Code::kNotFound,
            "who was heard has no question left");
    party.believed = party.believed || lied;
    if (row_ == kKeysStep) keys_.insert(DecodeCommitteeKey(told.answer)->key);
    if (row_ == kInputStep) Count(party, std::move(told));
    if (row_ == kComplaintsStep) {
      const auto count = static_cast<uint32_t>(heard_.size());
      const auto complaints = DecodeComplaints(told.answer, count);
      Require(complaints.ok(), "what was heard decodes");
      party.complaints = *complaints;
    }
    if (row_ != kOpeningStep) return;
    ++opened_;
    if (lied) wrong_opened_.insert(static_cast<uint32_t>(party.is.number + 1));
  }

  // By the identity that signed it: a contribution that another party brought counts as well.
  void Count(const Party& party, Told told) {
    const auto said = DecodeContribution(told.answer, shape_);
    Require(said.ok(), "what was heard decodes");
    const size_t owner = OwnerOf(said->header.id);
    if (owner != party.is.number) {
      stolen_ = true;
      told.input = cohort_.inputs[owner];
    }
    const Sent sent{said->header, told.input, told.wrong_dealt, told.error, told.fatal};
    const bool fresh = heard_.emplace(said->header.id, sent).second;
    Require(fresh, "an identity is heard once");
  }

  size_t OwnerOf(const PublicKey& id) const {
    for (size_t i = 0; i < size_.clients; ++i) {
      if (crypto::Ed25519Public(cohort_.identities[i].Reveal()) == id) return i;
    }
    Require(false, "a stranger's contribution is refused");
    return 0;
  }

  size_t Believed() const {
    return static_cast<size_t>(std::count_if(parties_.begin(), parties_.end(),
                                             [](const Party& party) { return party.believed; }));
  }
  bool AnyBelieved() const { return Believed() > 0; }

  // As many members as the table's row spares may be missing or lie, and clients above n_min: one
  // believed liar costs its own part, or a client that it complains of.
  bool MustGoOn() const {
    if (Believed() > 1 || stolen_) return false;
    const auto lost = std::count_if(parties_.begin(), parties_.end(), [](const Party& party) {
      return party.is.member && (party.out || party.believed);
    });
    const size_t clients = heard_.size() - (AnyBelieved() ? 1 : 0);
    const uint32_t needed = MembersNeeded(cohort_.params.committee);
    return size_.members - static_cast<size_t>(lost) >= needed &&
           (row_ < kInputStep || (heard_.size() > 0 && clients >= cohort_.params.n_min));
  }

  bool MustOpen() const {
    const uint32_t threshold = RowOf(cohort_.params.committee)->threshold();
    return MustGoOn() && !fatal_ && 2 * wrong_opened_.size() <= opened_ - threshold;
  }

  void CheckBlame() const {
    for (const Blame& blame : blame_) {
      const Party& party = parties_[Place(blame.party)];
      switch (blame.cause) {
        case Blame::Cause::kEquivocated:
          Require(party.lies && blame.first.message != blame.second.message &&
                      crypto::Ed25519Verify(blame.id, blame.first.message, blame.first.signature) &&
                      crypto::Ed25519Verify(blame.id, blame.second.message, blame.second.signature),
                  "who is said to have signed two things did");
          break;
        case Blame::Cause::kWrongShare: {
          const auto index = static_cast<uint32_t>(party.is.number + 1);
          Require(
              party.is.member && (wrong_opened_.contains(index) || wrong_dealt_.contains(index)),
              "who is said to have opened a wrong share did, or was dealt one");
          break;
        }
        case Blame::Cause::kDeniedShares:
          Require(party.is.member && !party.complaints.empty() && AnyBelieved(),
                  "a member is left out for its complaints");
          break;
        default:
          Require(blame.cause == Blame::Cause::kUnusableShares && !party.is.member && AnyBelieved(),
                  "a client is left out for others' complaints");
      }
    }
  }

  void CheckSum(const Result<Sum>& sum) const {
    Require(sum.ok() || sum.status().code() == Code::kAborted, "a sum opens or aborts");
    Require(sum.ok() || !MustOpen(), "refused answers do not spoil the sum");
    if (!sum.ok()) return;
    Require(sum->contributors == survivors_.count, "the sum is over the survivors");
    CheckValues(sum->values);
    if (!wrong_dealt_.empty()) return;
    std::set<uint32_t> named;
    for (const Blame& blame : blame_) {
      if (blame.cause != Blame::Cause::kWrongShare) continue;
      named.insert(static_cast<uint32_t>(parties_[Place(blame.party)].is.number + 1));
    }
    Require(named == wrong_opened_, "who opened a wrong share is named");
  }

  // What liars added to the error of the first coefficient is small, or has gone round: q is
  // 2^14 * T less a number below T, which each time round adds to the fields, as if the liars had
  // chosen other vectors.
  void CheckValues(const RingVector& values) const {
    constexpr unsigned kErrorBits = 14;
    const math::RlweParameters& set = math::RlweParametersFor(math::RlweSet::kOsa4096);
    const uint64_t rounds = (error_ + (1U << (kErrorBits - 1))) >> kErrorBits;
    const auto left = static_cast<int64_t>(error_) - static_cast<int64_t>(rounds << kErrorBits);
    const int64_t hidden = math::RlweErrorBound(survivors_.count);
    Require(std::abs(left) <= 2 * hidden, "an error that no honest clients add up to is refused");
    __extension__ using Wide = unsigned __int128;
    const Wide round =
        (Wide{1} << (set.plaintext_bits + kErrorBits)) - Wide{set.primes[0]} * Wide{set.primes[1]};
    const uint64_t fields = EncodingOf(cohort_.params).fields();
    const auto bits = static_cast<unsigned>(cohort_.params.bits);
    Wide off = 0;  // the first coefficient, less what it should be
    for (size_t k = 0; k < expected_.size(); ++k) {
      const int64_t wrong = math::SignedAt(values, k, cohort_.params.bits) - expected_[k];
      Require(wrong == 0 || (k < fields && rounds > 0), "an opened sum is exact");
      if (k < fields) off += static_cast<Wide>(wrong) << (k * bits);
    }
    const Wide mask = (Wide{1} << (fields * bits)) - 1;
    Require((off & mask) == (rounds * round & mask), "an opened sum is exact");
  }

  // A contribution that was heard.
  struct Sent {
    ContributionHeader header;
    std::vector<int64_t> input;
    std::set<uint32_t> wrong_dealt;
    uint64_t error = 0;
    bool fatal = false;
  };

  const Size size_;
  Cohort& cohort_;
  Choices& choices_;
  size_t row_ = 0;
  std::map<std::pair<size_t, size_t>, PartyLie> lies_;  // by row and party
  std::vector<Party> parties_;                          // clients, then members
  std::map<size_t, Bytes> late_;
  std::vector<Blame> blame_;
  std::unique_ptr<Aggregator> aggregator_;
  Bytes question_;  // that is being answered
  Digest sid_{};
  ContributionShape shape_;
  std::set<PublicKey> keys_;
  std::map<PublicKey, Sent> heard_;  // ascending by identity, as members see them
  bool stolen_ = false;              // a party brought another's contribution
  SurvivorSet survivors_;
  std::vector<int64_t> expected_ = std::vector<int64_t>(kDim);
  std::set<uint32_t> wrong_dealt_;   // by survivors: members, from 1
  uint64_t error_ = 0;               // by survivors: of the first coefficient
  bool fatal_ = false;               // a survivor's lie may cost the sum
  std::set<uint32_t> wrong_opened_;  // members, from 1
  size_t opened_ = 0;
};

}  // namespace

void RunSession(BytesView input) {
  Choices choices(input);
  Size size;
  size.clients += choices.Below(kMostClients - kFewestClients + 1);
  size.members = choices.Flag() ? 7 : 4;
  Session(size, choices).Run();
}

}  // namespace chorus::aggregation

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chorus::aggregation::RunSession({data, size});
  return 0;
}
