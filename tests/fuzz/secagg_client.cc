// One SecAgg contributor, over any graph, against a malicious coordinator that holds the keys of
// everybody else in the cohort. The questions are those of a valid session but for the lies that
// the input chooses: fields changed before or after everything that is due over them is signed
// again, rows out of order, and changes of single bytes. Laws: nothing crashes; nothing is answered
// after an error; of no owner do both shares leave; a share of a self mask leaves only for an owner
// with a true edge tag, and any share only after the threshold's number of true acknowledgements,
// or of living neighbours on the Harary ring; what did not open is said; two signed rosters of one
// session are kept as proof; a coordinator that does not lie is answered to the end.
#include <map>
#include <set>

#include "aggregation/graph.h"
#include "aggregation/secagg.h"
#include "base/codec.h"
#include "puppets.h"

namespace chorus::aggregation {
namespace {

using fuzz::Ahead;
using fuzz::Choices;
using fuzz::CoordinatorSeed;
using fuzz::Key;
using fuzz::Neighbour;
using fuzz::Puppet;
using fuzz::Puppets;
using fuzz::Require;
using fuzz::Row;

constexpr int kVictim = -1;
constexpr crypto::Nonce kZeroNonce{};
class MaliciousCoordinator {
 public:
  // `record`: of pre-keys that it uses; else empty.
  MaliciousCoordinator(SharingGraph mode, const Bytes& record, Choices& choices)
      : mode_(mode), rows_(fuzz::RowsOf(mode).subspan(record.empty() ? 0 : 1)), choices_(choices) {
    if (record.empty()) return;
    const PreKeyRecord said = *DecodePreKeyRecord(record);
    victim_ = {{}, said.id, said.c, said.s, said.evidence, said.signature};
    victim_not_after_ = said.not_after;
  }

  std::span<const Row> rows() const { return rows_; }

  Bytes Ask(Row row) {
    Bytes question = Question(row);
    two_rosters_ = row == Row::kRoster && accepted_root_ && n_ > 0 && root_ != *accepted_root_;
    for (uint32_t left = Lies(0xf0) ? 1 + choices_.Below(3) : 0; left > 0; --left) {
      fuzz::Mutate(choices_, question);
      two_rosters_ = false;
    }
    return question;
  }
  // Whether what it asked last is, with what it asked before, proof of two rosters.
  bool two_rosters() const { return two_rosters_; }

  // The victim's answer to `question`, which may not be of the row that the victim took it for.
  void Hear(const Bytes& question, const Bytes& answer) {
    const Row row = rows_[answered_];
    ++answered_;
    CheckShares(answer);
    if (row == Row::kOffer) return HearAdvertise(question, answer);
    if (row == Row::kRoster) accepted_root_ = root_;
    if (row == Row::kPeers) CheckPeers();
    if (row == Row::kRoster && mode_ == SharingGraph::kSelfSelected) return HearChoice(answer);
    if (row == Row::kDeliver) return HearMasked(question, answer);
    if (row == Row::kSurvivors) survivors_ = question;
    if (row == rows_.back()) CheckUnmask(question, answer);
  }

 private:
  // One of the choices that lie when their byte is near its top.
  bool Lies(uint8_t from) { return choices_.Byte() >= from; }

  Bytes Question(Row row) {
    if (row == Row::kOffer) return Offer();
    const bool first = answered_ == 0 && rows_[0] == Row::kRoster;
    if ((answered_ == 0 && !first) || (row > Row::kRoster && n_ == 0)) return Bytes(64);
    if (row == Row::kRoster && first) return OfferAndRoster();
    if (row == Row::kRoster) return Roster();
    if (row == Row::kPeers) return PeersOf();
    if (row == Row::kDeliver) return Deliver();
    if (row == Row::kSurvivors) return Survivors();
    return Acknowledgements();
  }

  Bytes Offer() {
    SessionParams params = fuzz::Params(mode_);
    switch (Lies(0xc0) ? choices_.Below(6) : 6) {
      case 0:
        params.n_min = choices_.Below(42);
        params.n_max = choices_.Below(42);
        break;
      case 1:
        params.gamma_ppm = static_cast<uint32_t>(choices_.Number());
        params.delta_ppm = static_cast<uint32_t>(choices_.Number());
        break;
      case 2:
        params.a_min = choices_.Below(42);
        params.attempt = choices_.Byte();
        break;
      case 3:
        params.bound = choices_.Number();
        params.vec_len = choices_.Number();
        break;
      case 4:
        params.bits = choices_.Byte();
        params.word_bytes = choices_.Byte();
        break;
      case 5:
        params.mode = static_cast<uint8_t>(choices_.Below(4));
        break;
      default:
        break;
    }
    return MakeOffer(params, CoordinatorSeed().Reveal());
  }

