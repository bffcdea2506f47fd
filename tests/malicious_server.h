// A malicious coordinator that holds its signing key and some members' secrets, tells every client
// what a script says, collects whatever it can open, and works out which sums that gives it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "adversary.h"

namespace chorus::aggregation {

// What the server says to whom. Clients go by their numbers in the cohort, colluders included; the
// first parameter is the client that is spoken to.
struct Script {
  using Pair = std::function<bool(size_t to, size_t about)>;
  // Clients of different worlds get different offers, and so different sessions.
  std::function<uint32_t(size_t to)> world = [](size_t) { return 0; };
  std::function<bool(size_t step, size_t to)> asks = [](size_t, size_t) { return true; };
  Pair lists = [](size_t, size_t) { return true; };     // in the roster, besides itself
  Pair inverts = [](size_t, size_t) { return false; };  // says the contrary of who chose it
  Pair delivers = [](size_t, size_t) { return true; };  // in Deliver: gives an edge
  Pair spoils = [](size_t, size_t) { return false; };   // the ciphertext in Deliver
  Pair alive = [](size_t, size_t) { return true; };     // in Survivors
  Pair forges = [](size_t, size_t) { return false; };   // the edge tag in Survivors
  Pair acks = [](size_t, size_t) { return true; };      // passes that holder's acknowledgement on
  // Has the last word on every question.
  std::function<void(size_t step, size_t to, Bytes& body)> tamper = [](size_t, size_t, Bytes&) {};
  // After each row, for questions out of turn (Send).
  std::function<void(size_t step)> after = [](size_t) {};
};

// Honest clients whose inputs the server can combine into an unmasked sum; no part of them opens.
struct Learned {
  std::set<size_t> clients;
  uint32_t honest_min = 0;  // at least t - X + 1 clients, with X colluders among one's holders
  bool closed = false;      // each of them has t - X holders or more among them [3.0 (3)]
  bool exact = false;       // the masks, taken out, leave the sum of their inputs
};

class MaliciousServer {
 public:
  // The first `colluders` clients collude.
  MaliciousServer(uint64_t seed, CohortShape shape, size_t colluders)
      : cohort(seed, shape),
        rows(cohort.rows),
        shape_(shape),
        colluders_(colluders),
        honest_(shape.clients) {
    for (size_t i = 0; i < colluders; ++i) {
      Colluder colluder{cohort.Secret("colluder c", i), cohort.Secret("colluder s", i), {}, {}};
      colluder.c = crypto::X25519Public(colluder.c_secret.Reveal());
      colluder.s = crypto::X25519Public(colluder.s_secret.Reveal());
      colluding_.push_back(std::move(colluder));
    }
    for (size_t i = 0; i < shape.clients; ++i) client_of_[cohort.IdOf(i)] = i;
  }

  Script script;
  AttackedCohort cohort;
  const Rows rows;

  void Run() {
    for (size_t step = rows.keys; step <= rows.unmask; ++step) {
      for (size_t u = colluders_; u < honest_.size(); ++u) Ask(step, u);
      script.after(step);
    }
  }
  // One row's question to one client, if it came so far that there is one.
  void Ask(size_t step, size_t to) {
    const Client& u = honest_[to];
    if (!script.asks(step, to) || (step > rows.keys && !u.said)) return;
    if ((step > rows.roster && u.roster.empty()) || (step > rows.shares && !u.shares)) return;
    if (step > rows.input && !u.masked) return;
    Bytes body = QuestionOf(step, to);
    script.tamper(step, to, body);
    Send(to, body);
  }
  // Asks a client anything, at any time, and takes its answer for what it must be.
  void Send(size_t to, BytesView body) {
    const Result<Bytes> answer = cohort.contributors[to]->Answer(body);
    if (answer.ok()) Take(to, body, *answer);
    status[to] = answer.status();
  }
  std::map<size_t, Status> status;  // of each client's last answer
  // The row's question to `to` as the script has it.
  Bytes QuestionOf(size_t step, size_t to) {
    if (step == rows.keys) return OfferTo(to);
    if (step == rows.roster) return RosterTo(to);
    if (step == rows.shares) return PeersTo(to);
    if (step == rows.input) return DeliverTo(to);
    if (step == rows.survivors) return SurvivorsTo(to);
    return AckSetTo(to);
  }

