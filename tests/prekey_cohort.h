// A cohort of which some clients made pre-keys.
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "cohort.h"

namespace chorus::aggregation {

inline constexpr int64_t kNow = 1'800'000'000;
inline constexpr int64_t kHour = 3'600;
inline constexpr size_t kVictim = 2;

inline CohortShape ShapeOf(SharingGraph graph, uint32_t clients) {
  CohortShape shape;
  shape.graph = graph;
  shape.clients = clients;
  shape.dim = 4;
  if (graph == SharingGraph::kSelfSelected) shape.minimum = 160;
  if (graph == SharingGraph::kHarary) shape.minimum = 32;
  if (graph != SharingGraph::kComplete) shape.delta_ppm = 50'000;
  return shape;
}

// A cohort of which some made pre-keys, and whose coordinator passed their records on.
class PreKeyCohort : public Cohort {
 public:
  explicit PreKeyCohort(uint64_t seed, CohortShape shape = {}) : Cohort(seed, shape) {
    unix_now = kNow;
    for (auto& contributor : contributors) contributor.reset();
    for (size_t i = 0; i < contributors.size(); ++i) Renew(i, OptionsFor(i));
  }
  // Of all, or of every `stride`-th.
  static PreKeyCohort With(uint64_t seed, CohortShape shape, size_t stride) {
    PreKeyCohort cohort(seed, shape);
    for (size_t i = 0; i < shape.clients; i += stride) cohort.Give(i);
    return cohort;
  }
  void Give(size_t client, int64_t not_after = kNow + kHour) {
    PreKeys keys = *MakePreKeys({.identity_seed = identities[client].Reveal(),
                                 .evidence = Bytes{1, 2, 3},
                                 .not_after = not_after},
                                *rngs[client]);
    made[client] = *DecodePreKeyRecord(keys.record);
    prekeys.push_back({kFirstParty + client, keys.record});
    ContributorOptions options = OptionsFor(client);
    options.prekeys = std::move(keys);
    Renew(client, std::move(options));
  }
  void Renew(size_t client, ContributorOptions options) {
    options.equivocation = &equivocation;
    contributors[client] = *NewContributor(std::move(options));
  }
  Bytes& RecordOf(size_t client) {
    return std::find_if(
               prekeys.begin(), prekeys.end(),
               [client](const PreKey& prekey) { return prekey.from == kFirstParty + client; })
        ->record;
  }
  // The record with its signature made anew, as its client could.
  Bytes Signed(size_t client, PreKeyRecord record) const {
    record.signature = crypto::Ed25519Sign(identities[client].Reveal(), PreKeyMessage(record));
    return Encode(record);
  }
  Bytes Offer() const { return MakeOffer(params, signing_seed.Reveal()); }

  std::map<size_t, PreKeyRecord> made;
  std::optional<Equivocation> equivocation;  // whatever client found it
};

inline std::set<size_t> AllBut(size_t count, const std::set<size_t>& without = {}) {
  std::set<size_t> clients;
  for (size_t i = 0; i < count; ++i) {
    if (!without.contains(i)) clients.insert(i);
  }
  return clients;
}

}  // namespace chorus::aggregation
