// One SecAgg contributor against a malicious coordinator that holds the keys of everybody else in
// the cohort. The questions are those of a valid session but for the lies that the input chooses:
// fields changed before or after everything that is due over them is signed again, rows out of
// order, and changes of single bytes. Laws: nothing crashes; nothing is answered after an error; of
// no owner do both shares leave; a share of a self mask leaves only for an owner with a true edge
// tag, and any share only after the threshold's number of true acknowledgements.
#include <map>
#include <set>

#include "aggregation/secagg.h"
#include "base/codec.h"
#include "fuzz.h"

namespace chorus::aggregation {
namespace {

using fuzz::Choices;
using fuzz::Key;
using fuzz::Require;

constexpr uint8_t kPuppets = 6;  // of whom four or more stand in the roster beside the victim
constexpr int kVictim = -1;
constexpr crypto::Nonce kZeroNonce{};
enum Row : uint8_t { kOffer, kRoster, kDeliver, kSurvivors, kAckSet, kRows };

class Everybody final : public IdentityVerifier {
 public:
  Result<Identity> Verify(const PublicKey&, BytesView evidence) const override {
    if (!evidence.empty() && evidence[0] == 0xff) return Unauthenticated("not certified");
    return Identity{};
  }
};

// The keys of everybody but the victim, the same in every run.
struct Puppet {
  SecretBytes identity;
  SecretBytes c_secret;
  SecretBytes s_secret;
  PublicKey id{};
  PublicKey c{};
  PublicKey s{};
};

const std::vector<Puppet>& Puppets() {
  static const std::vector<Puppet> puppets = [] {
    std::vector<Puppet> made(kPuppets);
    for (uint8_t i = 0; i < kPuppets; ++i) {
      made[i].identity = Key("identity", i);
      made[i].c_secret = Key("c", i);
      made[i].s_secret = Key("s", i);
      made[i].id = crypto::Ed25519Public(made[i].identity.Reveal());
      made[i].c = crypto::X25519Public(made[i].c_secret.Reveal());
      made[i].s = crypto::X25519Public(made[i].s_secret.Reveal());
    }
    return made;
  }();
  return puppets;
}

const SecretBytes& CoordinatorSeed() {
  static const SecretBytes seed = Key("coordinator");
  return seed;
}

SessionParams Params() {
  SessionParams p;
  p.round = 7;
  p.vec_len = 4;
  p.bits = 21;
  p.word_bytes = 4;
  p.bound = 1'000;
  p.n_min = 3;
  p.n_max = 8;
  p.gamma_ppm = 50'000;
  p.delta_ppm = 100'000;
  p.a_min = 1;
  static const PublicKey coordinator = crypto::Ed25519Public(CoordinatorSeed().Reveal());
  p.coordinator_id = coordinator;
  return p;
}

Signature Sign(const SecretBytes& seed, const Digest& words) {
  return crypto::Ed25519Sign(seed.Reveal(), words);
}

// A puppet that stands in the roster, what it shares with the victim, and what the victim may open.
struct Owner {
  int puppet = 0;
  ChannelKeys channel;
  Bytes share_s;
  Bytes share_b;
};

class MaliciousCoordinator {
 public:
  explicit MaliciousCoordinator(Choices& choices) : choices_(choices) {}

  Bytes Ask(Row row) {
    Bytes question;
    if (row == kOffer) {
      question = Offer();
    } else if (!advertised_) {
      question = Bytes(64);
    } else if (row == kRoster) {
      question = Roster();
    } else if (row == kDeliver) {
      question = Deliver();
    } else if (row == kSurvivors) {
      question = Survivors();
    } else {
      question = Acknowledgements();
    }
    for (uint32_t left = choices_.Byte() >= 0xf0 ? 1 + choices_.Below(3) : 0; left > 0; --left) {
      fuzz::Mutate(choices_, question);
    }
    asked_[row] = question;
    return question;
  }

  // The victim's answer to the question of `row`.
  void Hear(Row row, const Bytes& answer) {
    CheckShares(answer);
    if (row == kOffer) {
      Result<Advertise> said = DecodeAdvertise(answer);
      Require(said.ok() &&
                  said->sid0 ==
                      crypto::LabeledHash("CHORUS1/sid0",
                                          {BytesView(asked_[kOffer]).first(kSessionParamsBytes)}),
              "the victim advertises for the session that it was offered");
      sid0_ = said->sid0;
      victim_ = *std::move(said);
      advertised_ = true;
    } else if (row == kAckSet) {
      CheckUnmask(answer);
    }
  }