  size_t colluders() const { return colluders_; }
  size_t honest() const { return honest_.size() - colluders_; }
  bool Uploaded(size_t client) const { return honest_[client].masked.has_value(); }
  bool Answered(size_t client, size_t step) const { return honest_[client].answers > step; }
  const std::set<size_t>& Edges(size_t client) const { return honest_[client].masked->edges; }
  const std::set<size_t>& Failed(size_t client) const { return honest_[client].masked->failed; }
  // Who holds shares of the client, as far as it has chosen or been told.
  const std::set<size_t>& Holders(size_t client) const { return honest_[client].out; }
  const GraphParams& Graph(size_t client) const { return honest_[client].graph; }
  // Whether the holder acknowledged the owner's upload.
  bool Acknowledges(size_t holder, size_t owner) const {
    return honest_[holder].acks.contains(owner);
  }
  // Whether the holder opened a share of the owner, of whatever kind.
  bool Gave(size_t holder, size_t owner) const { return honest_[holder].given.contains(owner); }
  // The client's place in the roster that it was shown.
  Index Place(size_t client) const { return honest_[client].me; }
  // Whether t shares or more of the owner's b (alive) or s (dropped) are known.
  bool Knows(size_t owner, Fate fate) const { return Open(owner, fate).has_value(); }

  // The smallest sets whose sums open. A pair mask is unknown when neither end's s is; with c_u
  // copies of each y_u in a combination, an unknown self mask forces c_u = 0, and so does an
  // unknown pair mask that the other end does not carry; one that both carry forces c_u = c_v. So
  // what opens is spanned by the components of the graph of unknown mutual masks that hold no such
  // client.
  std::vector<Learned> Learn() const {
    std::vector<Learned> all;
    std::map<size_t, SecretBytes> self;
    std::map<size_t, SecretBytes> pair;
    for (size_t u = colluders_; u < honest_.size(); ++u) {
      if (auto b = Open(u, Fate::kAlive)) self.emplace(u, *std::move(b));
      if (auto s = Open(u, Fate::kDropped)) pair.emplace(u, *std::move(s));
    }
    std::set<size_t> seen;
    for (size_t u = colluders_; u < honest_.size(); ++u) {
      if (!honest_[u].masked || seen.contains(u)) continue;
      Learned set;
      set.clients = {u};
      const bool opens = Close(set.clients, self, pair);
      seen.insert(set.clients.begin(), set.clients.end());
      if (!opens) continue;
      Judge(set);
      set.exact = IsExact(set.clients, self, pair);
      all.push_back(std::move(set));
    }
    return all;
  }

 private:
  struct Colluder {
    SecretBytes c_secret;
    SecretBytes s_secret;
    PublicKey c{};
    PublicKey s{};
  };
  struct Upload {
    std::set<size_t> edges;   // E(u)
    std::set<size_t> failed;  // of these, whose shares it does not hold
    std::map<size_t, Tag> tags;
    Bytes packed;
  };
  struct Client {
    size_t answers = 0;
    std::optional<Advertise> said;
    std::vector<size_t> roster;  // clients in the order of the session that it accepted
    std::vector<Advertise> keys;
    std::set<size_t> out;  // its holders: whom it chose, or what it was told
    std::set<size_t> in;   // whose holder it was told to be
    Index me = 0;
    Digest sid{};
    GraphParams graph;
    std::optional<Shares> shares;
    std::optional<Upload> masked;
    std::map<size_t, Tag> acks;           // to owners
    std::map<size_t, UnmaskEntry> given;  // of owners
  };

  // --- questions --------------------------------------------------------------------------------
  Bytes OfferTo(size_t to) const {
    SessionParams params = cohort.params;
    params.nonce[0] = static_cast<uint8_t>(params.nonce[0] + script.world(to));
    return MakeOffer(params, cohort.signing_seed.Reveal());
  }

  Advertise SaidBy(size_t member, const Digest& sid0) {
    if (member >= colluders_) return *honest_[member].said;
    Advertise& said = colluders_say_[{member, sid0}];
    if (said.sid0 == sid0) return said;
    said.sid0 = sid0;
    said.id = cohort.IdOf(member);
    said.c = colluding_[member].c;
    said.s = colluding_[member].s;
    said.signature = cohort.SignAs(member, AdvertiseMessage(said));
    return said;
  }

