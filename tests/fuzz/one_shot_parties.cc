// One honest client, or one honest member of the committee, of OneShot under a coordinator that
// controls everybody else, signs what it likes, and lies as the input chooses. Laws: nothing
// crashes, nothing is sent after an error, what a client sends opens to its input alone and only
// with keys that the task's members signed, a member votes once a session, and opens exactly the
// sum that it voted on, with a quorum for exactly that set.
#include <algorithm>
#include <map>
#include <set>

#include "one_shot_cohort.h"

namespace chorus::aggregation {
namespace {

using fuzz::Choices;
using fuzz::Require;

constexpr Size kSize{.clients = 5, .members = 4};
constexpr size_t kVictim = 0;  // among clients, or members

Cohort& World() { return CohortOf(kSize); }
const CommitteeParams& Committee() { return World().params.committee; }

crypto::X25519Key PuppetKey(size_t member) {
  return crypto::X25519Key(fuzz::Key("kx", static_cast<uint8_t>(member)).Reveal());
}

Digest Sid0(BytesView params) { return crypto::LabeledHash("CHORUS1/sid0", {params}); }

// The offer that the coordinator signs: as agreed, or with a field changed.
struct Offer {
  Bytes bytes;  // with the signature
  BytesView params() const { return BytesView(bytes).first(kOneShotParamsBytes); }
};

Bytes ParamsOf(Choices& choices) {
  SessionParams p = World().params;
  switch (choices.Below(16)) {
    case 1:
      p.n_min = choices.Flag() ? static_cast<uint32_t>(choices.Number()) : 3 + choices.Below(3);
      break;
    case 2:
      p.n_max = static_cast<uint32_t>(choices.Number());
      break;
    case 3:
      p.a_min = choices.Below(6);
      break;
    case 4:
      p.gamma_ppm = static_cast<uint32_t>(choices.Number());
      break;
    case 5:
      p.vec_len = choices.Number();
      break;
    case 6:
      p.bound = choices.Number();
      break;
    case 7:
      p.bits = choices.Byte();
      break;
    case 8:
      p.task_hash[choices.Below(32)] ^= 1U;
      break;
    case 9:
      p.model_hash[choices.Below(32)] ^= 1U;
      break;
    case 10:
      p.committee = *CommitteeOf({.set = OneShotSet::kOsa8192, .members = World().committee_ids});
      break;
    case 11:
      p.committee.corrupt_max = static_cast<uint16_t>(choices.Below(9));
      p.committee.packing = static_cast<uint16_t>(choices.Below(9));
      break;
    case 12:
      p.committee.members = static_cast<uint16_t>(choices.Below(300));
      break;
    case 13:
      p.nonce[choices.Below(32)] ^= choices.Byte();
      break;
    case 14:
      ++p.round;
      break;
    case 15: {
      Bytes bytes = EncodeParams(p);
      fuzz::Mutate(choices, bytes);
      bytes.resize(kOneShotParamsBytes);
      return bytes;
    }
    default:
      break;
  }
  return EncodeParams(p);
}

Offer OfferOf(Choices& choices) {
  Offer offer;
  offer.bytes = ParamsOf(choices);
  const Digest words = crypto::LabeledHash("CHORUS1/params", {offer.bytes});
  Signature signature = crypto::Ed25519Sign(World().signing_seed.Reveal(), words);
  if (choices.Byte() >= 0xf8) signature[0] ^= 1U;
  offer.bytes.insert(offer.bytes.end(), signature.begin(), signature.end());
  return offer;
}

// The committee as it is shown: the puppets' keys, and the victim's if it gave one.
CommitteeList CommitteeOfPuppets(Choices& choices, BytesView params, const CommitteeKey* victim) {
  const Digest sid0 = Sid0(params);
  CommitteeList list(kSize.members);
  for (size_t j = 0; j < list.size(); ++j) {
    CommitteeEntry& entry = list[j];
    entry.id = World().committee_ids[j];
    entry.key.key = PuppetKey(j).Public();
    const uint8_t lie = choices.Byte();
    if (lie == 0xff || lie == 0xfe) entry.key = {};
    if (lie == 0xfd) entry.key.key = list[choices.Below(list.size())].key.key;
    if (lie == 0xfc) entry.key.key = {1};
    if (lie == 0xfb) entry.key.key.fill(0xff);
    if (lie == 0xfa) entry.id = World().committee_ids[choices.Below(list.size())];
    if (lie >= 0xf0 && lie < 0xf8) entry.key.key = PuppetKey(j + 10).Public();
    const auto index = static_cast<uint32_t>(j + 1);
    if (entry.present() || lie == 0xfe) {
      entry.key.signature = crypto::Ed25519Sign(World().member_identities[j].Reveal(),
                                                CommitteeKeyMessage(sid0, index, entry.key.key));
    }
    if (lie == 0xf8 || lie == 0xf9) entry.key.signature[choices.Below(sizeof(Signature))] ^= 1U;
    if (victim != nullptr && j == kVictim && lie < 0xf0) entry.key = *victim;
  }
  if (choices.Byte() == 0xff) list.pop_back();
  return list;
}

// What the victim may rely on, whoever it is.
void CheckCommitteeShown(BytesView params, const CommitteeList& list) {
  std::set<PublicKey> keys;
  size_t absent = 0;
  Require(list.size() == kSize.members, "the whole committee is shown");
  for (size_t j = 0; j < list.size(); ++j) {
    const CommitteeEntry& entry = list[j];
    Require(entry.id == World().committee_ids[j], "the committee is the task's");
    absent += entry.present() ? 0U : 1U;
    if (!entry.present()) continue;
    const Digest words =
        CommitteeKeyMessage(Sid0(params), static_cast<uint32_t>(j + 1), entry.key.key);
    Require(crypto::Ed25519Verify(entry.id, words, entry.key.signature),
            "each key is signed by its member");
    Require(keys.insert(entry.key.key).second, "no key is there twice");
  }
  Require(absent <= 1, "enough members gave a key");
}

// --- the client ---------------------------------------------------------------------------------
// The keys that puppets gave open the contribution to the input and nothing else.
void CheckContribution(BytesView question, const Bytes& answer) {
  const BytesView params = question.first(kOneShotParamsBytes);
  const auto list =
      DecodeCommittee(question.subspan(OfferBytes(Protocol::kOneShot)), kSize.members);
  const Result<SessionParams> offered = DecodeParams(params);
  Require(list.ok() && offered.ok(), "only what decodes is answered");
  CheckCommitteeShown(params, *list);
  const SessionParams& agreed = World().params;
  Require(offered->vec_len == agreed.vec_len && offered->bits == agreed.bits &&
              offered->bound == agreed.bound && offered->committee == agreed.committee &&
              offered->task_hash == agreed.task_hash && offered->round == agreed.round &&
              offered->n_min >= agreed.n_min && offered->a_min >= agreed.a_min,
          "the session is the one agreed to");
  std::vector<uint32_t> present;
  for (uint32_t j = 1; j <= list->size(); ++j) {
    if ((*list)[j - 1].present()) present.push_back(j);
  }
  const math::RlweEncoding encoding = EncodingOf(agreed);
  const ContributionShape shape{.shares_bytes = present.size() * SealedShareBytes(Committee()),
                                .packed_bytes = encoding.ciphertext_bytes()};
  const auto said = DecodeContribution(answer, shape);
  Require(said.ok(), "a contribution decodes");
  const ContributionHeader& header = said->header;
  const Digest sid = OneShotSessionId(params, CommitteeRoot(*list));
  Require(header.sid == sid && header.vector_digest == crypto::Sha256(said->packed) &&
              header.shares_digest == crypto::Sha256(said->shares) &&
              crypto::Ed25519Verify(header.id, ContributionMessage(header), said->signature),
          "it is signed for this session");
  std::vector<std::vector<uint64_t>> opened;
  for (size_t slot = 0; slot < present.size(); ++slot) {
    const uint32_t j = present[slot];
    const PublicKey& key = (*list)[j - 1].key.key;
    const crypto::X25519Key mine =
        key == PuppetKey(j - 1).Public() ? PuppetKey(j - 1) : PuppetKey(j + 9);
    Require(mine.Public() == key, "the key is its puppet's");
    const ShareRoute route{header.id, header.ephemeral, j, key};
    const auto sealing = DeriveShareKey(sid, mine, header.ephemeral, route);
    Require(sealing.ok(), "its key agrees");
    const auto share = crypto::AeadOpen(
        sealing->Reveal(), crypto::Nonce{}, OneShotShareData(sid, route, header.vector_digest),
        said->shares.subspan(slot * SealedShareBytes(Committee()), SealedShareBytes(Committee())));
    Require(share.ok(), "each member opens its share");
    opened.push_back(*math::ReadPackedShare(ShareElements(Committee()), share->Reveal()));
  }
  std::vector<math::MemberShare> shares;
  for (size_t i = 0; i < opened.size(); ++i) shares.push_back({present[i], opened[i]});
  const math::RlweRing ring(encoding.set);
  math::CiphertextSum sum(ring, encoding);
  Require(sum.Fold(said->packed).ok(), "a ciphertext folds");
  const auto values = OpenSum(agreed, sid, shares, sum);
  Require(values.ok() && values->wrong.empty(), "what a client sends opens");
  for (size_t k = 0; k < encoding.dim; ++k) {
    Require(math::SignedAt(values->values, k, encoding.bits) == World().inputs[kVictim][k],
            "to its input");
  }
}

void ClientSession(Choices& choices) {
  const auto rng = RngOf(World(), "victim", kVictim);
  ContributorOptions options = World().OptionsFor(kVictim);
  options.rng = rng.get();
  const auto victim = *NewContributor(std::move(options));
  Bytes first;
  for (int turn = 0; turn < 3; ++turn) {
    const Offer offer = OfferOf(choices);
    Bytes question =
        EncodeOsaOffer(offer.bytes, CommitteeOfPuppets(choices, offer.params(), nullptr));
    if (choices.Byte() >= 0xf0) fuzz::Mutate(choices, question);
    const Result<Bytes> answer = victim->Answer(question);
    Require(answer.ok() || turn > 0 || !choices.silent(), "an honest coordinator is answered");
    Require(!answer.ok() || turn == 0, "a client speaks once");
    Require(answer.status().code() != Code::kInternal, "no question reaches a broken invariant");
    Require(victim->done() && (turn > 0 || victim->uploaded() == answer.ok()),
            "whatever comes of it, it is done");
    if (answer.ok()) CheckContribution(question, *answer);
  }
}

// --- the member ---------------------------------------------------------------------------------
// What one client dealt, as the coordinator keeps it.
struct Dealt {
  PullEntry entry;  // its views are of `contribution`
  Bytes contribution;
  bool usable = false;  // by the victim: nothing is changed that it has to refuse
};

class MemberSession {
 public:
  explicit MemberSession(Choices& choices) : choices_(choices) {
    rng_ = RngOf(World(), "victim member", kVictim);
    MemberOptions options = World().MemberOptionsFor(kVictim);
    options.rng = rng_.get();
    victim_ = *NewCommitteeMember(std::move(options));
  }