 private:
  Bytes Offer() {
    SessionParams params = Params();
    switch (choices_.Below(8)) {
      case 1:
        params.n_min = choices_.Below(10);
        params.n_max = choices_.Below(10);
        break;
      case 2:
        params.gamma_ppm = static_cast<uint32_t>(choices_.Number());
        params.delta_ppm = static_cast<uint32_t>(choices_.Number());
        break;
      case 3:
        params.a_min = choices_.Below(10);
        params.attempt = choices_.Byte();
        break;
      case 4:
        params.bound = choices_.Number();
        params.vec_len = choices_.Number();
        break;
      case 5:
        params.bits = choices_.Byte();
        params.word_bytes = choices_.Byte();
        break;
      default:
        break;
    }
    return MakeOffer(params, CoordinatorSeed().Reveal());
  }

  struct Record {
    int puppet = kVictim;
    Advertise said;
  };

  std::vector<Record> Records() {
    std::vector<Record> records{{kVictim, victim_}};
    const uint32_t count = kPuppets - (choices_.Byte() >= 0xc0 ? 1 + choices_.Below(4) : 0);
    for (uint32_t i = 0; i < count; ++i) {
      const Puppet& puppet = Puppets()[i];
      Record record{static_cast<int>(i), {sid0_, puppet.id, puppet.c, puppet.s, {1}, {}}};
      if (choices_.Byte() >= 0xf0) Lie(record.said);
      record.said.signature = Sign(puppet.identity, AdvertiseMessage(record.said));
      if (choices_.Byte() >= 0xf8) record.said.signature[choices_.Below(64)] ^= 1U;
      records.push_back(std::move(record));
    }
    return records;
  }

  void Lie(Advertise& said) {
    PublicKey* const keys[] = {&said.c, &said.s};
    PublicKey& key = *keys[choices_.Below(2)];
    switch (choices_.Below(8)) {
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
      default:
        said.id = {1};  // of low order
    }
  }

  Bytes Roster() {
    std::vector<Record> records = Records();
    if (choices_.Byte() < 0xf8) {
      std::sort(records.begin(), records.end(), [this](const Record& a, const Record& b) {
        return OrderKey(sid0_, a.said.id) < OrderKey(sid0_, b.said.id);
      });
    }
    std::vector<Digest> leaves;
    for (const Record& record : records) {
      leaves.push_back(RosterLeaf(sid0_, record.said.id, record.said.c, record.said.s));
    }
    const auto paths = crypto::MerklePaths(leaves);
    RosterAndPeers roster;
    roster.n = static_cast<uint32_t>(records.size());
    roster.root = crypto::MerkleRoot(leaves);
    if (choices_.Byte() >= 0xf8) roster.root[0] ^= 1U;
    std::vector<Bytes> encoded;
    for (Index v = 0; v < roster.n; ++v) {
      const Advertise& said = records[v].said;
      if (records[v].puppet == kVictim) roster.index = v;
      encoded.push_back(
          EncodePeer({v, said.id, said.c, said.s, said.evidence, said.signature, paths[v]}));
    }
    roster.path = paths[roster.index];
    roster.signature = Sign(CoordinatorSeed(), RosterMessage(sid0_, roster.n, roster.root));
    sid_ = SessionId(sid0_, roster.n, roster.root);
    me_ = roster.index;
    n_ = roster.n;
    const Result<GraphParams> graph = CompleteGraph(n_, Params().gamma_ppm, Params().delta_ppm);
    if (graph.ok()) graph_ = *graph;
    Befriend(records);
    return EncodeRoster(roster, encoded);
  }

  // Agrees on keys with the victim, as each puppet in the roster would.
  void Befriend(const std::vector<Record>& records) {
    owners_.clear();
    for (Index v = 0; v < n_; ++v) {
      if (records[v].puppet == kVictim) continue;
      const Puppet& puppet = Puppets()[static_cast<size_t>(records[v].puppet)];
      Result<ChannelKeys> channel =
          DeriveChannel(sid_, puppet.c_secret.Reveal(), {v, records[v].said.c}, {me_, victim_.c});
      if (!channel.ok()) continue;
      const auto number = static_cast<uint8_t>(records[v].puppet);
      owners_[v] = {records[v].puppet, *std::move(channel), ShareOf("s", number),
                    ShareOf("b", number)};
    }
  }