  // X of a roster: so many colluders are within the assumption.
  uint32_t BorneIn(size_t n) const {
    const Result<GraphParams> graph = GraphFor(cohort.params, static_cast<uint32_t>(n));
    return graph.ok() ? graph->t - graph->honest + 1 : UINT32_MAX;
  }
  // A smaller roster than planned may allow fewer: the attacks stay within the assumption.
  bool TooManyCollude(const std::vector<size_t>& listed) const {
    const auto colluding = static_cast<uint32_t>(std::count_if(
        listed.begin(), listed.end(), [this](size_t client) { return client < colluders_; }));
    return colluding > BorneIn(listed.size());
  }
  Bytes RosterTo(size_t to) {
    const Digest& sid0 = honest_[to].said->sid0;
    std::vector<size_t> listed;
    for (size_t v = 0; v < honest_.size(); ++v) {
      const bool there = v < colluders_ || (honest_[v].said && honest_[v].said->sid0 == sid0);
      if (there && (v == to || script.lists(to, v))) listed.push_back(v);
    }
    while (listed[0] < colluders_ && shape_.graph != SharingGraph::kHarary &&
           TooManyCollude(listed)) {
      listed.erase(listed.begin());
    }
    AttackedCohort::Told told;
    for (const size_t v : listed) told.members.push_back(SaidBy(v, sid0));
    std::sort(told.members.begin(), told.members.end(), [](const Advertise& a, const Advertise& b) {
      return OrderKey(a.sid0, a.id) < OrderKey(b.sid0, b.id);
    });
    while (told.members[told.me].id != honest_[to].said->id) ++told.me;
    const Roster roster = cohort.SignedRoster(told.members, told.me);
    rosters_[roster.root] = told.members;
    if (shape_.graph != SharingGraph::kHarary) return cohort.Forge(told);
    return EncodeRing(roster, RingAround(told.me, roster.n),
                      AttackedCohort::RecordsOf(told.members));
  }
  // The nearest on a ring in the order of the roster.
  std::vector<Index> RingAround(Index me, uint32_t n) const {
    const Result<GraphParams> graph = GraphFor(cohort.params, n);
    std::vector<Index> ring;
    for (uint32_t step = 1; graph.ok() && step <= graph->k / 2; ++step) {
      ring.push_back((me + step) % n);
      ring.push_back((me + n - step) % n);
    }
    std::sort(ring.begin(), ring.end());
    return ring;
  }

  // In a self-selected graph: whom the client chose, and who is said to have chosen it. Colluders
  // choose everybody.
  Bytes PeersTo(size_t to) const {
    const Client& u = honest_[to];
    std::vector<Index> out;
    std::vector<Index> in;
    for (Index i = 0; i < u.roster.size(); ++i) {
      const size_t v = u.roster[i];
      if (v == to) continue;
      const bool chose = v < colluders_ || (honest_[v].sid == u.sid && honest_[v].out.contains(to));
      if (u.out.contains(v)) out.push_back(i);
      if (chose != script.inverts(to, v)) in.push_back(i);
    }
    return EncodePeers(out, in, AttackedCohort::RecordsOf(u.keys));
  }

