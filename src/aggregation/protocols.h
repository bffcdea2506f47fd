// The protocols behind chorus/aggregation.h: plain, SecAgg and OneShot. Pure functions of messages.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/limits.h"
#include "base/random.h"
#include "chorus/aggregation.h"
#include "chorus/bytes.h"
#include "chorus/host.h"
#include "chorus/status.h"
#include "chorus/task.h"
#include "crypto/mask.h"

namespace chorus {
class Executor;
}

namespace chorus::aggregation {

inline constexpr size_t kSessionParamsBytes = 284;
inline constexpr size_t kOneShotParamsBytes = 300;

// The committee of a session of OneShot, as the session's parameters carry it: one row of the table
// of specification 2.2.3.
struct CommitteeParams {
  OneShotSet set = OneShotSet::kOsa4096;
  uint8_t plaintext_bits = 0;  // T_bits of the set
  uint16_t members = 0;        // m; a member's index j counts from 1
  uint16_t corrupt_max = 0;    // c, which is t_priv too: so many members' shares say nothing
  uint16_t packing = 0;        // rho: secrets in one polynomial
  uint32_t gamma_ppm = 0;      // both 0: helper servers
  uint32_t delta_ppm = 0;

  bool operator==(const CommitteeParams&) const = default;
};
// Of a task. kInvalidArgument: a member is named twice, or the table has no such row.
Result<CommitteeParams> CommitteeOf(const OneShotSpec& task);
// Members without whom no session begins, m - f; 0: the table has no such row.
uint32_t MembersNeeded(const CommitteeParams& committee);
// Honest clients among `n`, at least: n less max(1, ceil(gamma * n)).
uint32_t HonestAmong(uint32_t n, uint32_t gamma_ppm);

// What one session is about; signed and hashed as bytes, never re-serialised [specification 3.3].
// For plain the magic is "CHP1", and suite, mode and the assumptions are carried but mean nothing.
// For OneShot it is "CHO1", mode is 0, delta_ppm means nothing, the timers are those of its five
// steps, and the committee follows.
struct SessionParams {
  Protocol protocol = Protocol::kSecAgg;
  uint16_t suite = 1;  // 1: AES-256-CTR masks
  uint8_t mode = 0;    // a SharingGraph
  TaskId task_id{};
  Digest task_hash{};  // SHA-256 of the task's bytes as signed
  uint64_t round = 0;
  uint8_t attempt = 1;
  Digest model_hash{};  // ModelHash of what is trained on
  uint64_t vec_len = 0;
  uint8_t bits = 0;        // b
  uint8_t word_bytes = 0;  // w
  uint64_t bound = 0;      // B_tot
  uint32_t n_min = 0;
  uint32_t n_max = 0;
  uint32_t gamma_ppm = 0;
  uint32_t delta_ppm = 0;
  uint8_t sigma = 40;
  uint8_t eta = 20;
  uint32_t a_min = 0;
  Digest dp_hash{};            // SHA-256 of privacy::CanonicalPrivacy
  Digest layout_hash{};        // SHA-256 of learning::CanonicalLayout
  uint32_t timers_ms[5] = {};  // choose, share, upload, consistency, unmask
  PublicKey coordinator_id{};
  Digest nonce{};
  CommitteeParams committee;  // of OneShot only
};

Bytes EncodeParams(const SessionParams& params);
// kInvalidArgument: wrong length, unknown magic, suite or mode.
Result<SessionParams> DecodeParams(BytesView bytes);
// What both sides require of parameters: w matches b, sums cannot wrap, 1 <= n_min <= n_max <= the
// mode's largest cohort, a sharing graph that is feasible at n_max [specification 3.6]. Of OneShot:
// a row of the committee's table, a_min >= 2 honest clients among n_min, values that fit the set.
// kInvalidArgument names the field.
Status ValidateParams(const SessionParams& params);

// H_L("CHORUS1/model"; spec_bytes, weights as binary32 LE in layout order) [specification 3.3].
Digest ModelHash(BytesView canonical_model, std::span<const float> weights);

// A sharing graph of n clients [specification 3.6].
struct GraphParams {
  uint32_t k = 0;       // neighbours of each client
  uint32_t t = 0;       // shares that open a secret
  uint32_t honest = 0;  // a: honest clients in any sum that the coordinator can learn, at least
};
// kInvalidArgument when no threshold serves: too few clients for these assumptions.
Result<GraphParams> CompleteGraph(uint32_t n, uint32_t gamma_ppm, uint32_t delta_ppm);
// Of the mode, assumptions and n_min of `params`, all else being indifferent: computed or looked up
// by each side for itself. In Harary mode `honest` is what is left of n_min without the corrupt.
// kInvalidArgument: as CompleteGraph, or a roster or assumptions that the graph's table lacks.
Result<GraphParams> GraphFor(const SessionParams& params, uint32_t n);
// The largest roster that the graph serves among so many clients; 0: none of n_min at least.
uint32_t RosterSize(const SessionParams& params, uint32_t advertised);

// What an aggregator found against a party, for the selection of later cohorts and for whoever has
// to judge. Only kEquivocated is proof to others; the rest may be the doing of colluding holders.
struct Blame {
  enum class Cause : uint8_t {
    kEquivocated,  // signed two different answers in one step
    // More holders than can be spared could not or would not use its shares; in OneShot, it was
    // left out for a committee's complaints.
    kUnusableShares,
    kDeniedShares,        // is one of those holders, or a member left out for its complaints
    kInconsistentShares,  // dealt shares of something else than it committed to
    kWrongShare,          // opened another share than those of the others fit
  };
  struct Statement {
    Digest message{};  // as it was signed
    Signature signature{};
  };
  PartyId party = 0;
  Cause cause = Cause::kEquivocated;
  PublicKey id{};
  Statement first;  // of kEquivocated, as `second`: both verify under `id`
  Statement second;
};

// Session keys that were advertised of late, so that one which comes again in another session is
// refused: keys are fresh, or someone replays them [specification 3.15, attack 40]. Remembers today
// and yesterday, at most `keys_max`; then the oldest go. In memory only. Thread-compatible.
class SeenKeys {
 public:
  explicit SeenKeys(size_t keys_max);
  // Days since any fixed one, by whoever holds this, before a session; never goes back.
  void Advance(int64_t day);
  bool Contains(const PublicKey& key) const;
  void Note(const PublicKey& key);

