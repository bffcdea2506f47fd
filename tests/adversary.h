// A scriptable adversary over the in-memory transport of cohort.h, and a monitor that knows every
// secret and watches what leaves the clients; over each of the three sharing graphs. The graphs of
// large cohorts come from small_graph_tables.cc, which a test of this links.
#pragma once

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "cohort.h"
#include "matchers.h"

namespace chorus::aggregation {

// The place of each row in a client's answers.
struct Rows {
  size_t keys = 0;
  size_t roster = 1;  // where the roster is shown; in a self-selected graph a row of its own
  size_t shares = 1;
  size_t input = 2;
  size_t survivors = 3;  // on the ring they are answered with the shares
  size_t unmask = 4;
};
inline constexpr Rows kComplete{};
inline Rows RowsOf(SharingGraph mode) {
  if (mode == SharingGraph::kSelfSelected) return {0, 1, 2, 3, 4, 5};
  if (mode == SharingGraph::kHarary) return {0, 1, 1, 2, 3, 3};
  return kComplete;
}

// Passes draws on and remembers those of a key's size.
class RecordingRng final : public Rng {
 public:
  explicit RecordingRng(std::unique_ptr<Rng> inner) : inner_(std::move(inner)) {}
  void Fill(std::span<uint8_t> out) override {
    inner_->Fill(out);
    if (out.size() == crypto::kKeyBytes) drawn_.emplace_back(Bytes(out.begin(), out.end()));
  }
  // The secret that was drawn for `key`; empty when there is none.
  BytesView SecretOf(const PublicKey& key) const {
    for (const SecretBytes& secret : drawn_) {
      if (crypto::X25519Public(secret.Reveal()) == key) return secret.Reveal();
    }
    return {};
  }

 private:
  std::unique_ptr<Rng> inner_;
  std::vector<SecretBytes> drawn_;
};

// Fails the test when both shares of one owner leave one client, in whatever message, when a share
// leaves before the client's last answer, or when anything leaves after its error (I4).
class Monitor {
 public:
  explicit Monitor(const SessionParams& params)
      : params_(params),
        mode_(static_cast<SharingGraph>(params.mode)),
        rows_(RowsOf(static_cast<SharingGraph>(params.mode))) {}
  ~Monitor() {
    for (const std::string& violation : violations_) ADD_FAILURE() << violation;
  }
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;

  // Hears what `client` was asked and said. `draws` are its own; `done` is its state afterwards.
  void Saw(size_t client, const RecordingRng& draws, BytesView question,
           const Result<Bytes>& answer, bool done) {
    Seen& seen = seen_[client];
    if (!answer.ok()) {
      seen.failed = true;
      if (!done) Report(client, "goes on after an error");
      return;
    }
    if (seen.failed || seen.ended) {
      Report(client, seen.failed ? "answered after its error" : "answered after its last answer");
      return;
    }
    seen.ended = done;
    const size_t row = seen.answers++;
    if (row == rows_.keys) seen.said = *DecodeAdvertise(*answer);
    if (row == rows_.roster) NoteRoster(seen, question);
    if (row == rows_.shares) NoteDealt(seen, draws, question, *answer);
    Search(client, seen, *answer);
  }

  // So many shares left the clients in the clear.
  size_t shares_opened() const { return shares_opened_; }
  // What was seen so far, which then does not fail the test.
  std::vector<std::string> TakeViolations() { return std::exchange(violations_, {}); }

 private:
  struct Seen {
    bool failed = false;
    bool ended = false;
    size_t answers = 0;
    Advertise said;
    Digest sid{};
    uint32_t n = 0;
    Index me = 0;
  };
  struct Dealt {
    Index owner = 0;
    Bytes share_s;
    Bytes share_b;
  };
  struct Left {
    bool s = false;
    bool b = false;
  };

  void Report(size_t client, const std::string& what) {
    violations_.push_back("client " + std::to_string(client) + " " + what);
  }