  Bytes DeliverTo(size_t to) {
    const Client& u = honest_[to];
    std::vector<Delivery> entries;
    for (Index i = 0; i < u.roster.size(); ++i) {
      const size_t v = u.roster[i];
      const bool neighbour = u.out.contains(v) || u.in.contains(v);
      if (!neighbour || !script.delivers(to, v)) continue;
      Delivery entry = v < colluders_ ? Dealt(v, i, u) : Delivered(v, i, u);
      if (script.spoils(to, v)) {
        entry.sealed[7] ^= 1;
        if (entry.hello) (*entry.hello)[7] ^= 1;
      }
      entries.push_back(entry);
    }
    return EncodeDeliver(entries);
  }
  // What an honest member dealt to u, if it did in u's session; else bytes that open nowhere.
  Delivery Delivered(size_t from, Index index, const Client& u) const {
    Delivery entry;
    entry.from = index;
    if (!u.in.contains(from)) entry.hello = Hello{};
    const Client& v = honest_[from];
    if (!v.shares || v.sid != u.sid) return entry;
    entry.commitment = v.shares->commitment;
    for (const auto& [to, sealed] : v.shares->sealed) {
      if (to == u.me) entry.sealed = sealed;
    }
    for (const auto& [to, hello] : v.shares->hellos) {
      if (to == u.me && entry.hello) entry.hello = hello;
    }
    return entry;
  }
  // What a colluder deals to u: shares of secrets that nobody has, or a hello.
  Delivery Dealt(size_t colluder, Index index, const Client& u) const {
    Delivery entry;
    entry.from = index;
    const bool owner = u.in.contains(colluder);
    const Bytes sealed =
        crypto::AeadSeal(Channel(colluder, u).seal.Reveal(), crypto::Nonce{},
                         ShareAssociatedData(u.sid, index, u.me, u.graph, entry.commitment),
                         Bytes(owner ? kSharePairBytes : 0, 1));
    if (!owner) entry.hello = Hello{};
    std::copy(sealed.begin(), sealed.end(), owner ? entry.sealed.begin() : entry.hello->begin());
    return entry;
  }
  // Of a colluder to u, from the colluder's side.
  ChannelKeys Channel(size_t colluder, const Client& u) const {
    return *DeriveChannel(u.sid, crypto::X25519Key(colluding_[colluder].c_secret.Reveal()),
                          {Place(u, colluder), colluding_[colluder].c}, {u.me, u.said->c});
  }
  static Index Place(const Client& u, size_t client) {
    Index index = 0;
    while (u.roster[index] != client) ++index;
    return index;
  }

  Bytes SurvivorsTo(size_t to) const {
    const Client& u = honest_[to];
    std::vector<Survivor> entries;
    for (Index i = 0; i < u.roster.size(); ++i) {
      const size_t v = u.roster[i];
      if (!u.in.contains(v) || !u.masked->edges.contains(v)) continue;
      if (u.masked->failed.contains(v)) continue;
      Survivor entry{i, script.alive(to, v) ? Fate::kAlive : Fate::kDropped, {}};
      if (v < colluders_) {
        entry.edge = EdgeTag(Channel(v, u).ack_out.Reveal(), u.sid);
      } else if (honest_[v].masked && honest_[v].masked->tags.contains(to)) {
        entry.edge = honest_[v].masked->tags.at(to);
      }
      if (script.forges(to, v)) entry.edge[0] ^= 1;
      entries.push_back(entry);
    }
    return EncodeSurvivors(entries);
  }

  Bytes AckSetTo(size_t to) const {
    const Client& u = honest_[to];
    AckSet entries;
    for (Index i = 0; i < u.roster.size(); ++i) {
      const size_t v = u.roster[i];
      if (v == to || !script.acks(to, v)) continue;
      if (v < colluders_) {
        entries.emplace_back(i, AckTag(Channel(v, u).ack_out.Reveal(), u.sid));
      } else if (honest_[v].acks.contains(to)) {
        entries.emplace_back(i, honest_[v].acks.at(to));
      }
    }
    return EncodeAckSet(entries);
  }

  // --- answers ----------------------------------------------------------------------------------
  void Take(size_t from, BytesView question, BytesView answer) {
    Client& u = honest_[from];
    const size_t row = u.answers++;
    if (row == rows.keys) u.said = *DecodeAdvertise(answer);
    if (row == rows.roster) TakeRoster(u, question);
    if (row == rows.roster && row != rows.shares) {
      const Choose choice = *DecodeChoose(answer, limits::kCohortMax);
      for (const Index index : choice.holders) u.out.insert(u.roster[index]);
    }
    if (row == rows.shares) TakeShares(from, question, answer);
    if (row == rows.input) TakeMasked(u, answer);
    if (row == rows.survivors && row != rows.unmask) {
      const Acks acks = *DecodeAcks(answer, limits::kCohortMax);
      for (const auto& [owner, tag] : acks.acks) u.acks[u.roster[owner]] = tag;
    }
    if (row == rows.unmask) {
      const auto entries = DecodeUnmask(answer, limits::kCohortMax, u.me + 1);
      ASSERT_THAT(entries, IsOk());
      for (const UnmaskEntry& entry : *entries) {
        u.given[u.roster[entry.owner]] = entry;
      }
    }
  }

