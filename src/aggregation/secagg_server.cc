// The coordinator's side of SecAgg [specification 3.8]. Parties become roster indices when the
// roster freezes; uploads are folded into one accumulator as they arrive and never taken out again.
#include "aggregation/secagg_server.h"

#include <map>
#include <set>

#include "base/codec.h"
#include "base/limits.h"
#include "base/pieces.h"
#include "crypto/crypto.h"

namespace chorus::aggregation {
namespace {

constexpr uint64_t kAdvertiseBytesMax = 32 + 3 * 32 + 2 + limits::kEvidenceBytesMax + 64;

class SecAggAggregator final : public Aggregator {
 public:
  explicit SecAggAggregator(AggregatorOptions options)
      : signing_seed_(options.signing_seed),
        admission_(*options.verifier, options.seen_keys),
        executor_(options.executor),
        mask_path_(options.mask_path),
        parties_(std::move(options.parties)),
        prekeys_(std::move(options.prekeys)),
        unix_now_(options.unix_now),
        offer_(MakeOffer(options.params, options.signing_seed)) {
    state_.params = options.params;
    state_.blame = options.blame;
    state_.sid0 =
        crypto::LabeledHash("CHORUS1/sid0", {BytesView(offer_).first(kSessionParamsBytes)});
    steps_ = Steps(Protocol::kSecAgg, state_.mode());
  }

  // The rows are the graph's Steps, each Ask -> Hear* -> Close:
  //   kKeys        --roster frozen-->   kNeighbours, or kShares where nobody chooses
  //   kNeighbours  --drop rule-->       kShares
  //   kShares      --drop rule-->       kInput
  //   kInput       --enough holders-->  kAcks, or kUnmask on the Harary ring
  //   kAcks        --enough holders-->  kUnmask
  //   kUnmask      --enough shares-->   done --Finish--> spent;  a failed Close or Finish --> spent
  Result<std::vector<Question>> Ask() override {
    if (asking_ || spent_ || done()) {
      return FailedPrecondition("this sum has nothing to ask now");
    }
    asking_ = true;
    switch (steps_[row_]) {
      case Step::kKeys:
        return AskKeys();
      case Step::kNeighbours:
        return AskNeighbours();
      case Step::kShares:
        return AskShares();
      case Step::kInput:
        return AskInput();
      case Step::kAcks:
        return AskSurvivors(8 + uint64_t{state_.n()} * (4 + sizeof(Tag)));
      default:
        break;
    }
    const uint64_t answer = 4 + uint64_t{state_.n()} * (4 + 1 + math::kShareBytes);
    return state_.mode() == SharingGraph::kHarary ? AskSurvivors(answer) : AskUnmask(answer);
  }

  Result<Bytes> Body(PartyId to) override {
    const auto found = asked_.find(to);
    if (!asking_ || found == asked_.end() || found->second.heard) {
      return NotFound("nothing is asked of this party in this step");
    }
    Bytes body = BodyIn(steps_[row_], found->second.index);
    // Who was not asked for keys accepts the session and answers the next row in one.
    if (row_ == 1 && state_.members[found->second.index].not_after.has_value()) {
      body.insert(body.begin(), offer_.begin(), offer_.end());
    }
    return body;
  }

  Status HearPieces(PartyId from, Pieces pieces) override {
    const auto found = asked_.find(from);
    if (!asking_ || found == asked_.end()) {
      return NotFound("this party was not asked in this step");
    }
    Asked& asked = found->second;
    const BytesView answer = Whole(pieces, joined_);
    if (asked.heard) {
      KeepEvidence(asked, answer);
      return AlreadyExists("this party's answer was heard before");
    }
    CHORUS_TRY(HearIn(steps_[row_], from, asked, answer));
    asked.heard = true;
    return OkStatus();
  }

  Status Close() override {
    if (!asking_) return FailedPrecondition("nothing was asked");
    asking_ = false;
    asked_.clear();
    Free(joined_);
    const Status closed = CloseIn(steps_[row_]);
    spent_ = !closed.ok();
    if (closed.ok()) ++row_;
    return closed;
  }