  void NoteRoster(Seen& seen, BytesView question) {
    Reader in(question);
    seen.n = in.U32();
    seen.me = in.U32();
    seen.sid = SessionId(seen.said.sid0, seen.n, in.Array<32>());
  }

  std::map<Index, PublicKey> ChannelKeysIn(uint32_t n, BytesView question) const {
    std::vector<Peer> peers;
    if (mode_ == SharingGraph::kSelfSelected) peers = DecodePeers(question, n)->records;
    if (mode_ == SharingGraph::kHarary) peers = DecodeRing(question, n)->peers;
    if (mode_ == SharingGraph::kComplete) peers = DecodeRoster(question, n)->peers;
    std::map<Index, PublicKey> keys;
    for (const Peer& peer : peers) keys[peer.index] = peer.c;
    return keys;
  }

  // Reads what a client dealt, with its own secrets.
  void NoteDealt(const Seen& seen, const RecordingRng& draws, BytesView question,
                 BytesView answer) {
    const std::map<Index, PublicKey> peers = ChannelKeysIn(seen.n, question);
    const Shares shares = *DecodeShares(answer, seen.n);
    const BytesView secret = draws.SecretOf(seen.said.c);
    ASSERT_FALSE(secret.empty());
    ASSERT_FALSE(shares.sealed.empty());
    for (const auto& [holder, sealed] : shares.sealed) {
      const ChannelKeys keys = *DeriveChannel(seen.sid, crypto::X25519Key(secret),
                                              {seen.me, seen.said.c}, {holder, peers.at(holder)});
      // The graph is bound to the ciphertext; every client computes the same from n.
      const Bytes data = ShareAssociatedData(seen.sid, seen.me, holder, *GraphFor(params_, seen.n),
                                             shares.commitment);
      const Result<SecretBytes> opened =
          crypto::AeadOpen(keys.seal.Reveal(), crypto::Nonce{}, data, sealed);
      ASSERT_THAT(opened, IsOk());
      const BytesView both = opened->Reveal();
      const auto middle = both.begin() + math::kShareBytes;
      dealt_[{seen.sid, holder}].push_back(
          {seen.me, Bytes(both.begin(), middle), Bytes(middle, both.end())});
    }
  }

  void Search(size_t client, const Seen& seen, BytesView answer) {
    const auto held = dealt_.find({seen.sid, seen.me});
    if (held == dealt_.end()) return;
    const auto contains = [answer](const Bytes& share) {
      return std::search(answer.begin(), answer.end(), share.begin(), share.end()) != answer.end();
    };
    for (const Dealt& dealt : held->second) {
      Left& left = left_[{client, dealt.owner}];
      const bool s = contains(dealt.share_s);
      const bool b = contains(dealt.share_b);
      if (!s && !b) continue;
      if (!seen.ended) Report(client, "gave a share before its last answer");
      left.s |= s;
      left.b |= b;
      shares_opened_ += static_cast<size_t>(s) + static_cast<size_t>(b);
      if (left.s && left.b) {
        Report(client, "gave both shares of owner " + std::to_string(dealt.owner));
      }
    }
  }

  SessionParams params_;  // but for what tells sessions apart
  SharingGraph mode_;
  Rows rows_;
  std::map<size_t, Seen> seen_;
  std::map<std::pair<Digest, Index>, std::vector<Dealt>> dealt_;  // to each holder of a session
  std::map<std::pair<size_t, Index>, Left> left_;                 // (client, owner)
  size_t shares_opened_ = 0;
  std::vector<std::string> violations_;
};

// A contributor under the monitor's eyes.
class Watched final : public Contributor {
 public:
  Watched(std::unique_ptr<Contributor> inner, size_t client, const RecordingRng& draws,
          Monitor& monitor)
      : inner_(std::move(inner)), client_(client), draws_(draws), monitor_(monitor) {}
  Result<Bytes> Answer(BytesView question) override {
    Result<Bytes> answer = inner_->Answer(question);
    monitor_.Saw(client_, draws_, question, answer, inner_->done());
    return answer;
  }
  bool uploaded() const override { return inner_->uploaded(); }
  bool done() const override { return inner_->done(); }