  void TakeRoster(Client& u, BytesView question) const {
    Reader in(question);
    const uint32_t n = in.U32();
    u.me = in.U32();
    const Digest root = in.Array<32>();
    u.sid = SessionId(u.said->sid0, n, root);
    u.graph = *GraphFor(cohort.params, n);
    u.keys = rosters_.at(root);
    for (const Advertise& said : u.keys) u.roster.push_back(client_of_.at(said.id));
  }

  void TakeShares(size_t from, BytesView question, BytesView answer) {
    Client& u = honest_[from];
    u.shares = *DecodeShares(answer, limits::kCohortMax);
    const auto insert = [&u](std::set<size_t>& list, Index index) { list.insert(u.roster[index]); };
    if (shape_.graph == SharingGraph::kSelfSelected) {
      const Peers peers = *DecodePeers(question, static_cast<uint32_t>(u.roster.size()));
      for (const Index index : peers.in) insert(u.in, index);
      return;
    }
    const RosterAndPeers told = shape_.graph == SharingGraph::kHarary
                                    ? *DecodeRing(question, limits::kCohortMax)
                                    : *DecodeRoster(question, limits::kCohortMax);
    for (const Peer& peer : told.peers) insert(u.out, peer.index);
    u.in = u.out;
  }

  void TakeMasked(Client& u, BytesView answer) const {
    const uint64_t packed_bytes = math::PackedBytes(shape_.dim, shape_.bits);
    const Masked masked = *DecodeMasked(answer, limits::kCohortMax, packed_bytes);
    Upload upload;
    upload.packed = Bytes(masked.packed.begin(), masked.packed.end());
    for (const Index index : masked.failed) upload.failed.insert(u.roster[index]);
    for (const auto& [index, tag] : masked.edges) {
      upload.edges.insert(u.roster[index]);
      upload.tags[u.roster[index]] = tag;
    }
    u.masked = std::move(upload);
  }

  // --- what it learns ---------------------------------------------------------------------------
  // The owner's b or s from the first t shares that honest holders gave or colluders were dealt.
  std::optional<SecretBytes> Open(size_t owner, Fate fate) const {
    const Client& u = honest_[owner];
    if (!u.shares) return std::nullopt;
    std::vector<math::Share> shares;
    std::vector<uint32_t> xs;
    for (Index i = 0; i < u.roster.size() && shares.size() < u.graph.t; ++i) {
      std::optional<math::Share> share = ShareAt(u, owner, i, fate);
      if (!share) continue;
      shares.push_back(*share);
      xs.push_back(i + 1);
    }
    if (shares.size() < u.graph.t) return std::nullopt;
    Result<SecretBytes> secret = math::OpenSecret(shares, math::LagrangeAtZero(xs));
    EXPECT_THAT(secret, IsOk());
    if (!secret.ok()) return std::nullopt;
    const bool right = fate == Fate::kAlive
                           ? ShareCommitment(u.sid, u.me, secret->Reveal()) == u.shares->commitment
                           : crypto::X25519Public(secret->Reveal()) == u.said->s;
    EXPECT_TRUE(right) << "shares of client " << owner << " open to something else";
    return *std::move(secret);
  }
  std::optional<math::Share> ShareAt(const Client& u, size_t owner, Index index, Fate fate) const {
    const size_t holder = u.roster[index];
    if (holder == owner) return std::nullopt;
    if (holder < colluders_) return ShareOfColluder(u, holder, index, fate);
    const auto given = honest_[holder].given.find(owner);
    if (honest_[holder].sid != u.sid || given == honest_[holder].given.end()) return std::nullopt;
    if (given->second.fate != fate) return std::nullopt;
    return given->second.share;
  }
  std::optional<math::Share> ShareOfColluder(const Client& u, size_t colluder, Index index,
                                             Fate fate) const {
    for (const auto& [to, sealed] : u.shares->sealed) {
      if (to != index) continue;
      const Result<SecretBytes> both = crypto::AeadOpen(
          Channel(colluder, u).open.Reveal(), crypto::Nonce{},
          ShareAssociatedData(u.sid, u.me, index, u.graph, u.shares->commitment), sealed);
      EXPECT_THAT(both, IsOk());
      if (!both.ok()) return std::nullopt;
      const size_t first = fate == Fate::kDropped ? 0 : math::kShareBytes;
      return *math::ReadShare(index + 1, both->Reveal().subspan(first, math::kShareBytes));
    }
    return std::nullopt;
  }