  bool done() const override { return !spent_ && row_ == steps_.size(); }

  Result<Sum> Finish() override {
    if (!done()) return FailedPrecondition("there is no sum to open");
    spent_ = true;
    CHORUS_TRY_ASSIGN(std::vector<Mask> masks, OpenMasks(state_));
    for (Member& member : state_.members) Free(member.given);
    if (executor_ != nullptr) {
      ApplyMasks(mask_path_, sum_, masks, *executor_);
    } else {
      ApplyMasks(mask_path_, sum_, masks);
    }
    math::ReduceBits(sum_, state_.params.bits);
    Sum sum{std::move(sum_), state_.Count(&Member::uploaded)};
    CHORUS_TRY(CheckSumRange(state_.params, sum));
    return sum;
  }

 private:
  struct Asked {
    Index index = 0;  // in the roster; while keys are heard, in the order of arrival
    bool heard = false;
    bool compared = false;  // a second answer was looked at
    Blame::Statement said;  // what the first answer signed
  };

  Status HearIn(Step step, PartyId from, Asked& asked, BytesView answer) {
    switch (step) {
      case Step::kKeys:
        return HearKeys(from, asked, answer);
      case Step::kNeighbours:
        return HearNeighbours(asked, answer);
      case Step::kShares:
        return HearShares(asked, answer);
      case Step::kInput:
        return HearInput(asked, answer);
      case Step::kAcks:
        return HearAcks(asked.index, answer);
      default:
        break;
    }
    return HearUnmask(asked.index, answer);
  }

  Status CloseIn(Step step) {
    switch (step) {
      case Step::kKeys:
        return CloseKeys();
      case Step::kNeighbours:
        return CloseNeighbours();
      case Step::kShares:
        return CloseShares();
      case Step::kInput:
        return CloseInput();
      case Step::kAcks:
        return CloseAcks();
      default:
        break;
    }
    return CloseUnmask();
  }

  Bytes BodyIn(Step step, Index to) const {
    switch (step) {
      case Step::kKeys:
        return offer_;
      case Step::kNeighbours:
        return EncodeRosterOnly(RosterFor(to));
      case Step::kShares:
        return SharesBody(to);
      case Step::kInput:
        return InputBody(to);
      case Step::kAcks:
        return SurvivorsBody(to);
      default:
        break;
    }
    return state_.mode() == SharingGraph::kHarary ? SurvivorsBody(to) : UnmaskBody(to);
  }

  // Registers a question to each member of `to`.
  std::vector<Question> AskEach(const std::vector<Index>& to, uint64_t answer_bytes_max) {
    std::vector<Question> questions;
    questions.reserve(to.size());
    for (const Index u : to) {
      asked_[state_.members[u].party].index = u;
      questions.push_back({state_.members[u].party, answer_bytes_max});
    }
    return questions;
  }

  // A second answer of one step changes nothing. When it is signed and says something else, both
  // signatures are kept; one look a party and step, so that repeating costs only its sender.
  void KeepEvidence(Asked& asked, BytesView answer) {
    if (state_.blame == nullptr || asked.compared) return;
    asked.compared = true;
    const Blame::Statement again = StatementIn(state_, steps_[row_], asked.index, answer);
    if (again.signature == Signature{} || again.message == asked.said.message) return;
    const PublicKey& id = state_.members[asked.index].said.id;
    if (!crypto::Ed25519Verify(id, again.message, again.signature)) return;
    state_.Note(asked.index, Blame::Cause::kEquivocated, asked.said, again);
  }

  bool Signed(const Blame::Statement& said, const PublicKey& id) const {
    return crypto::Ed25519Verify(id, said.message, said.signature);
  }