  void Run() {
    bool ended = false;
    for (size_t turn = 0; turn < 6; ++turn) {
      // A byte near the top asks a step out of its turn.
      const uint8_t lie = choices_.Byte();
      const size_t step = (lie >= 0xf8 ? lie : turn) % 4;
      Bytes question = Ask(step);
      if (choices_.Byte() >= 0xf4) fuzz::Mutate(choices_, question);
      const Result<Bytes> answer = victim_->Answer(question);
      Require(!answer.ok() || !ended, "nothing is sent after an error or the end");
      Require(answer.ok() || ended || !choices_.silent(), "an honest coordinator is answered");
      Require(answer.status().code() != Code::kInternal, "no question reaches a broken invariant");
      Require(victim_->done() || answer.ok(), "an error ends the session");
      ended = ended || victim_->done();
      if (answer.ok()) Hear(question, *answer);
    }
    Require(ended, "the session ends");
  }

 private:
  Bytes Ask(size_t step) {
    switch (step) {
      case 0:
        offer_ = OfferOf(choices_);
        return offer_.bytes;
      case 1:
        return AskPull();
      case 2: {
        Positions survivors;
        for (uint32_t i = 0; i < pulled_.size(); ++i) {
          const uint8_t lie = choices_.Byte();
          const bool usable = pulled_[i];
          if (lie < 0xc0 ? usable : lie == 0xff) survivors.push_back(i);
        }
        return EncodeSurvivorMap(survivors, static_cast<uint32_t>(pulled_.size()));
      }
      default:
        return AskQuorum();
    }
  }