 private:
  size_t each_max_;
  int64_t day_ = 0;
  std::unordered_set<uint64_t> now_;
  std::unordered_set<uint64_t> before_;
};

// A committee member that is there to be asked.
struct CommitteeMember {
  PartyId party = 0;
  uint32_t index = 0;  // j, from 1: its place in the task's list
};

// Session keys that a client makes and signs before it knows the session, so that the keys step
// costs it no round trip [specification 3.2]. The secret halves never leave memory; they serve one
// session and are wiped with this.
struct PreKeys {
  SecretBytes c_secret;  // of the channel key
  SecretBytes s_secret;  // of the mask key
  PublicKey c{};
  PublicKey s{};
  int64_t not_after = 0;  // Unix seconds; afterwards nobody uses them, the maker least of all
  Bytes record;           // what the coordinator gets: at most kPreKeyRecordBytesMax
};
inline constexpr size_t kPreKeyRecordBytesMax = 3 * 32 + 8 + 2 + limits::kEvidenceBytesMax + 64;
struct PreKeySpec {
  BytesView identity_seed;  // signs the record
  BytesView evidence = {};  // of that identity, shown with it
  int64_t not_after = 0;
};
// kInvalidArgument: a seed that is not 32 bytes, evidence that is too long, a time before 1970.
Result<PreKeys> MakePreKeys(const PreKeySpec& spec, Rng& rng);

// Whether a pre-key record is of `id`, as far as it says itself.
bool NamesIdentity(BytesView record, const PublicKey& id);

// A pre-key record as a party sent it: not judged yet.
struct PreKey {
  PartyId from = 0;
  Bytes record;
};

struct AcceptedOffer;

// Offers that were found to be what ReadOffer requires, so that a process which plays many devices
// checks the signature on a round's parameters once and not for each. A device by itself has none.
// Thread-safe.
class KnownOffers {
 public:
  KnownOffers();
  ~KnownOffers();
  KnownOffers(const KnownOffers&) = delete;
  KnownOffers& operator=(const KnownOffers&) = delete;

 private:
  struct Inside;
  friend Result<AcceptedOffer> ReadOfferOnce(KnownOffers* offers, const PublicKey& coordinator,
                                             Protocol protocol, BytesView question);
  std::unique_ptr<Inside> inside_;
};

// Two rosters of one session that its coordinator signed: proof to others that it showed clients
// different cohorts [specification 3.7, before Choose].
struct Equivocation {
  struct SignedRoster {
    uint32_t n = 0;
    Digest root{};
    Signature signature{};  // over RosterMessage(sid0, n, root)
  };
  Digest sid0{};
  SignedRoster first;  // that the client had accepted
  SignedRoster second;
};

struct AggregatorOptions {
  SessionParams params;    // params.coordinator_id is set from signing_seed
  BytesView signing_seed;  // the coordinator's Ed25519 seed; must outlive the aggregator
  const IdentityVerifier* verifier = nullptr;  // must outlive it
  std::vector<PartyId> parties;                // distinct, n_min .. n_max of them
  // Gets what is found against parties, whether the sum succeeds or not: at most one of each cause
  // for a party. Optional; must outlive the aggregator.
  std::vector<Blame>* blame = nullptr;
  SeenKeys* seen_keys = nullptr;  // of all sessions of this coordinator; optional, must outlive it
  // Of some of `parties`, at most one of each. Who sent a sound one is not asked for keys: the keys
  // step may ask nobody. Whose record is not sound is asked like everybody. Plain ignores them.
  std::vector<PreKey> prekeys = {};
  int64_t unix_now = 0;  // by the coordinator's clock; pre-keys are judged by it
  // Spreads the unmasking over threads; null: all on the caller's. Must outlive the aggregator.
  Executor* executor = nullptr;
  // Of OneShot: every member's identity as the task lists them, and those that can be asked, who
  // are no parties of `parties`; m - f of them at least.
  std::vector<PublicKey> committee_ids = {};
  std::vector<CommitteeMember> committee = {};
  crypto::MaskPath mask_path = crypto::FastestMaskPath();  // all give the same sum
};

// kInvalidArgument as ValidateParams, or parties that do not fit.
Result<std::unique_ptr<Aggregator>> NewAggregator(AggregatorOptions options);

// What a contributor insists on, whatever the coordinator signs. Moved, not copied: it holds the
// input.
struct ContributorOptions {
  ContributorOptions() = default;
  ContributorOptions(ContributorOptions&&) = default;
  ContributorOptions& operator=(ContributorOptions&&) = default;