  // --- R0 ---------------------------------------------------------------------------------------
  std::vector<Question> AskKeys() {
    std::set<PartyId> in;
    for (const PreKey& prekey : std::exchange(prekeys_, {})) {
      Result<Member> member = admission_.AdmitPreKey(prekey, state_.sid0, unix_now_);
      if (!member.ok()) continue;
      in.insert(prekey.from);
      state_.members.push_back(*std::move(member));
    }
    std::vector<Question> questions;
    for (const PartyId party : parties_) {
      if (in.contains(party)) continue;
      asked_[party] = {};
      questions.push_back({party, kAdvertiseBytesMax});
    }
    return questions;
  }

  Status HearKeys(PartyId from, Asked& asked, BytesView answer) {
    CHORUS_TRY_ASSIGN(Advertise said, DecodeAdvertise(answer));
    if (said.sid0 != state_.sid0) {
      return InvalidArgument("the advertisement is of another session");
    }
    const Blame::Statement statement{AdvertiseMessage(said), said.signature};
    if (!Signed(statement, said.id)) {
      return Unauthenticated("the advertisement is not signed by the identity it names");
    }
    CHORUS_TRY(admission_.Admit(said));
    asked.index = state_.n();
    asked.said = statement;
    Member member;
    member.party = from;
    member.said = std::move(said);
    state_.members.push_back(std::move(member));
    return OkStatus();
  }

  // Freezes the roster: the largest that the graph serves, indices by ascending order key, one
  // Merkle root over all keys, the session id. Who came after it was full is not asked further.
  Status CloseKeys() {
    std::vector<Member>& members = state_.members;
    const uint32_t n = RosterSize(state_.params, state_.n());
    if (n == 0) return Aborted("too few clients advertised keys");
    const Result<GraphParams> graph = GraphFor(state_.params, n);
    if (!graph.ok()) return Aborted(graph.status().message());
    state_.graph = *graph;
    if (graph->honest < state_.params.a_min) {
      return Aborted("the cohort hides too few honest clients");
    }
    members.resize(n);
    admission_.Close();
    std::sort(members.begin(), members.end(), [this](const Member& a, const Member& b) {
      return OrderKey(state_.sid0, a.said.id) < OrderKey(state_.sid0, b.said.id);
    });
    std::vector<Digest> leaves;
    leaves.reserve(n);
    for (const Member& member : members) {
      leaves.push_back(RosterLeaf(state_.sid0, member.said.id, member.said.c, member.said.s));
    }
    state_.root = crypto::MerkleRoot(leaves);
    state_.sid = SessionId(state_.sid0, n, state_.root);
    paths_ = crypto::MerklePaths(leaves);
    roster_.n = n;
    roster_.root = state_.root;
    roster_.signature =
        crypto::Ed25519Sign(signing_seed_, RosterMessage(state_.sid0, n, state_.root));
    ArrangeGraph(state_, signing_seed_);
    return OkStatus();
  }

  // --- R1 ---------------------------------------------------------------------------------------
  std::vector<Question> AskNeighbours() {
    std::vector<Index> everybody;
    for (Index v = 0; v < state_.n(); ++v) everybody.push_back(v);
    const uint64_t answer = 32 + 4 + uint64_t{state_.graph.k} * sizeof(Index) + 64;
    return AskEach(everybody, answer);
  }

  Roster RosterFor(Index u) const {
    Roster roster = roster_;
    roster.index = u;
    roster.path = paths_[u];
    return roster;
  }

  Status HearNeighbours(Asked& asked, BytesView answer) {
    CHORUS_TRY_ASSIGN(Choose choice, DecodeChoose(answer, state_.n()));
    if (choice.sid != state_.sid) return InvalidArgument("the choice is of another session");
    if (choice.holders.size() != state_.graph.k || Contains(choice.holders, asked.index)) {
      return InvalidArgument("a client chooses as many others as the graph has neighbours");
    }
    Member& member = state_.members[asked.index];
    const Blame::Statement said{ChooseMessage(asked.index, choice), choice.signature};
    if (!Signed(said, member.said.id)) {
      return Unauthenticated("the choice is not signed by its sender");
    }
    state_.neighbours[asked.index].out = std::move(choice.holders);
    member.chose = true;
    asked.said = said;
    return OkStatus();
  }

  Status CloseNeighbours() {
    if (!Drop(&Member::chose)) return Aborted("too few clients chose their holders");
    return OkStatus();
  }