 private:
  std::unique_ptr<Contributor> inner_;
  size_t client_;
  const RecordingRng& draws_;
  Monitor& monitor_;
};

inline CohortShape ShapeOf(uint32_t clients) {
  CohortShape shape;
  shape.clients = clients;
  return shape;
}
// Whatever the graph, each client has six holders, and four of them open its secrets.
inline CohortShape ShapeOf(SharingGraph mode) {
  if (mode == SharingGraph::kComplete) return ShapeOf(7);
  CohortShape shape = ShapeOf(12);
  shape.graph = mode;
  shape.minimum = 5;
  return shape;
}
inline constexpr std::array kAllGraphs = {SharingGraph::kComplete, SharingGraph::kSelfSelected,
                                          SharingGraph::kHarary};
// Those whose claims hold against a coordinator that lies.
inline constexpr std::array kMaliciousGraphs = {SharingGraph::kComplete,
                                                SharingGraph::kSelfSelected};
inline std::string NameOfGraph(const testing::TestParamInfo<SharingGraph>& test) {
  if (test.param == SharingGraph::kComplete) return "Complete";
  return test.param == SharingGraph::kHarary ? "Harary" : "SelfSelected";
}

// A cohort whose every client is watched, and whose coordinator or any party can be replaced by a
// script: the hooks of Cohort change what is sent, and the members here give the adversary what
// such a party knows.
class AttackedCohort : public Cohort {
 public:
  AttackedCohort(uint64_t seed, CohortShape shape)
      : Cohort(seed, shape),
        mode(shape.graph),
        rows(RowsOf(shape.graph)),
        clients(shape.clients),
        monitor(params) {
    for (size_t i = 0; i < clients; ++i) {
      auto rng = std::make_unique<RecordingRng>(std::move(rngs[i]));
      draws.push_back(rng.get());
      rngs[i] = std::move(rng);
      Restart(i);
    }
  }
  AttackedCohort(uint64_t seed, SharingGraph graph) : AttackedCohort(seed, ShapeOf(graph)) {}

  // The client begins anew, as after a crash: nothing of the session is left in it.
  void Restart(size_t client) { Replace(client, *NewContributor(OptionsFor(client))); }
  // Another contributor takes the client's place, under the monitor's eyes as well.
  void Replace(size_t client, std::unique_ptr<Contributor> other) {
    contributors[client] =
        std::make_unique<Watched>(std::move(other), client, *draws[client], monitor);
  }
  // The graph of the session, once its roster is frozen.
  GraphParams graph() const { return *GraphFor(params, static_cast<uint32_t>(said_.size())); }
  PublicKey IdOf(size_t client) const { return crypto::Ed25519Public(identities[client].Reveal()); }
  Signature SignAs(size_t client, BytesView message) const {
    return crypto::Ed25519Sign(identities[client].Reveal(), message);
  }
  // What the client advertised: from R0 on. Needs Listen().
  const Advertise& Said(size_t client) const { return said_.at(client); }
  Digest sid() const { return sid_; }
  // The client's place in the roster of everybody who advertised.
  Index IndexOf(size_t client) const {
    Index index = 0;
    for (const auto& [other, said] : said_) {
      if (OrderKey(said.sid0, said.id) < OrderKey(said.sid0, IdOf(client))) ++index;
    }
    return index;
  }
  size_t ClientAt(Index index) const {
    for (const auto& [client, said] : said_) {
      if (IndexOf(client) == index) return client;
    }
    return clients;
  }
  std::vector<Advertise> Members() const {
    std::vector<Advertise> members(said_.size());
    for (const auto& [client, said] : said_) members[IndexOf(client)] = said;
    return members;
  }
  // Who holds shares of the client, ascending by index: once it has dealt them.
  std::vector<size_t> HoldersOf(size_t client) const {
    const Shares shares = *DecodeShares(sent.at({rows.shares, client}), clients);
    std::vector<size_t> holders;
    for (const auto& [index, sealed] : shares.sealed) holders.push_back(ClientAt(index));
    return holders;
  }
  // The channel of two members, from the first one's secrets.
  ChannelKeys Channel(size_t from, size_t to) const {
    return *DeriveChannel(sid_, crypto::X25519Key(draws[from]->SecretOf(Said(from).c)),
                          {IndexOf(from), Said(from).c}, {IndexOf(to), Said(to).c});
  }
  // The shares of `owner` that it dealt to `holder`: of s, then of b.
  SecretBytes DealtTo(size_t holder, size_t owner) const {
    const Shares shares = *DecodeShares(sent.at({rows.shares, owner}), clients);
    const Index to = IndexOf(holder);
    const auto place = std::find_if(shares.sealed.begin(), shares.sealed.end(),
                                    [to](const auto& entry) { return entry.first == to; });
    return *crypto::AeadOpen(
        Channel(owner, holder).seal.Reveal(), crypto::Nonce{},
        ShareAssociatedData(sid_, IndexOf(owner), to, graph(), shares.commitment), place->second);
  }

