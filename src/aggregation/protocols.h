// The protocols behind chorus/aggregation.h: plain and SecAgg. Pure functions of messages.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "base/random.h"
#include "chorus/aggregation.h"
#include "chorus/bytes.h"
#include "chorus/host.h"
#include "chorus/status.h"
#include "chorus/task.h"

namespace chorus::aggregation {

inline constexpr size_t kSessionParamsBytes = 284;

// What one session is about; signed and hashed as bytes, never re-serialised [specification 3.3].
// For plain the magic is "CHP1", and suite, mode and the assumptions are carried but mean nothing.
struct SessionParams {
  Protocol protocol = Protocol::kSecAgg;
  uint16_t suite = 1;  // 1: AES-256-CTR masks
  uint8_t mode = 0;    // 0: complete graph
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
};

Bytes EncodeParams(const SessionParams& params);
// kInvalidArgument: wrong length, unknown magic, suite or mode.
Result<SessionParams> DecodeParams(BytesView bytes);
// What both sides require of parameters: w matches b, sums cannot wrap, 1 <= n_min <= n_max <= the
// mode's largest cohort, a complete graph that is feasible at n_max [specification 3.6].
// kInvalidArgument names the field.
Status ValidateParams(const SessionParams& params);

// H_L("CHORUS1/model"; spec_bytes, weights as binary32 LE in layout order) [specification 3.3].
Digest ModelHash(BytesView canonical_model, std::span<const float> weights);

// Complete graph of n clients [specification 3.6].
struct GraphParams {
  uint32_t k = 0;       // neighbours of each client
  uint32_t t = 0;       // shares that open a secret
  uint32_t honest = 0;  // a: honest clients in any sum that the coordinator can learn, at least
};
// kInvalidArgument when no threshold serves: too few clients for these assumptions; says how many
// are needed.
Result<GraphParams> CompleteGraph(uint32_t n, uint32_t gamma_ppm, uint32_t delta_ppm);

struct AggregatorOptions {
  SessionParams params;    // params.coordinator_id is set from signing_seed
  BytesView signing_seed;  // the coordinator's Ed25519 seed; must outlive the aggregator
  const IdentityVerifier* verifier = nullptr;  // must outlive it
  std::vector<PartyId> parties;                // distinct, n_min .. n_max of them
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
      nullptr;       // keys and masks: the system's, or a seeded one in simulation; must outlive it
  RingVector input;  // the encoded contribution; wiped once masked
};

// kInvalidArgument when an option is missing or has the wrong size.
Result<std::unique_ptr<Contributor>> NewContributor(ContributorOptions options);

// Steps' names in order, for reports: {"input"} for plain; {"keys", "shares", …} for SecAgg.
std::span<const std::string_view> StepNames(Protocol protocol);

}  // namespace chorus::aggregation