  // The drop rule over those who stand in `state`; false when too few are left.
  bool Drop(bool Member::*state) {
    std::vector<bool> present(state_.n());
    for (Index v = 0; v < state_.n(); ++v) present[v] = state_.members[v].*state;
    if (state_.mode() == SharingGraph::kSelfSelected) FillIn(state_.neighbours, present);
    DropUnsupported(state_.neighbours, state_.graph.t, present);
    for (Index v = 0; v < state_.n(); ++v) state_.members[v].*state = present[v];
    return state_.Count(state) >= state_.params.n_min;
  }

  // --- R2 ---------------------------------------------------------------------------------------
  std::vector<Question> AskShares() {
    for (Index v = 0; v < state_.n(); ++v) {
      const Advertise& said = state_.members[v].said;
      records_.push_back(EncodePeer({v, said.id, said.c, said.s, said.evidence, said.signature,
                                     paths_[v], state_.members[v].not_after}));
    }
    size_t hellos = 0;
    for (const Neighbours& member : state_.neighbours) hellos = std::max(hellos, member.in.size());
    const uint64_t answer = 32 + 4 + uint64_t{state_.graph.k} * (4 + kSealedSharesBytes) + 4 +
                            uint64_t{hellos} * (4 + sizeof(Hello)) + 64;
    return AskEach(state_.In(&Member::chose), answer);
  }

  Bytes SharesBody(Index u) const {
    const Neighbours& mine = state_.neighbours[u];
    return state_.mode() == SharingGraph::kSelfSelected
               ? EncodePeers(mine.out, mine.in, records_)
               : EncodeRing(RosterFor(u), mine.out, records_);
  }

  Status HearShares(Asked& asked, BytesView answer) {
    CHORUS_TRY_ASSIGN(Shares shares, DecodeShares(answer, state_.n()));
    const Neighbours& mine = state_.neighbours[asked.index];
    std::vector<Index> owed;
    std::set_difference(mine.in.begin(), mine.in.end(), mine.out.begin(), mine.out.end(),
                        std::back_inserter(owed));
    if (!NamesExactly(shares.sealed, mine.out) || !NamesExactly(shares.hellos, owed)) {
      return InvalidArgument("shares are due to each holder, a hello to each other neighbour");
    }
    Member& member = state_.members[asked.index];
    const Blame::Statement said{SharesMessage(state_.sid, asked.index, shares), shares.signature};
    if (!Signed(said, member.said.id)) {
      return Unauthenticated("the shares are not signed by their sender");
    }
    member.commitment = shares.commitment;
    for (const auto& [holder, sealed] : shares.sealed) {
      state_.members[holder].sealed.reserve(state_.neighbours[holder].in.size());
      state_.members[holder].sealed.emplace_back(asked.index, sealed);
    }
    for (const auto& [owner, hello] : shares.hellos) {
      state_.members[owner].hellos.emplace_back(asked.index, hello);
    }
    member.dealt = true;
    asked.said = said;
    return OkStatus();
  }

  // U2. In a complete graph everybody holds everybody's shares, so all fall together.
  Status CloseShares() {
    Free(records_);
    Free(paths_);
    if (!Drop(&Member::dealt)) return Aborted("too few clients dealt shares");
    for (Member& member : state_.members) {
      if (!member.dealt) {
        Free(member.sealed);
        Free(member.hellos);
      }
      std::sort(member.sealed.begin(), member.sealed.end());
      std::sort(member.hellos.begin(), member.hellos.end());
    }
    sum_ = math::ZeroVector(state_.params.vec_len, state_.params.bits);
    return OkStatus();
  }

  // --- R3 ---------------------------------------------------------------------------------------
  std::vector<Question> AskInput() {
    const std::vector<Index> dealt = state_.In(&Member::dealt);
    size_t neighbours = 0;
    for (const Index u : dealt) neighbours = std::max(neighbours, state_.MaskedWith(u).size());
    const uint64_t answer = MaskedBytesMax(static_cast<uint32_t>(neighbours), state_.PackedBytes());
    return AskEach(dealt, answer);
  }

