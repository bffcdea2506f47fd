// What the parts of SecAgg's server share: the cohort as it stands (secagg_server.cc moves it from
// row to row), who comes into it (secagg_admission.cc) and the opening of its secrets at the end
// (secagg_opening.cc).
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "aggregation/graph.h"
#include "aggregation/secagg.h"

namespace chorus::aggregation {

// One roster member and how far it came. Lists ascend by index; there is one for each edge and no
// map, because cohorts have a thousand members with a hundred edges each.
struct Member {
  PartyId party = 0;
  Advertise said;
  std::optional<uint64_t> not_after{};  // it came by a pre-key record, whose signature `said` has
  bool chose = false;                   // answered R1, or had nothing to choose
  bool dealt = false;                   // in U2: its shares are complete
  bool uploaded = false;                // in U3: its input is in the sum
  bool acked = false;                   // answered R4, or had nothing to acknowledge
  bool opened = false;                  // answered R5
  uint8_t blamed = 0;                   // a bit for each cause
  Digest commitment{};                  // to b
  std::vector<std::pair<Index, SealedShares>> sealed;  // from each owner to it, until it uploads
  std::vector<std::pair<Index, Hello>> hellos;         // from its other neighbours, likewise
  std::vector<Index> failed;                           // whose ciphertexts it could not open
  std::vector<std::pair<Index, Tag>> edges;            // its edge tag to each neighbour, until R4
  std::vector<std::pair<Index, Tag>> acks;  // to each owner that it accepted as alive, until R5
  std::vector<Index> refused;               // owners that it did not accept as alive
  std::vector<std::pair<Index, math::Share>> given;  // of each owner's b (alive) or s (dropped)
};

struct ServerState {
  SessionParams params;
  Digest sid0{};
  Digest sid{};
  Digest root{};
  GraphParams graph;
  std::vector<Member> members;         // from the freeze on, by roster index
  std::vector<Neighbours> neighbours;  // of each member
  std::vector<Blame>* blame = nullptr;

  SharingGraph mode() const { return static_cast<SharingGraph>(params.mode); }
  uint32_t n() const { return static_cast<uint32_t>(members.size()); }
  uint64_t PackedBytes() const { return math::PackedBytes(params.vec_len, params.bits); }
  uint32_t Count(bool Member::*state) const;
  // Members that stand in `state`, ascending.
  std::vector<Index> In(bool Member::*state) const;
  // E(u): whom of U2 a member of U2 shares a mask with, ascending.
  std::vector<Index> MaskedWith(Index u) const;
  // The owners in U2 whose shares `holder` could open, ascending.
  std::vector<Index> OwnersOf(Index holder) const;
  // Whether `holder` will open a share of `owner`, whose holder it is.
  bool Opens(Index holder, Index owner) const;
  // Adds to `blame`, once for each cause.
  void Note(Index member, Blame::Cause cause, Blame::Statement first = {},
            Blame::Statement second = {});
};

// Who may come into a roster: everybody once, with keys that are sound and nobody used before
// [specification 3.8].
class Admission {
 public:
  // Both must outlive the object; `seen_keys` may be null.
  Admission(const IdentityVerifier& verifier, SeenKeys* seen_keys)
      : verifier_(verifier), seen_keys_(seen_keys) {}
  // Notes identity and keys of `said`, whose signature was verified. A failure says what is wrong
  // with it, and nothing was noted.
  Status Admit(const Advertise& said);
  // The member that a pre-key record makes. kUnauthenticated, or kInvalidArgument as Admit and for
  // a record that is malformed, has expired or lives too long.
  Result<Member> AdmitPreKey(const PreKey& prekey, const Digest& sid0, int64_t unix_now);
  void Close();  // nobody else comes: forgets

 private:
  const IdentityVerifier& verifier_;
  SeenKeys* seen_keys_;
  const crypto::X25519Key any_key_{Bytes(crypto::kKeyBytes, 1)};  // no secret: tries the points
  std::set<PublicKey> ids_;
  std::set<PublicKey> keys_;
};

// The edges of a frozen roster, where the clients do not choose them; who has nothing to choose has
// chosen. The Harary ring follows from the session and `secret`, so that nobody else knows it.
void ArrangeGraph(ServerState& state, BytesView secret);

// What an answer signs; no signature when it does not parse, signs nothing or is of another
// session, in which its sender may well have said something else.
Blame::Statement StatementIn(const ServerState& state, Step step, Index sender, BytesView answer);

// Notes each owner of U2 of whom more holders than can be spared hold no share, or will not use it,
// and those holders [specification 3.8].
void NoteUnusableShares(ServerState& state);

// Every mask that is left in the sum, with the sign that takes it out: the self masks of U3, and
// the pair masks between U3 and whoever dropped out after dealing shares. Wrong shares are
// corrected where there are enough right ones, and noted. kAborted when a secret cannot be opened.
Result<std::vector<Mask>> OpenMasks(ServerState& state);

// Gives a list's memory back, which assigning {} would keep for entries to come.
template <typename T>
void Free(std::vector<T>& list) {
  std::vector<T>().swap(list);
}

// The entry of `index` in a list that ascends by it; null when there is none.
template <typename T>
const T* FindEntry(const std::vector<std::pair<Index, T>>& list, Index index) {
  const auto place = std::lower_bound(
      list.begin(), list.end(), index,
      [](const std::pair<Index, T>& entry, Index sought) { return entry.first < sought; });
  return place == list.end() || place->first != index ? nullptr : &place->second;
}
// Whether the entries of `list` are for `due`, in that order.
template <typename T>
bool NamesExactly(const std::vector<std::pair<Index, T>>& list, const std::vector<Index>& due) {
  return std::equal(list.begin(), list.end(), due.begin(), due.end(),
                    [](const auto& entry, Index index) { return entry.first == index; });
}
inline bool Contains(const std::vector<Index>& list, Index index) {
  return std::binary_search(list.begin(), list.end(), index);
}

}  // namespace chorus::aggregation