  // Changes an answer on its way, as its sender would: the hook of a lying client. Every answer
  // passes here first, and is remembered.
  using ChangeAnswer = std::function<void(Where, Bytes&)>;
  void Listen(ChangeAnswer change = [](Where, Bytes&) {}) {
    on_answer = [this, change = std::move(change)](Where where, Bytes& body) {
      change(where, body);
      if (where.step == rows.keys) Remember(where.client, body);
      sent[{where.step, where.client}] = body;
      return true;
    };
  }
  // Changes what `victim` is asked in one row: the hook of a lying coordinator. The victim's status
  // after its last question.
  Status Lie(size_t victim, size_t row, std::function<void(Bytes&)> change) {
    if (sent.empty()) Listen();
    on_question = [this, victim, row, change = std::move(change)](Where where, Bytes& body) {
      Note(where, body);
      if (where.step == row && where.client == victim) change(body);
      return true;
    };
    run = Run().status();
    return client_status[victim];
  }
  // What one client is told of the cohort.
  struct Told {
    std::vector<Advertise> members;
    Index me = 0;
    std::vector<Index> shown;  // on the ring, among its neighbours at any rate
  };
  // Shows `victim` a roster of its own, consistent and signed. Its status after that. In a
  // self-selected graph it is told besides that everybody chose it, so that it sees all records;
  // the aggregator would not ask one that chose in another session, so the lie asks in its place.
  Status LieAboutMembers(size_t victim, const std::function<void(Told&)>& change) {
    Told told;
    Listen();
    const auto remember = std::move(on_answer);
    on_answer = [&](Where where, Bytes& body) {
      remember(where, body);
      if (mode != SharingGraph::kSelfSelected) return true;
      if (where.client != victim || where.step != rows.roster) return true;
      const Result<Bytes> shares = contributors[victim]->Answer(ForgePeers(told, body));
      client_status[victim] = shares.status();
      if (shares.ok()) sent[{rows.shares, victim}] = *shares;
      return true;
    };
    on_question = [&](Where where, Bytes& body) {
      Note(where, body);
      if (where.client != victim) return true;
      // Asked already, if its roster was that of all.
      if (mode == SharingGraph::kSelfSelected && where.step == rows.shares) return false;
      if (where.step != rows.roster) return true;
      told = {Members(), IndexOf(victim), {}};
      change(told);
      body = Forge(told);
      return true;
    };
    run = Run().status();
    return client_status[victim];
  }
  // Runs with clients that lie as `change` says.
  Result<Sum> RunWith(ChangeAnswer change) {
    Attend(std::move(change));
    return Run();
  }
  // Sets the hooks that RunWith needs, for a run step by step.
  void Attend(ChangeAnswer change) {
    Listen(std::move(change));
    on_question = [this](Where where, Bytes& body) {
      Note(where, body);
      return true;
    };
  }