  Bytes InputBody(Index u) const {
    const Member& to = state_.members[u];
    std::vector<Delivery> entries;
    for (const Index v : state_.MaskedWith(u)) {
      Delivery& entry = entries.emplace_back();
      entry.from = v;
      entry.commitment = state_.members[v].commitment;
      if (const SealedShares* sealed = FindEntry(to.sealed, v)) entry.sealed = *sealed;
      if (const Hello* hello = FindEntry(to.hellos, v)) entry.hello = *hello;
    }
    return EncodeDeliver(entries);
  }

  Status HearInput(Asked& asked, BytesView answer) {
    CHORUS_TRY_ASSIGN(Masked masked, DecodeMasked(answer, state_.n(), state_.PackedBytes()));
    if (masked.sid != state_.sid) {
      return InvalidArgument("the masked input is of another session");
    }
    const std::vector<Index> neighbours = state_.MaskedWith(asked.index);
    if (!NamesExactly(masked.edges, neighbours)) {
      return InvalidArgument("an edge tag is due to each neighbour and nobody else");
    }
    if (!std::includes(neighbours.begin(), neighbours.end(), masked.failed.begin(),
                       masked.failed.end())) {
      return InvalidArgument("the failed list names somebody who is no neighbour");
    }
    Member& member = state_.members[asked.index];
    const Blame::Statement said{MaskedMessage(asked.index, masked), masked.signature};
    if (!Signed(said, member.said.id)) {
      return Unauthenticated("the masked input is not signed by its sender");
    }
    CHORUS_TRY(math::AddPacked(sum_, masked.packed, state_.params.bits));
    member.failed = std::move(masked.failed);
    member.edges = std::move(masked.edges);
    Free(member.sealed);
    Free(member.hellos);
    member.uploaded = true;
    asked.said = said;
    return OkStatus();
  }

  Status CloseInput() {
    for (Member& member : state_.members) {
      Free(member.sealed);
      Free(member.hellos);
    }
    if (state_.Count(&Member::uploaded) < state_.params.n_min) {
      return Aborted("too few clients uploaded");
    }
    if (state_.mode() == SharingGraph::kHarary) {
      for (Member& member : state_.members) member.acked = member.uploaded;
    }
    NoteUnusableShares(state_);
    return EachOwnerHasHolders([this](Index holder, Index owner) {
      return state_.members[holder].uploaded && !Contains(state_.members[holder].failed, owner);
    });
  }

  // kAborted unless for each owner of U2 at least t of its holders satisfy `holds`.
  template <typename Holds>
  Status EachOwnerHasHolders(Holds holds) {
    for (const Index owner : state_.In(&Member::dealt)) {
      const std::vector<Index>& out = state_.neighbours[owner].out;
      const auto holders =
          std::count_if(out.begin(), out.end(), [&](Index holder) { return holds(holder, owner); });
      if (holders < state_.graph.t) {
        return Aborted("a member has too few holders of its shares left");
      }
    }
    return OkStatus();
  }

  // --- R4, and R5 on the Harary ring ------------------------------------------------------------
  std::vector<Question> AskSurvivors(uint64_t answer_bytes_max) {
    return AskEach(state_.In(&Member::uploaded), answer_bytes_max);
  }

  Bytes SurvivorsBody(Index holder) const {
    std::vector<Survivor> entries;
    for (const Index owner : state_.OwnersOf(holder)) {
      const Tag* edge = FindEntry(state_.members[owner].edges, holder);
      Survivor& entry = entries.emplace_back();
      entry.owner = owner;
      entry.fate = edge != nullptr ? Fate::kAlive : Fate::kDropped;
      if (edge != nullptr) entry.edge = *edge;
    }
    return EncodeSurvivors(entries);
  }