  // The shares of five clients, all of them true unless the input says else.
  Bytes AskPull() {
    committee_ = CommitteeOfPuppets(choices_, params_, key_ ? &*key_ : nullptr);
    Deal();
    for (Dealt& dealt : dealt_) Change(dealt);
    std::vector<PullEntry> entries;
    for (const Dealt& dealt : dealt_) {
      const uint8_t lie = choices_.Byte();
      if (lie == 0xff) continue;
      entries.push_back(dealt.entry);
      if (lie == 0xfe) entries.push_back(dealt.entry);
    }
    if (choices_.Byte() == 0xff) std::reverse(entries.begin(), entries.end());
    return EncodePull(committee_, entries);
  }

  // Each client's contribution to the session of the committee that is shown; of none whose key
  // agrees with no client's.
  void Deal() {
    static std::map<Digest, Bytes> known;
    dealt_.clear();
    if (committee_.size() != kSize.members || params_.empty()) return;
    for (const CommitteeEntry& entry : committee_) {
      if (entry.present() && !PuppetKey(0).Agree(entry.key.key).ok()) return;
    }
    if (!committee_[kVictim].present()) return;
    Writer offer;
    offer.Raw(params_).Raw(Bytes(sizeof(Signature)));
    const Bytes question = EncodeOsaOffer(offer.view(), committee_);
    const ContributionShape shape{.shares_bytes = Present() * SealedShareBytes(Committee()),
                                  .packed_bytes = EncodingOf(World().params).ciphertext_bytes()};
    for (size_t i = 0; i < kSize.clients; ++i) {
      const Digest key = crypto::LabeledHash(
          "CHORUS1/test", {question, Writer().U32(static_cast<uint32_t>(i)).view()});
      if (known.size() > 300) known.clear();
      Bytes& made = known[key];
      if (made.empty()) made = LyingContributionOf(kSize, i, question, {});
      Dealt& dealt = dealt_.emplace_back();
      dealt.contribution = made;
      const auto said = DecodeContribution(dealt.contribution, shape);
      Require(said.ok(), "a contribution decodes");
      dealt.entry = {said->header, said->signature, said->evidence,
                     said->shares.first(SealedShareBytes(Committee()))};
      dealt.usable = true;
    }
    std::sort(dealt_.begin(), dealt_.end(),
              [](const Dealt& a, const Dealt& b) { return a.entry.header.id < b.entry.header.id; });
  }