  // Forty bytes that no other message holds.
  static Bytes ShareOf(std::string_view kind, uint8_t number) {
    math::Share share;
    share.x = 1;
    const SecretBytes key = Key(kind, number);
    Choices words(key.Reveal());
    for (uint64_t& limb : share.y) limb = 1 + (words.Word() ^ number) % (math::kPrime - 1);
    return math::ShareBytes(share);
  }

  Bytes Deliver() {
    std::vector<Delivery> entries;
    delivered_.clear();
    for (auto& [v, owner] : owners_) {
      const uint8_t lie = choices_.Byte();
      if (lie >= 0xfc) continue;
      SecretBytes both(kSharePairBytes);
      std::copy(owner.share_s.begin(), owner.share_s.end(), both.RevealMutable().begin());
      std::copy(owner.share_b.begin(), owner.share_b.end(),
                both.RevealMutable().begin() + math::kShareBytes);
      if (lie == 0xf0) std::fill_n(both.RevealMutable().begin(), 8, uint8_t{0xff});
      Delivery entry;
      entry.from = lie == 0xf1 ? choices_.Below(n_ + 2) : v;
      entry.commitment[0] = static_cast<uint8_t>(v);
      const Bytes sealed = crypto::AeadSeal(
          owner.channel.seal.Reveal(), kZeroNonce,
          ShareAssociatedData(sid_, v, me_, graph_, entry.commitment), both.Reveal());
      std::copy(sealed.begin(), sealed.end(), entry.sealed.begin());
      if (lie == 0xf2) entry.commitment[1] ^= 1U;
      if (lie == 0xf3) entry.sealed[choices_.Below(kSealedSharesBytes)] ^= 1U;
      if (lie == 0xf4) entries.push_back(entry);
      entries.push_back(entry);
      if (lie < 0xf0) delivered_.insert(v);
    }
    return EncodeDeliver(entries);
  }

  Bytes Survivors() {
    std::vector<Survivor> entries;
    for (const auto& [v, owner] : owners_) {
      const uint8_t lie = choices_.Byte();
      if (lie >= 0xfc || (!delivered_.contains(v) && lie != 0xf0)) continue;
      Survivor entry;
      entry.owner = lie == 0xf1 ? choices_.Below(n_ + 2) : v;
      entry.fate = lie >= 0xc0 ? Fate::kDropped : Fate::kAlive;
      entry.edge = EdgeTag(owner.channel.ack_out.Reveal(), sid_);
      if (lie == 0xb0) entry.edge[choices_.Below(sizeof(Tag))] ^= 1U;
      if (lie == 0xb1) entry.edge = EdgeTag(owners_.begin()->second.channel.ack_out.Reveal(), sid_);
      if (lie == 0xb2) entry.edge = AckTag(owner.channel.ack_out.Reveal(), sid_);
      entries.push_back(entry);
      if (lie == 0xf2) entries.push_back(entry);
    }
    return EncodeSurvivors(entries);
  }

  Bytes Acknowledgements() {
    AckSet entries;
    for (const auto& [v, owner] : owners_) {
      const uint8_t lie = choices_.Byte();
      if (lie >= 0xe0) continue;
      Tag tag = AckTag(owner.channel.ack_out.Reveal(), sid_);
      if (lie >= 0xd0) tag[choices_.Below(sizeof(Tag))] ^= 1U;
      if (lie == 0xc0) tag = EdgeTag(owner.channel.ack_out.Reveal(), sid_);
      if (lie == 0xc1) entries.emplace_back(v, tag);
      entries.emplace_back(lie == 0xc2 ? me_ : v, tag);
    }
    return EncodeAckSet(entries);
  }

