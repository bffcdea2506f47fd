// A scriptable adversary over the in-memory transport of cohort.h, and a monitor that knows every
// secret and watches what leaves the clients. Written for the complete graph; the rows of another
// mode are another Rows.
#pragma once

#include <algorithm>
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
  size_t shares = 1;
  size_t input = 2;
  size_t acks = 3;
  size_t unmask = 4;
};
inline constexpr Rows kComplete{};

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
  explicit Monitor(const Rows& rows) : rows_(rows) {}

  // Hears what `client` was asked and said. `draws` are its own; `done` is its state afterwards.
  void Saw(size_t client, const RecordingRng& draws, BytesView question,
           const Result<Bytes>& answer, bool done) {
    Seen& seen = seen_[client];
    if (!answer.ok()) {
      seen.failed = true;
      EXPECT_TRUE(done) << "client " << client << " goes on after an error";
      return;
    }
    EXPECT_FALSE(seen.failed) << "client " << client << " answered after its error";
    EXPECT_FALSE(seen.ended) << "client " << client << " answered after its last answer";
    seen.ended = done;
    const size_t row = seen.answers++;
    if (row == rows_.keys) seen.said = *DecodeAdvertise(*answer);
    if (row == rows_.shares) NoteDealt(seen, draws, question, *answer);
    Search(client, seen, *answer);
  }

  // So many shares left the clients in the clear.
  size_t shares_opened() const { return shares_opened_; }

 private:
  struct Seen {
    bool failed = false;
    bool ended = false;
    size_t answers = 0;
    Advertise said;
    Digest sid{};
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

  // Reads what a client dealt, with its own secrets.
  void NoteDealt(Seen& seen, const RecordingRng& draws, BytesView question, BytesView answer) {
    const RosterAndPeers roster = *DecodeRoster(question, limits::kCohortMax);
    seen.sid = SessionId(seen.said.sid0, roster.n, roster.root);
    seen.me = roster.index;
    const Shares shares = *DecodeShares(answer, roster.n);
    const BytesView secret = draws.SecretOf(seen.said.c);
    ASSERT_FALSE(secret.empty());
    for (const Peer& peer : roster.peers) {
      const auto sealed =
          std::find_if(shares.sealed.begin(), shares.sealed.end(),
                       [&](const auto& entry) { return entry.first == peer.index; });
      ASSERT_NE(sealed, shares.sealed.end());
      const ChannelKeys keys =
          *DeriveChannel(seen.sid, secret, {seen.me, seen.said.c}, {peer.index, peer.c});
      // The graph is bound to the ciphertext; every client computes the same from n.
      const Bytes data =
          ShareAssociatedData(seen.sid, seen.me, peer.index, graphs[roster.n], shares.commitment);
      const Result<SecretBytes> opened =
          crypto::AeadOpen(keys.seal.Reveal(), crypto::Nonce{}, data, sealed->second);
      ASSERT_THAT(opened, IsOk());
      const BytesView both = opened->Reveal();
      const auto middle = both.begin() + math::kShareBytes;
      dealt_[{seen.sid, peer.index}].push_back(
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
      EXPECT_TRUE(seen.ended) << "client " << client << " gave a share before its last answer";
      left.s |= s;
      left.b |= b;
      shares_opened_ += static_cast<size_t>(s) + static_cast<size_t>(b);
      EXPECT_FALSE(left.s && left.b)
          << "both shares of owner " << dealt.owner << " left client " << client;
    }
  }

 public:
  std::map<uint32_t, GraphParams> graphs;  // for each size of roster that can be shown

 private:
  Rows rows_;
  std::map<size_t, Seen> seen_;
  std::map<std::pair<Digest, Index>, std::vector<Dealt>> dealt_;  // to each holder of a session
  std::map<std::pair<size_t, Index>, Left> left_;                 // (client, owner)
  size_t shares_opened_ = 0;
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

// A cohort whose every client is watched, and whose coordinator or any party can be replaced by a
// script: the hooks of Cohort change what is sent, and the members here give the adversary what
// such a party knows.
class AttackedCohort : public Cohort {
 public:
  explicit AttackedCohort(uint64_t seed, CohortShape shape = ShapeOf(7))
      : Cohort(seed, shape), clients(shape.clients) {
    for (uint32_t n = 2; n <= clients; ++n) {
      const Result<GraphParams> graph = CompleteGraph(n, shape.gamma_ppm, shape.delta_ppm);
      if (graph.ok()) monitor.graphs[n] = *graph;
    }
    for (size_t i = 0; i < clients; ++i) {
      auto rng = std::make_unique<RecordingRng>(std::move(rngs[i]));
      draws.push_back(rng.get());
      rngs[i] = std::move(rng);
      Restart(i);
    }
  }

  // The client begins anew, as after a crash: nothing of the session is left in it.
  void Restart(size_t client) {
    contributors[client] = std::make_unique<Watched>(*NewContributor(OptionsFor(client)), client,
                                                     *draws[client], monitor);
  }
  GraphParams graph() const { return monitor.graphs.at(clients); }
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
  // The channel of two members, from the first one's secrets.
  ChannelKeys Channel(size_t from, size_t to) const {
    return *DeriveChannel(sid_, draws[from]->SecretOf(Said(from).c), {IndexOf(from), Said(from).c},
                          {IndexOf(to), Said(to).c});
  }

  // Changes an answer on its way, as its sender would: the hook of a lying client. Every answer
  // passes here first, and is remembered.
  using ChangeAnswer = std::function<void(Where, Bytes&)>;
  void Listen(ChangeAnswer change = [](Where, Bytes&) {}) {
    on_answer = [this, change = std::move(change)](Where where, Bytes& body) {
      change(where, body);
      if (where.step == kComplete.keys) Remember(where.client, body);
      sent[{where.step, where.client}] = body;
      return true;
    };
  }
  // Changes what `victim` is asked in one row: the hook of a lying coordinator. The victim's status
  // after its last question.
  Status Lie(size_t victim, size_t row, std::function<void(Bytes&)> change) {
    if (sent.empty()) Listen();
    on_question = [this, victim, row, change = std::move(change)](Where where, Bytes& body) {
      asked[{where.step, where.client}] = body;
      if (where.step == kComplete.shares) FreezeSession();
      if (where.step == row && where.client == victim) change(body);
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
      asked[{where.step, where.client}] = body;
      if (where.step == kComplete.shares) FreezeSession();
      return true;
    };
  }
  // A roster of `members`, consistent and signed, as number `me` would see it.
  Bytes Forge(const std::vector<Advertise>& members, Index me) const {
    std::vector<Digest> leaves;
    for (const Advertise& m : members) leaves.push_back(RosterLeaf(m.sid0, m.id, m.c, m.s));
    const auto paths = crypto::MerklePaths(leaves);
    std::vector<Bytes> records;
    for (Index v = 0; v < members.size(); ++v) {
      const Advertise& m = members[v];
      records.push_back(EncodePeer({v, m.id, m.c, m.s, m.evidence, m.signature, paths[v]}));
    }
    RosterAndPeers roster;
    roster.n = static_cast<uint32_t>(members.size());
    roster.index = me;
    roster.root = crypto::MerkleRoot(leaves);
    roster.path = paths[me];
    roster.signature = crypto::Ed25519Sign(signing_seed.Reveal(),
                                           RosterMessage(members[me].sid0, roster.n, roster.root));
    return EncodeRoster(roster, records);
  }
  // Everybody but `without`, for Expected().
  std::set<size_t> AllBut(const std::set<size_t>& without) const {
    std::set<size_t> rest;
    for (size_t i = 0; i < clients; ++i) {
      if (!without.contains(i)) rest.insert(i);
    }
    return rest;
  }

  uint32_t clients;
  Monitor monitor{kComplete};
  std::vector<const RecordingRng*> draws;
  std::map<std::pair<size_t, size_t>, Bytes> asked;  // by (step, client), before any change
  std::map<std::pair<size_t, size_t>, Bytes> sent;   // likewise, after any change
  Status run;                                        // how the last Lie ended for the others

 private:
  void Remember(size_t client, BytesView body) {
    const Result<Advertise> said = DecodeAdvertise(body);
    if (said.ok()) said_[client] = *said;
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