  size_t Present() const {
    return static_cast<size_t>(std::count_if(committee_.begin(), committee_.end(),
                                             [](const auto& entry) { return entry.present(); }));
  }

  void Change(Dealt& dealt) {
    const uint8_t lie = choices_.Byte();
    if (lie < 0xf8) return;
    const auto at = choices_.Below(32);
    PullEntry& entry = dealt.entry;
    if (lie == 0xf8) entry.header.ephemeral[at] ^= 1U;
    if (lie == 0xf9) entry.header.vector_digest[at] ^= 1U;
    if (lie == 0xfa) entry.header.shares_digest[at] ^= 1U;
    if (lie == 0xfb) entry.signature[at] ^= 1U;
    if (lie == 0xfc) entry.header.id[at] ^= 1U;
    if (lie == 0xfd) {
      const auto other = dealt_[choices_.Below(dealt_.size())].entry.sealed;
      if (other.data() == entry.sealed.data()) return;
      entry.sealed = other;
    }
    if (lie == 0xfe && Present() == 1) return;
    if (lie == 0xfe) {
      // Of the member after it.
      entry.sealed = BytesView(entry.sealed.data() + entry.sealed.size(), entry.sealed.size());
    }
    if (lie == 0xff) {
      entry.header.ephemeral = {1};
      const size_t client = ClientOf(entry.header.id);
      entry.signature = crypto::Ed25519Sign(World().identities[client].Reveal(),
                                            ContributionMessage(entry.header));
    }
    dealt.usable = false;
  }