  void HearAdvertise(const Bytes& question, const Bytes& answer) {
    Result<Advertise> said = DecodeAdvertise(answer);
    const BytesView params = BytesView(question).first(kSessionParamsBytes);
    Require(said.ok() && said->sid0 == crypto::LabeledHash("CHORUS1/sid0", {params}),
            "the victim advertises for the session that it was offered");
    sid0_ = said->sid0;
    victim_ = *std::move(said);
  }

  Bytes OfferAndRoster() {
    Bytes question = Offer();
    sid0_ = crypto::LabeledHash("CHORUS1/sid0", {BytesView(question).first(kSessionParamsBytes)});
    victim_.sid0 = sid0_;
    const Bytes roster = Roster();
    question.insert(question.end(), roster.begin(), roster.end());
    return question;
  }

  // --- the roster -------------------------------------------------------------------------------
  struct Record {
    int puppet = kVictim;
    Advertise said;
    std::optional<uint64_t> not_after{};  // of pre-keys
    bool liar = false;
    bool forged = false;   // signed by nobody
    bool another = false;  // signed as the other kind of record
  };

  uint32_t PuppetsListed() {
    if (mode_ == SharingGraph::kComplete) return 6 - (Lies(0xc0) ? 1 + choices_.Below(4) : 0);
    return Lies(0xc0) ? 4 + choices_.Below(fuzz::kPuppets - 3) : 13;
  }