  // A roster of `members`, consistent and signed, as number `me` would see it.
  Roster SignedRoster(const std::vector<Advertise>& members, Index me) const {
    std::vector<Digest> leaves;
    for (const Advertise& m : members) leaves.push_back(RosterLeaf(m.sid0, m.id, m.c, m.s));
    Roster roster;
    roster.n = static_cast<uint32_t>(members.size());
    roster.index = me;
    roster.root = crypto::MerkleRoot(leaves);
    roster.path = crypto::MerklePaths(leaves)[me];
    roster.signature = crypto::Ed25519Sign(signing_seed.Reveal(),
                                           RosterMessage(members[me].sid0, roster.n, roster.root));
    return roster;
  }
  static std::vector<Bytes> RecordsOf(const std::vector<Advertise>& members) {
    std::vector<Digest> leaves;
    for (const Advertise& m : members) leaves.push_back(RosterLeaf(m.sid0, m.id, m.c, m.s));
    const auto paths = crypto::MerklePaths(leaves);
    std::vector<Bytes> records;
    for (Index v = 0; v < members.size(); ++v) {
      const Advertise& m = members[v];
      records.push_back(EncodePeer({v, m.id, m.c, m.s, m.evidence, m.signature, paths[v]}));
    }
    return records;
  }
  // The question of the roster row.
  Bytes Forge(const Told& told) const {
    const Roster roster = SignedRoster(told.members, told.me);
    if (mode == SharingGraph::kSelfSelected) return EncodeRosterOnly(roster);
    const std::vector<Bytes> records = RecordsOf(told.members);
    if (mode == SharingGraph::kHarary) {
      std::set<Index> ring(told.shown.begin(), told.shown.end());
      for (Index v = 0; v < roster.n && ring.size() < graph().k; ++v) {
        if (v != told.me) ring.insert(v);
      }
      return EncodeRing(roster, std::vector<Index>(ring.begin(), ring.end()), records);
    }
    RosterAndPeers both;
    static_cast<Roster&>(both) = roster;
    return EncodeRoster(both, records);
  }
  // The question of the shares row in a self-selected graph, after the client's choice.
  static Bytes ForgePeers(const Told& told, BytesView choice) {
    std::vector<Index> others;
    for (Index v = 0; v < told.members.size(); ++v) {
      if (v != told.me) others.push_back(v);
    }
    const auto n = static_cast<uint32_t>(told.members.size());
    return EncodePeers(DecodeChoose(choice, n)->holders, others, RecordsOf(told.members));
  }
  // Everybody but `without`, for Expected().
  std::set<size_t> AllBut(const std::set<size_t>& without) const {
    std::set<size_t> rest;
    for (size_t i = 0; i < clients; ++i) {
      if (!without.contains(i)) rest.insert(i);
    }
    return rest;
  }

  SharingGraph mode;
  Rows rows;
  uint32_t clients;
  Monitor monitor;
  std::vector<const RecordingRng*> draws;
  std::map<std::pair<size_t, size_t>, Bytes> asked;  // by (step, client), before any change
  std::map<std::pair<size_t, size_t>, Bytes> sent;   // likewise, after any change
  Status run;                                        // how the last Lie ended for the others

 private:
  void Remember(size_t client, BytesView body) {
    const Result<Advertise> said = DecodeAdvertise(body);
    if (said.ok()) said_[client] = *said;
  }
  void Note(Where where, const Bytes& body) {
    asked[{where.step, where.client}] = body;
    if (where.step == rows.roster && sid_ == Digest{}) FreezeSession();
  }
  void FreezeSession() {
    // Who was refused at R0 is in no roster.
    std::erase_if(said_, [this](const auto& entry) { return !hear_status[entry.first].ok(); });
    std::vector<Digest> leaves;
    for (const Advertise& m : Members()) leaves.push_back(RosterLeaf(m.sid0, m.id, m.c, m.s));
    const auto n = static_cast<uint32_t>(leaves.size());
    sid_ = SessionId(Members()[0].sid0, n, crypto::MerkleRoot(leaves));
  }

  std::map<size_t, Advertise> said_;
  Digest sid_{};
};

}  // namespace chorus::aggregation