  static size_t ClientOf(const PublicKey& id) {
    for (size_t i = 0; i < kSize.clients; ++i) {
      if (crypto::Ed25519Public(World().identities[i].Reveal()) == id) return i;
    }
    Require(false, "the client is one of the cohort");
    return 0;
  }

  // Votes of the puppets, for the set voted on or another, and the victim's own if there is one.
  Bytes AskQuorum() {
    SurvivorSet set = voted_ ? *voted_ : SurvivorSet{};
    const uint8_t lie = choices_.Byte();
    if (lie == 0xff) set.root[choices_.Below(32)] ^= 1U;
    if (lie == 0xfe) ++set.count;
    if (lie == 0xfd && !leaves_.empty()) set.root = crypto::MerkleRoot(leaves_);
    Quorum quorum;
    quorum.root = lie == 0xfc ? Digest{} : set.root;
    const size_t votes = lie < 0xf0 ? 3 : choices_.Below(5);
    for (size_t j = kSize.members - std::min<size_t>(votes, kSize.members); j < kSize.members;
         ++j) {
      const uint8_t other = choices_.Byte();
      Signature vote = crypto::Ed25519Sign(
          World().member_identities[other == 0xff ? kVictim : j].Reveal(), VoteMessage(sid_, set));
      if (other == 0xfe) vote[choices_.Below(sizeof(Signature))] ^= 1U;
      if (other == 0xfd) continue;
      const auto index = static_cast<uint32_t>(j + 1);
      quorum.votes.emplace_back(other == 0xfc ? choices_.Below(7) : index, vote);
    }
    return Encode(quorum);
  }

  void Hear(const Bytes& question, const Bytes& answer) {
    ++heard_;
    if (heard_ == 1) return HearKey(question, answer);
    if (heard_ == 2) return HearComplaints(question, answer);
    if (heard_ == 3) return HearVote(question, answer);
    Require(heard_ == 4, "a member has four things to say");
    HearOpening(question, answer);
  }

  void HearKey(const Bytes& question, const Bytes& answer) {
    const auto said = DecodeCommitteeKey(answer);
    Require(said.ok() && question.size() == OfferBytes(Protocol::kOneShot),
            "only what decodes is answered");
    params_.assign(question.begin(), question.begin() + kOneShotParamsBytes);
    const auto offered = DecodeParams(params_);
    const SessionParams& agreed = World().params;
    Require(offered.ok() && offered->committee == agreed.committee &&
                offered->task_hash == agreed.task_hash && offered->n_min >= agreed.n_min &&
                offered->a_min >= agreed.a_min && offered->n_max <= agreed.n_max,
            "the session is as strict as the member");
    offered_ = *offered;
    Require(crypto::Ed25519Verify(World().committee_ids[kVictim],
                                  CommitteeKeyMessage(Sid0(params_), kVictim + 1, said->key),
                                  said->signature),
            "a member signs its key for this session");
    key_ = *said;
  }

  // Exactly those are complained of whose entry is not as its client dealt it to this session.
  void HearComplaints(const Bytes& question, const Bytes& answer) {
    const auto pull = DecodePull(question, offered_);
    Require(pull.ok(), "only what decodes is answered");
    CheckCommitteeShown(params_, pull->committee);
    Require(pull->committee[kVictim].key.key == key_->key, "its own key among them");
    Require(pull->entries.size() >= offered_.n_min, "of enough clients");
    sid_ = OneShotSessionId(params_, CommitteeRoot(pull->committee));
    const auto complaints = DecodeComplaints(answer, static_cast<uint32_t>(pull->entries.size()));
    Require(complaints.ok(), "complaints decode");
    pulled_.clear();
    for (uint32_t i = 0; i < pull->entries.size(); ++i) {
      PullEntry entry = pull->entries[i];
      entry.header.sid = sid_;
      const bool usable = Usable(entry);
      const bool accused = std::binary_search(complaints->begin(), complaints->end(), i);
      Require(accused == !usable, "who dealt no true share is complained of, and nobody else");
      pulled_.push_back(usable);
      leaves_.push_back(ContributionLeaf(entry.header));
      shares_.push_back(usable ? ShareOf(entry) : std::vector<uint64_t>());
    }
  }