  // By ascending order key, as a roster must be.
  std::vector<Record> Records() {
    std::vector<Record> records{{kVictim, victim_, victim_not_after_}};
    const uint32_t count = PuppetsListed();
    for (uint32_t i = 0; i < count; ++i) {
      const Puppet& puppet = Puppets()[i];
      Record& record = records.emplace_back();
      record.puppet = static_cast<int>(i);
      record.said = {sid0_, puppet.id, puppet.c.Public(), puppet.s.Public(), {1}, {}};
      if (i % 2 == 1) record.not_after = fuzz::kNow + fuzz::kHour;
    }
    for (uint32_t left = Lies(0xc0) ? 1 + choices_.Below(3) : 0; left > 0; --left) {
      Record& record = records[1 + choices_.Below(count)];
      Lie(record);
      record.liar = true;
      record.forged = Lies(0xf8);
    }
    const bool ordered = !Lies(0xf8);
    std::vector<std::pair<Digest, Record>> keyed;
    for (Record& record : records) {
      const Digest key = ordered ? OrderKey(sid0_, record.said.id) : Digest{};
      keyed.emplace_back(key, std::move(record));
    }
    std::stable_sort(keyed.begin(), keyed.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    records.clear();
    for (auto& [key, record] : keyed) records.push_back(std::move(record));
    return records;
  }

  void Lie(Record& record) {
    Advertise& said = record.said;
    PublicKey* const keys[] = {&said.c, &said.s};
    PublicKey& key = *keys[choices_.Below(2)];
    switch (choices_.Below(11)) {
      case 0:
        key = {};  // of low order
        return;
      case 1:
        key.fill(0xff);  // not canonical
        return;
      case 2:
        key = victim_.c;
        return;
      case 3:
        said.c = said.s;
        return;
      case 4:
        said.evidence = Bytes(choices_.Below(5'000), choices_.Byte());
        return;
      case 5:
        said.id = victim_.id;
        return;
      case 6:
        said.sid0[0] ^= 1U;
        return;
      case 7:
        said.id = {1};  // of low order
        return;
      case 8:
        record.another = true;
        return;
      case 9:
        record.not_after = choices_.Number();
        return;
      default:
        record.not_after = fuzz::kNow - 2 * fuzz::kHour + choices_.Below(28) * fuzz::kHour;
    }
  }

  Bytes Roster() {
    holders_.clear();
    neighbours_.clear();
    records_ = Records();
    n_ = static_cast<uint32_t>(records_.size());
    std::vector<Digest> leaves;
    for (Index v = 0; v < n_; ++v) {
      const Advertise& said = records_[v].said;
      if (records_[v].puppet == kVictim) me_ = v;
      leaves.push_back(RosterLeaf(sid0_, said.id, said.c, said.s));
    }
    paths_ = crypto::MerklePaths(leaves);
    RosterAndPeers roster;
    roster.n = n_;
    roster.index = me_;
    roster.root = crypto::MerkleRoot(leaves);
    if (Lies(0xf8)) roster.root[0] ^= 1U;
    roster.path = paths_[me_];
    root_ = roster.root;
    roster.signature = fuzz::Sign(CoordinatorSeed(), RosterMessage(sid0_, n_, roster.root));
    sid_ = SessionId(sid0_, n_, roster.root);
    const Result<GraphParams> graph = GraphFor(fuzz::Params(mode_), n_);
    graph_ = graph.ok() ? *graph : GraphParams{n_ - 1, 1, 1};
    if (mode_ == SharingGraph::kSelfSelected) return EncodeRosterOnly(roster);
    const std::vector<Index> around = Around(mode_ == SharingGraph::kComplete ? n_ - 1 : graph_.k);
    Befriend(around, around);
    return EncodeRing(roster, around, Shown(around));
  }

  // The liars and whoever follows the victim in the roster, `count` of them, ascending.
  std::vector<Index> Around(size_t count) {
    std::set<Index> chosen;
    for (Index v = 0; v < n_ && chosen.size() < count; ++v) {
      if (records_[v].liar) chosen.insert(v);
    }
    for (Index step = 1; step < n_ && chosen.size() < count; ++step) {
      chosen.insert((me_ + step) % n_);
    }
    std::vector<Index> around(chosen.begin(), chosen.end());
    if (Lies(0xf8)) around.erase(around.begin() + choices_.Below(around.size()));
    return around;
  }

  // The records of `shown`, by index, each signed by its owner.
  std::vector<Bytes> Shown(const std::vector<Index>& shown) {
    std::vector<Bytes> encoded(n_);
    for (const Index v : shown) {
      const Record& record = records_[v];
      const Advertise& said = record.said;
      Peer peer{v,         said.id,         said.c, said.s, said.evidence, said.signature,
                paths_[v], record.not_after};
      if (record.puppet != kVictim) {
        const Puppet& puppet = Puppets()[static_cast<size_t>(record.puppet)];
        const bool ahead = record.not_after.has_value() != record.another;
        const uint64_t not_after = record.not_after.value_or(fuzz::kNow);
        peer.signature = fuzz::Sign(
            puppet.identity,
            ahead ? PreKeyMessage({said.id, said.c, said.s, not_after, said.evidence, {}})
                  : AdvertiseMessage(said));
        peer.signature[0] ^= record.forged ? 1U : 0U;
      }
      encoded[v] = EncodePeer(peer);
    }
    return encoded;
  }

  void HearChoice(const Bytes& answer) {
    const Result<Choose> choice = DecodeChoose(answer, n_);
    Require(choice.ok() && choice->sid == sid_ && choice->holders.size() == graph_.k &&
                !std::binary_search(choice->holders.begin(), choice->holders.end(), me_),
            "the victim chooses as many others as the graph has neighbours");
    holders_ = choice->holders;
  }

  // Some chose the victim whom it did not choose, and two whom it chose.
  Bytes PeersOf() {
    std::vector<Index> out = holders_;
    std::vector<Index> in = Around(6);
    in.insert(in.end(), out.begin(), out.begin() + std::min<std::ptrdiff_t>(2, std::ssize(out)));
    switch (Lies(0xe0) ? choices_.Below(6) : 6) {
      case 0:
        out.resize(out.size() / 2);
        break;
      case 1:
        out.push_back(choices_.Below(n_));
        break;
      case 2:
        in.clear();
        break;
      case 3:
        in.push_back(me_);
        break;
      case 4:
        for (Index step = 1; step < n_; ++step) in.push_back((me_ + step) % n_);
        break;
      case 5:
        in = out;
        break;
      default:
        break;
    }
    for (std::vector<Index>* const list : {&out, &in}) {
      std::sort(list->begin(), list->end());
      list->erase(std::unique(list->begin(), list->end()), list->end());
    }
    std::vector<Index> all = out;
    all.insert(all.end(), in.begin(), in.end());
    Befriend(out, in);
    return EncodePeers(out, in, Shown(all));
  }

  // Agrees on keys with the victim, as each of its neighbours would.
  void Befriend(const std::vector<Index>& out, const std::vector<Index>& in) {
    neighbours_.clear();
    for (Index v = 0; v < n_; ++v) {
      const bool holder = std::binary_search(out.begin(), out.end(), v);
      const bool owner = std::binary_search(in.begin(), in.end(), v);
      if (records_[v].puppet == kVictim || (!holder && !owner)) continue;
      const Puppet& puppet = Puppets()[static_cast<size_t>(records_[v].puppet)];
      Result<ChannelKeys> channel =
          DeriveChannel(sid_, puppet.c, {v, records_[v].said.c}, {me_, victim_.c});
      if (!channel.ok()) continue;
      const auto number = static_cast<uint8_t>(records_[v].puppet);
      neighbours_[v] = {
          records_[v].puppet,        holder, owner, *std::move(channel), fuzz::ShareOf("s", number),
          fuzz::ShareOf("b", number)};
    }
  }

  // --- the rows after it ------------------------------------------------------------------------
  // What `v` would send; with shares that are none if `spoiled`.
  Delivery Honest(Index v, const Neighbour& from, bool spoiled = false) const {
    SecretBytes both(from.owner ? kSharePairBytes : 0);
    if (from.owner) {
      std::copy(from.share_s.begin(), from.share_s.end(), both.RevealMutable().begin());
      std::copy(from.share_b.begin(), from.share_b.end(),
                both.RevealMutable().begin() + math::kShareBytes);
      if (spoiled) std::fill_n(both.RevealMutable().begin(), 8, uint8_t{0xff});
    }
    Delivery entry;
    entry.from = v;
    entry.commitment[0] = static_cast<uint8_t>(v);
    const Bytes sealed = crypto::AeadSeal(
        from.channel.seal.Reveal(), kZeroNonce,
        ShareAssociatedData(sid_, v, me_, graph_, entry.commitment), both.Reveal());
    if (!from.owner) entry.hello.emplace();
    std::copy(sealed.begin(), sealed.end(),
              from.owner ? entry.sealed.begin() : entry.hello->begin());
    return entry;
  }

  Bytes Deliver() {
    std::vector<Delivery> entries;
    for (const auto& [v, from] : neighbours_) {
      const uint8_t lie = choices_.Byte();
      if (lie >= 0xfc) continue;
      Delivery entry = Honest(v, from, lie == 0xf0);
      if (lie == 0xf1) entry.from = choices_.Below(n_ + 2);
      if (lie == 0xf2) entry.commitment[1] ^= 1U;
      if (lie == 0xf3) entry.sealed[choices_.Below(kSealedSharesBytes)] ^= 1U;
      if (lie == 0xf4) entries.push_back(entry);
      if (lie == 0xf5 && entry.hello) (*entry.hello)[choices_.Below(sizeof(Hello))] ^= 1U;
      if (lie == 0xf6) entry.hello.emplace();
      if (lie == 0xf7) entry.hello.reset();
      entries.push_back(entry);
    }
    return EncodeDeliver(entries);
  }

  // Notes whose ciphertexts the victim can open.
  void HearMasked(const Bytes& question, const Bytes& answer) {
    for (const auto& [v, from] : neighbours_) {
      const uint64_t not_after = records_[v].not_after.value_or(fuzz::kNow);
      Require(not_after - (fuzz::kNow - fuzz::kHour) <= 26 * fuzz::kHour,
              "no neighbour's pre-keys are too old or live too long");
      Require(!records_[v].another && !records_[v].forged, "each neighbour signed its keys");
    }
    const uint64_t size = math::PackedBytes(fuzz::Params(mode_).vec_len, fuzz::Params(mode_).bits);
    const Result<Masked> masked = DecodeMasked(answer, n_, size);
    std::vector<Index> hellos;
    for (const auto& [v, from] : neighbours_) {
      if (!from.owner) hellos.push_back(v);
    }
    const auto entries = DecodeDeliver(question, n_, hellos);
    Require(masked.ok() && entries.ok(), "only what decodes is answered");
    std::vector<Index> failed;
    for (const Delivery& entry : *entries) {
      const auto from = neighbours_.find(entry.from);
      Require(from != neighbours_.end(), "an edge leads to a neighbour");
      const Delivery honest = Honest(entry.from, from->second);
      const bool opens = entry.commitment == honest.commitment && entry.sealed == honest.sealed &&
                         entry.hello == honest.hello;
      if (opens) opened_.insert(entry.from);
      if (!opens) failed.push_back(entry.from);
    }
    Require(masked->failed == failed && masked->edges.size() == entries->size(),
            "what did not open is said, and its mask stays");
  }

  Bytes Survivors() {
    std::vector<Survivor> entries;
    for (const auto& [v, from] : neighbours_) {
      const uint8_t lie = choices_.Byte();
      const bool held = from.owner && opened_.contains(v);
      if (lie >= 0xfc || (!held && lie != 0xf0)) continue;
      Survivor entry;
      entry.owner = lie == 0xf1 ? choices_.Below(n_ + 2) : v;
      entry.fate = lie >= 0xc0 ? Fate::kDropped : Fate::kAlive;
      entry.edge = EdgeTag(from.channel.ack_out.Reveal(), sid_);
      if (lie == 0xa0) entry.edge[choices_.Below(sizeof(Tag))] ^= 1U;
      if (lie == 0xa1) entry.edge = AckTag(from.channel.ack_out.Reveal(), sid_);
      if (lie == 0xa2) entry.edge = EdgeTag(from.channel.ack_in.Reveal(), sid_);
      if (lie == 0xf2) entries.push_back(entry);
      entries.push_back(entry);
    }
    return EncodeSurvivors(entries);
  }

  Bytes Acknowledgements() {
    AckSet entries;
    for (const auto& [v, from] : neighbours_) {
      const uint8_t lie = choices_.Byte();
      // Who holds no shares of the victim has nothing to acknowledge, and may say it all the same.
      if (lie >= 0xe0 || (!from.holder && (lie < 0x80 || lie >= 0xc0))) continue;
      Tag tag = AckTag(from.channel.ack_out.Reveal(), sid_);
      if (lie >= 0xd0) tag[choices_.Below(sizeof(Tag))] ^= 1U;
      if (lie == 0xc0) tag = EdgeTag(from.channel.ack_out.Reveal(), sid_);
      if (lie == 0xc1) entries.emplace_back(v, tag);
      entries.emplace_back(lie == 0xc2 ? me_ : v, tag);
    }
    return EncodeAckSet(entries);
  }

  // --- laws -------------------------------------------------------------------------------------
  // Whatever the format: of no owner do both shares stand in anything that left the victim.
  void CheckShares(const Bytes& answer) {
    const std::string_view text(reinterpret_cast<const char*>(answer.data()), answer.size());
    const auto holds = [&](const Bytes& share) {
      return text.find(std::string_view(reinterpret_cast<const char*>(share.data()),
                                        share.size())) != std::string_view::npos;
    };
    for (auto& [v, owner] : neighbours_) {
      if (holds(owner.share_s)) left_s_.insert(owner.puppet);
      if (holds(owner.share_b)) left_b_.insert(owner.puppet);
      Require(!left_s_.contains(owner.puppet) || !left_b_.contains(owner.puppet),
              "both shares of one owner never leave");
    }
  }

  void CheckPeers() const {
    std::vector<Index> holders;
    for (const auto& [v, neighbour] : neighbours_) {
      if (neighbour.holder) holders.push_back(v);
    }
    const auto owners = std::count_if(neighbours_.begin(), neighbours_.end(),
                                      [](const auto& entry) { return entry.second.owner; });
    Require(holders == holders_, "the victim's holders are those that it chose");
    Require(owners <= 4 * int64_t{graph_.k}, "not everybody can have chosen it");
  }

  // Holders whose acknowledgement is true and whose shares or hello opened.
  size_t TrueAcks(const Bytes& question) const {
    const auto acks = DecodeAckSet(question, n_);
    Require(acks.ok(), "only what decodes is answered");
    return static_cast<size_t>(std::count_if(acks->begin(), acks->end(), [&](const auto& ack) {
      const auto holder = neighbours_.find(ack.first);
      return holder != neighbours_.end() && holder->second.holder && opened_.contains(ack.first) &&
             ack.second == AckTag(holder->second.channel.ack_out.Reveal(), sid_);
    }));
  }

  void CheckUnmask(const Bytes& question, const Bytes& answer) {
    const auto entries = DecodeUnmask(answer, n_, me_ + 1);
    const auto survivors = DecodeSurvivors(survivors_, n_);
    Require(entries.ok() && survivors.ok(), "only what decodes is answered");
    auto entry = entries->begin();
    size_t living = 0;
    for (const Survivor& said : *survivors) {
      const auto owner = neighbours_.find(said.owner);
      Require(owner != neighbours_.end() && owner->second.owner && opened_.contains(said.owner),
              "survivors are owners whose shares are held");
      const bool alive = said.fate == Fate::kAlive;
      const bool edge = said.edge == EdgeTag(owner->second.channel.ack_out.Reveal(), sid_);
      if (alive && !edge) continue;
      living += alive ? 1 : 0;
      Require(entry != entries->end() && entry->owner == said.owner && entry->fate == said.fate,
              "one share leaves of each owner whose fate is known, of the kind that is due");
      Require(
          math::ShareBytes(entry->share) == (alive ? owner->second.share_b : owner->second.share_s),
          "the share is the one that was dealt");
      ++entry;
    }
    Require(entry == entries->end(), "no share leaves of an owner without a true edge");
    const bool ring = mode_ == SharingGraph::kHarary;
    Require((ring ? living : TrueAcks(question)) >= graph_.t,
            "shares leave only when enough others are alive, and say so");
  }

  const SharingGraph mode_;
  const std::span<const Row> rows_;
  Choices& choices_;
  size_t answered_ = 0;  // rows
  bool two_rosters_ = false;
  Advertise victim_;
  std::optional<uint64_t> victim_not_after_;
  Digest root_{};
  std::optional<Digest> accepted_root_;
  Digest sid0_{};
  Digest sid_{};
  Index me_ = 0;
  uint32_t n_ = 0;
  GraphParams graph_;
  std::vector<Record> records_;
  std::vector<std::vector<Digest>> paths_;
  std::vector<Index> holders_;  // as the victim chose them
  std::map<Index, Neighbour> neighbours_;
  std::set<Index> opened_;  // whose shares or hello the victim could open
  Bytes survivors_;         // as it was answered
  std::set<int> left_s_;
  std::set<int> left_b_;
};

}  // namespace

void Session(BytesView input) {
  static const SecretBytes chance = Key("chance");
  const std::unique_ptr<Rng> rng = crypto::NewSeededRng(chance.Reveal());
  const uint8_t kind = input.empty() ? 0 : input[0];
  Choices choices(input.subspan(std::min<size_t>(1, input.size())));
  const auto mode = static_cast<SharingGraph>(kind % 3);
  const auto ahead = static_cast<Ahead>(kind / 3 % 3);
  ContributorOptions options = fuzz::VictimOptions(mode, *rng);
  std::optional<Equivocation> proof;
  options.equivocation = &proof;
  Bytes record;
  if (ahead != Ahead::kNothing) {
    options.prekeys =
        *MakePreKeys({options.identity_seed, options.evidence, fuzz::kNow + fuzz::kHour}, *rng);
    if (ahead == Ahead::kUsed) record = options.prekeys->record;
  }
  const std::unique_ptr<Contributor> victim = *NewContributor(std::move(options));
  MaliciousCoordinator coordinator(mode, record, choices);
  const std::span<const Row> rows = coordinator.rows();
  bool ended = false;
  for (size_t step = 0; step < rows.size() + 2; ++step) {
    // A byte near the top asks a row out of its turn.
    const uint8_t turn = choices.Byte();
    const Row row = rows[(turn >= 0xf8 ? turn : step) % rows.size()];
    const Bytes question = coordinator.Ask(row);
    const Result<Bytes> answer = victim->Answer(question);
    Require(!answer.ok() || !ended, "nothing is sent after an error or the end");
    Require(answer.ok() || ended || !choices.silent(), "an honest coordinator is answered");
    Require(answer.status().code() != Code::kInternal, "no question reaches a broken invariant");
    Require(victim->done() || answer.ok(), "an error ends the session");
    Require(proof || !coordinator.two_rosters(), "a second roster is kept as proof");
    fuzz::CheckProof(proof);
    ended = ended || victim->done();
    if (answer.ok()) coordinator.Hear(question, *answer);
  }
  Require(ended, "the session ends");
}

}  // namespace chorus::aggregation

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chorus::aggregation::Session({data, size});
  return 0;
}
