// What the parts of SecAgg's server share: the cohort as it stands (secagg_server.cc moves it from
// row to row) and the opening of its secrets at the end (secagg_opening.cc).
#pragma once

#include <cstdint>
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
  bool chose = false;                                  // answered R1, or had nothing to choose
  bool dealt = false;                                  // in U2: its shares are complete
  bool uploaded = false;                               // in U3: its input is in the sum
  bool acked = false;                                  // answered R4, or had nothing to acknowledge
  bool opened = false;                                 // answered R5
  uint8_t blamed = 0;                                  // a bit for each cause
  Digest commitment{};                                 // to b
  std::vector<std::pair<Index, SealedShares>> sealed;  // given out in R3
  std::vector<std::pair<Index, Hello>> hellos;         // likewise
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

// The entry of `index` in a list that ascends by it; null when there is none.
template <typename T>
const T* FindEntry(const std::vector<std::pair<Index, T>>& list, Index index) {
  const auto place = std::lower_bound(
      list.begin(), list.end(), index,
      [](const std::pair<Index, T>& entry, Index sought) { return entry.first < sought; });
  return place == list.end() || place->first != index ? nullptr : &place->second;
}
inline bool Contains(const std::vector<Index>& list, Index index) {
  return std::binary_search(list.begin(), list.end(), index);
}

}  // namespace chorus::aggregation