  // Whatever the format: of no owner do both shares stand in anything that left the victim.
  void CheckShares(const Bytes& answer) {
    for (auto& [v, owner] : owners_) {
      const auto holds = [&](const Bytes& share) {
        return std::search(answer.begin(), answer.end(), share.begin(), share.end()) !=
               answer.end();
      };
      if (holds(owner.share_s)) left_s_.insert(owner.puppet);
      if (holds(owner.share_b)) left_b_.insert(owner.puppet);
      Require(!left_s_.contains(owner.puppet) || !left_b_.contains(owner.puppet),
              "both shares of one owner never leave");
    }
  }

  void CheckUnmask(const Bytes& answer) {
    const auto entries = DecodeUnmask(answer, n_, me_ + 1);
    const auto survivors = DecodeSurvivors(asked_[kSurvivors], n_);
    const auto acks = DecodeAckSet(asked_[kAckSet], n_);
    Require(entries.ok() && survivors.ok() && acks.ok(), "only what decodes is answered");
    uint32_t valid = 0;
    for (const auto& [v, tag] : *acks) {
      const auto owner = owners_.find(v);
      if (owner == owners_.end()) continue;
      valid += tag == AckTag(owner->second.channel.ack_out.Reveal(), sid_) ? 1 : 0;
    }
    Require(valid >= graph_.t, "shares leave only after t true acknowledgements");
    std::map<Index, Survivor> said;
    for (const Survivor& entry : *survivors) said[entry.owner] = entry;
    for (const UnmaskEntry& entry : *entries) {
      const auto owner = owners_.find(entry.owner);
      Require(owner != owners_.end() && said.contains(entry.owner), "shares of owners only");
      const bool alive = said[entry.owner].fate == Fate::kAlive;
      const Bytes bytes = math::ShareBytes(entry.share);
      Require((entry.fate == Fate::kAlive) == alive, "the share is of the kind that is due");
      Require(bytes == (alive ? owner->second.share_b : owner->second.share_s),
              "the share is the one that was dealt");
      Require(
          !alive || said[entry.owner].edge == EdgeTag(owner->second.channel.ack_out.Reveal(), sid_),
          "a self mask opens only for a true edge");
    }
  }

  Choices& choices_;
  std::map<Row, Bytes> asked_;
  bool advertised_ = false;
  Advertise victim_;
  Digest sid0_{};
  Digest sid_{};
  Index me_ = 0;
  uint32_t n_ = 0;
  GraphParams graph_;
  std::map<Index, Owner> owners_;
  std::set<Index> delivered_;
  std::set<int> left_s_;
  std::set<int> left_b_;
};

std::unique_ptr<Contributor> Victim(Rng& rng, const SecretBytes& seed, const Everybody& verifier) {
  ContributorOptions options;
  options.coordinator = Params().coordinator_id;
  options.expected = Params();
  options.honest_min = 1;
  options.identity_seed = seed.Reveal();
  options.evidence = {1, 2, 3};
  options.verifier = &verifier;
  options.rng = &rng;
  options.input = math::ZeroVector(Params().vec_len, Params().bits);
  Result<std::unique_ptr<Contributor>> made = NewContributor(std::move(options));
  Require(made.ok(), "a contributor is made");
  return *std::move(made);
}

}  // namespace

void Session(BytesView input) {
  static const SecretBytes identity = Key("victim");
  static const Everybody verifier;
  const std::unique_ptr<Rng> rng = crypto::NewSeededRng(Key("chance").Reveal());
  const std::unique_ptr<Contributor> victim = Victim(*rng, identity, verifier);
  Choices choices(input);
  MaliciousCoordinator coordinator(choices);
  bool ended = false;
  for (uint8_t step = 0; step < kRows + 2; ++step) {
    // A byte near the top asks a row out of its turn.
    const uint8_t turn = choices.Byte();
    const auto row = static_cast<Row>(turn >= 0xf8 ? turn % kRows : step % kRows);
    const Bytes question = coordinator.Ask(row);
    const Result<Bytes> answer = victim->Answer(question);
    Require(!answer.ok() || !ended, "nothing is sent after an error or the end");
    Require(answer.status().code() != Code::kInternal, "no question reaches a broken invariant");
    Require(victim->done() || answer.ok(), "an error ends the session");
    ended = ended || victim->done();
    if (answer.ok()) coordinator.Hear(row, *answer);
  }
  Require(ended, "the session ends");
}

}  // namespace chorus::aggregation

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chorus::aggregation::Session({data, size});
  return 0;
}