  // What 3.0 (3) asks of a set that opens. Colluders are counted among each client's own holders:
  // fewer than the assumption allows make the law stricter.
  void Judge(Learned& set) const {
    set.closed = true;
    for (const size_t client : set.clients) {
      const Client& u = honest_[client];
      uint32_t colluding = 0;
      uint32_t inside = 0;
      for (const size_t v : u.out) {
        colluding += v < colluders_ ? 1 : 0;
        inside += set.clients.contains(v) ? 1 : 0;
      }
      set.closed &= inside + colluding >= u.graph.t;
      set.honest_min = std::max(set.honest_min, u.graph.t - colluding + 1);
    }
  }

  // Whether the mask of the edge from u to v can be computed.
  bool KnowsMask(size_t u, size_t v, const std::map<size_t, SecretBytes>& pair) const {
    return v < colluders_ || pair.contains(u) || pair.contains(v);
  }
  // Whether v carries the mask of the edge from u as well.
  bool Mutual(size_t u, size_t v) const {
    return v >= colluders_ && honest_[v].masked && honest_[v].sid == honest_[u].sid &&
           honest_[v].masked->edges.contains(u);
  }
  // Grows `set` to its component; false when something in it never opens.
  bool Close(std::set<size_t>& set, const std::map<size_t, SecretBytes>& self,
             const std::map<size_t, SecretBytes>& pair) const {
    bool opens = true;
    std::vector<size_t> queue(set.begin(), set.end());
    while (!queue.empty()) {
      const size_t u = queue.back();
      queue.pop_back();
      opens &= self.contains(u);
      for (const size_t v : honest_[u].masked->edges) {
        if (KnowsMask(u, v, pair)) continue;
        if (!Mutual(u, v)) {
          opens = false;
        } else if (set.insert(v).second) {
          queue.push_back(v);
        }
      }
    }
    return opens;
  }
  // Takes every mask out of the sum over `set` that does not cancel, and compares.
  bool IsExact(const std::set<size_t>& set, const std::map<size_t, SecretBytes>& self,
               const std::map<size_t, SecretBytes>& pair) const {
    RingVector sum = math::ZeroVector(shape_.dim, shape_.bits);
    std::vector<Mask> masks;
    for (const size_t u : set) {
      const Client& honest = honest_[u];
      EXPECT_THAT(math::AddPacked(sum, honest.masked->packed, shape_.bits), IsOk());
      masks.push_back(
          {DeriveSelfMask(honest.sid, self.at(u).Reveal(), honest.me), math::Sign::kSubtract});
      for (const size_t v : honest.masked->edges) {
        if (set.contains(v) && Mutual(u, v)) continue;
        const Index place = Place(honest, v);
        masks.push_back({PairMask(honest, u, v, pair), PairSign(place, honest.me)});
      }
    }
    ApplyMasks(crypto::FastestMaskPath(), sum, masks);
    math::ReduceBits(sum, shape_.bits);
    return cohort.Values({sum, static_cast<uint32_t>(set.size())}) == cohort.Expected(set);
  }
  SecretBytes PairMask(const Client& honest, size_t u, size_t v,
                       const std::map<size_t, SecretBytes>& pair) const {
    const Index place = Place(honest, v);
    const End mine{honest.me, honest.said->s};
    const End peer{place, honest.keys[place].s};
    if (v < colluders_) {
      return *DerivePairMask(honest.sid, crypto::X25519Key(colluding_[v].s_secret.Reveal()), peer,
                             mine);
    }
    if (pair.contains(u))
      return *DerivePairMask(honest.sid, crypto::X25519Key(pair.at(u).Reveal()), mine, peer);
    return *DerivePairMask(honest.sid, crypto::X25519Key(pair.at(v).Reveal()), peer, mine);
  }

  CohortShape shape_;
  size_t colluders_;
  std::vector<Client> honest_;
  std::vector<Colluder> colluding_;
  std::map<std::pair<size_t, Digest>, Advertise> colluders_say_;
  std::map<PublicKey, size_t> client_of_;
  std::map<Digest, std::vector<Advertise>> rosters_;  // that were shown, by their root
};

}  // namespace chorus::aggregation