  // As some client dealt it.
  bool Usable(const PullEntry& entry) const {
    return std::any_of(dealt_.begin(), dealt_.end(), [&](const Dealt& dealt) {
      return dealt.usable && EncodeHeader(dealt.entry.header) == EncodeHeader(entry.header) &&
             dealt.entry.signature == entry.signature &&
             std::equal(dealt.entry.sealed.begin(), dealt.entry.sealed.end(), entry.sealed.begin(),
                        entry.sealed.end());
    });
  }

  // The victim's, from the client's end of the agreement.
  std::vector<uint64_t> ShareOf(const PullEntry& entry) const {
    const size_t client = ClientOf(entry.header.id);
    const crypto::X25519Key ephemeral(World().Secret("lying key", client).Reveal());
    const ShareRoute route{entry.header.id, entry.header.ephemeral, kVictim + 1, key_->key};
    const auto sealing = DeriveShareKey(sid_, ephemeral, key_->key, route);
    Require(sealing.ok(), "its key agrees");
    const auto share =
        crypto::AeadOpen(sealing->Reveal(), crypto::Nonce{},
                         OneShotShareData(sid_, route, entry.header.vector_digest), entry.sealed);
    Require(share.ok(), "what the victim opened opens");
    return *math::ReadPackedShare(ShareElements(Committee()), share->Reveal());
  }

  void HearVote(const Bytes& question, const Bytes& answer) {
    const auto survivors = DecodeSurvivorMap(question, static_cast<uint32_t>(pulled_.size()));
    Require(survivors.ok() && !voted_, "a member votes once, on what decodes");
    const auto count = static_cast<uint32_t>(survivors->size());
    Require(count >= offered_.n_min && HonestAmong(count, offered_.gamma_ppm) >= offered_.a_min,
            "on enough survivors, and enough honest ones");
    std::vector<Digest> leaves;
    sum_.assign(ShareElements(Committee()), 0);
    for (const uint32_t position : *survivors) {
      Require(pulled_[position], "each of whom dealt it a share");
      leaves.push_back(leaves_[position]);
      for (size_t k = 0; k < sum_.size(); ++k) {
        sum_[k] = math::FieldAdd(sum_[k], shares_[position][k]);
      }
    }
    voted_ = SurvivorSet{crypto::MerkleRoot(leaves), count};
    Require(
        crypto::Ed25519Verify(World().committee_ids[kVictim], VoteMessage(sid_, *voted_), answer),
        "the vote is for exactly that set");
  }

  void HearOpening(const Bytes& question, const Bytes& answer) {
    const auto quorum = DecodeQuorum(question, kSize.members);
    Require(quorum.ok() && voted_, "a share opens only after a vote");
    Require(quorum->root == voted_->root && quorum->votes.size() == 3,
            "with a quorum for the set voted on");
    std::set<uint32_t> voters;
    for (const auto& [member, vote] : quorum->votes) {
      voters.insert(member);
      Require(crypto::Ed25519Verify(World().committee_ids[member - 1], VoteMessage(sid_, *voted_),
                                    vote),
              "of which every vote is for it");
    }
    Require(voters.size() == 3, "by as many members");
    const auto said = DecodeSumShare(answer, sum_.size() * sizeof(uint64_t));
    Require(said.ok() && *math::ReadPackedShare(sum_.size(), said->elements) == sum_,
            "what opens is the sum of the survivors' shares and nothing else");
    Require(victim_->done(), "which is the last word");
  }

  Choices& choices_;
  std::unique_ptr<Rng> rng_;
  std::unique_ptr<Contributor> victim_;
  size_t heard_ = 0;
  Offer offer_;
  Bytes params_;  // as the victim accepted them
  SessionParams offered_;
  std::optional<CommitteeKey> key_;  // the victim's
  CommitteeList committee_;
  std::vector<Dealt> dealt_;
  Digest sid_{};
  std::vector<bool> pulled_;  // by position: the victim holds a share
  std::vector<Digest> leaves_;
  std::vector<std::vector<uint64_t>> shares_;
  std::optional<SurvivorSet> voted_;
  std::vector<uint64_t> sum_;
};

}  // namespace

void Session(BytesView input) {
  Choices choices(input);
  if (choices.Flag()) return ClientSession(choices);
  MemberSession(choices).Run();
}

}  // namespace chorus::aggregation

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chorus::aggregation::Session({data, size});
  return 0;
}