  Status HearAcks(Index holder, BytesView answer) {
    CHORUS_TRY_ASSIGN(Acks acks, DecodeAcks(answer, state_.n()));
    std::vector<Index> judged = acks.refused;
    for (const auto& [owner, tag] : acks.acks) judged.push_back(owner);
    std::sort(judged.begin(), judged.end());
    std::vector<Index> alive = state_.OwnersOf(holder);
    std::erase_if(alive, [this](Index owner) { return !state_.members[owner].uploaded; });
    if (judged != alive) {
      return InvalidArgument("each owner said to be alive is acknowledged or refused, once");
    }
    Member& member = state_.members[holder];
    member.acks = std::move(acks.acks);
    member.refused = std::move(acks.refused);
    member.acked = true;
    return OkStatus();
  }

  Status CloseAcks() {
    for (Member& member : state_.members) Free(member.edges);
    NoteUnusableShares(state_);
    return EachOwnerHasHolders(
        [this](Index holder, Index owner) { return state_.Opens(holder, owner); });
  }

  // --- R5 ---------------------------------------------------------------------------------------
  std::vector<Question> AskUnmask(uint64_t answer_bytes_max) {
    return AskEach(state_.In(&Member::acked), answer_bytes_max);
  }

  Bytes UnmaskBody(Index u) const {
    AckSet entries;
    for (const Index holder : state_.neighbours[u].out) {
      const Tag* ack = FindEntry(state_.members[holder].acks, u);
      if (ack != nullptr) entries.emplace_back(holder, *ack);
    }
    return EncodeAckSet(entries);
  }

  Status HearUnmask(Index holder, BytesView answer) {
    CHORUS_TRY_ASSIGN(const std::vector<UnmaskEntry> entries,
                      DecodeUnmask(answer, state_.n(), holder + 1));
    std::vector<Index> refused = state_.members[holder].refused;
    std::vector<std::pair<Index, math::Share>> given;
    given.reserve(entries.size());
    auto entry = entries.begin();
    for (const Index owner : state_.OwnersOf(holder)) {
      if (!state_.Opens(holder, owner)) continue;
      const bool alive = state_.members[owner].uploaded;
      if (entry != entries.end() && entry->owner == owner &&
          (entry->fate == Fate::kAlive) == alive) {
        given.emplace_back(owner, entry->share);
        ++entry;
      } else if (alive && state_.mode() == SharingGraph::kHarary) {
        refused.push_back(owner);  // there is no row before this one to refuse it in
      } else {
        return InvalidArgument("one share is due of each owner, of the kind asked for");
      }
    }
    if (entry != entries.end()) {
      return InvalidArgument("a share is opened of which none was asked for");
    }
    Member& member = state_.members[holder];
    member.refused = std::move(refused);
    member.given = std::move(given);
    member.opened = true;
    return OkStatus();
  }

  Status CloseUnmask() {
    for (Member& member : state_.members) {
      Free(member.acks);
      Free(member.edges);
    }
    if (state_.mode() == SharingGraph::kHarary) NoteUnusableShares(state_);
    return EachOwnerHasHolders([this](Index holder, Index owner) {
      return FindEntry(state_.members[holder].given, owner) != nullptr;
    });
  }

  ServerState state_;
  BytesView signing_seed_;
  Admission admission_;
  Executor* executor_;
  crypto::MaskPath mask_path_;
  std::vector<PartyId> parties_;
  std::vector<PreKey> prekeys_;  // until keys are asked for
  int64_t unix_now_;
  Bytes offer_;
  std::span<const Step> steps_;
  Roster roster_;                           // as signed, for nobody in particular
  std::vector<std::vector<Digest>> paths_;  // until R2 closes
  std::vector<Bytes> records_;              // likewise: what peers are told of each member
  std::map<PartyId, Asked> asked_;
  Bytes joined_;  // room for an answer that came in pieces
  RingVector sum_;
  size_t row_ = 0;
  bool asking_ = false;
  bool spent_ = false;
};

}  // namespace

Result<std::unique_ptr<Aggregator>> NewSecAggAggregator(AggregatorOptions options) {
  return std::unique_ptr<Aggregator>(std::make_unique<SecAggAggregator>(std::move(options)));
}

}  // namespace chorus::aggregation