  PublicKey coordinator{};  // pinned
  SessionParams expected;   // as the client computes it from task, model and policy: every field
                            // must agree but n_min, n_max, gamma, delta, a_min (at least these;
                            // n_max at most), timers, nonce
  uint32_t honest_min = 0;  // policy: a(n) at least
  BytesView identity_seed;  // must outlive the contributor
  Bytes evidence;           // shown to coordinator and peers
  const IdentityVerifier* verifier = nullptr;  // must outlive it
  Rng* rng =
      nullptr;  // keys and masks: the system's, or a seeded one in simulation; must outlive it
  SeenKeys* seen_keys = nullptr;  // of all sessions of this device; optional, must outlive it
  // For this one session, if its record went to the coordinator. A first question that is a plain
  // offer is answered with fresh keys all the same.
  std::optional<PreKeys> prekeys;
  int64_t unix_now = 0;  // by this device's clock when the session begins: its own pre-keys and
                         // those of peers are judged by it
  // Gets the proof when the coordinator signed another roster than the one accepted; else
  // untouched. Optional; must outlive the contributor.
  std::optional<Equivocation>* equivocation = nullptr;
  crypto::MaskPath mask_path = crypto::FastestMaskPath();  // all give the same answer
  RingVector input;  // the encoded contribution; wiped once masked
  // Of OneShot: every member, as the task that was agreed to lists them.
  std::vector<PublicKey> committee_ids = {};
  KnownOffers* known_offers = nullptr;  // optional; must outlive the contributor
  // Gets `input` back under plain, not wiped, in a process that plays many devices and uses its
  // memory again. Optional; must outlive the contributor.
  RingVector* spent = nullptr;
};

// kInvalidArgument when an option is missing or has the wrong size.
Result<std::unique_ptr<Contributor>> NewContributor(ContributorOptions options);

// What a member of OneShot's committee insists on, whatever the coordinator signs.
struct MemberOptions {
  PublicKey coordinator{};  // pinned
  // As the member computes it from task and own policy. Must agree: protocol, suite, mode, task and
  // committee; n_min, gamma, a_min at least these, n_max at most. A member trains nothing, so that
  // round, model and encoding are the clients' to judge.
  SessionParams expected;
  std::vector<PublicKey> committee_ids = {};   // as the task lists them
  BytesView identity_seed;                     // of one of them; must outlive the member
  const IdentityVerifier* verifier = nullptr;  // of clients; must outlive it
  Rng* rng = nullptr;                          // its session key; must outlive it
  SeenKeys* seen_keys = nullptr;  // of all sessions of this member; optional, must outlive it
};

// One member's part in one session: answers a question of each step but the clients' own. What it
// holds lives in memory only, so that a member which restarts can neither vote twice nor open
// anything [specification 2.2.4]. kInvalidArgument when an option is missing, has the wrong size,
// or the identity is not on the committee.
Result<std::unique_ptr<Contributor>> NewCommitteeMember(MemberOptions options);

// What a protocol asks for, step by step. In OneShot kInput is asked of clients, all else of the
// committee.
enum class Step : uint8_t {
  kKeys,
  kNeighbours,
  kShares,
  kInput,
  kAcks,
  kUnmask,
  kCommitteeKeys,
  kComplaints,
  kVotes,
  kOpening,
};
// In order. `graph` says nothing of plain and OneShot.
std::span<const Step> Steps(Protocol protocol, SharingGraph graph);
// Their names, for reports: {"input"} for plain; {"keys", "shares", …} for SecAgg; {"committee
// keys", "input", …} for OneShot.
std::span<const std::string_view> StepNames(Protocol protocol, SharingGraph graph);

}  // namespace chorus::aggregation
