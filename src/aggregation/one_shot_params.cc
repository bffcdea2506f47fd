// The committee's table and what a session of OneShot must keep to.
#include <algorithm>
#include <string>

#include "aggregation/one_shot.h"
#include "base/limits.h"
#include "crypto/crypto.h"

namespace chorus::aggregation {
namespace {

constexpr uint64_t kMillion = 1'000'000;

// [specification 2.2.3], by binomial tails.
constexpr CommitteeRow kRows[] = {
    {64, 20'000, 100'000, 15, 20, 40, 16},
    {64, 50'000, 100'000, 21, 20, 43, 16},
    {64, 100'000, 50'000, 28, 14, 47, 16},
    {96, 100'000, 100'000, 36, 26, 67, 32},
    {128, 100'000, 100'000, 42, 31, 86, 32},
    {128, 200'000, 100'000, 62, 31, 96, 32},
    {192, 50'000, 200'000, 37, 67, 115, 64},
    {192, 100'000, 200'000, 54, 67, 124, 64},
    {256, 100'000, 200'000, 66, 84, 162, 64},
    {4, 0, 0, 1, 1, 3, 2},
    {7, 0, 0, 2, 2, 5, 2},
};

// What each row owes: two sets cannot both have a quorum of members of which the honest vote once,
// and those who stay can certify a set and open its sum.
constexpr bool Sound(const CommitteeRow& row) {
  return row.members <= limits::kCommitteeMax &&
         row.quorum == (row.members + row.corrupt_max) / 2 + 1 &&
         row.quorum + row.dropouts_max <= row.members &&
         row.threshold() + row.dropouts_max <= row.members;
}
static_assert(std::all_of(std::begin(kRows), std::end(kRows), Sound));

constexpr size_t kPullEntryBytesMax = kHeaderBytes - sizeof(Digest) + sizeof(Signature) + 2 +
                                      limits::kEvidenceBytesMax + crypto::kAeadTagBytes;
// The longest share is that of 8,192 coefficients, two to an element, two elements to a block.
static_assert(limits::kOneShotCohortMax * (kPullEntryBytesMax + 8 * (8'192 / 2 / 2)) +
                      limits::kCommitteeMax * kCommitteeEntryBytes <
                  limits::kPullBytesMax,
              "whatever the session, its pull is one question");

static_assert(limits::kOneShotCohortMax <= math::kRlweContributionsMax &&
                  limits::kCommitteeMax <= math::kPackedMembersMax,
              "the mathematics carries every session");

// The two layers number the sets alike.
constexpr math::RlweSet InTheRing(OneShotSet set) {
  return set == OneShotSet::kOsa8192 ? math::RlweSet::kOsa8192 : math::RlweSet::kOsa4096;
}

bool Known(OneShotSet set) { return set == OneShotSet::kOsa4096 || set == OneShotSet::kOsa8192; }

uint8_t PlaintextBits(OneShotSet set) {
  return static_cast<uint8_t>(math::RlweParametersFor(InTheRing(set)).plaintext_bits);
}

}  // namespace

std::span<const CommitteeRow> CommitteeRows() { return kRows; }

const CommitteeRow* RowOf(const CommitteeParams& committee) {
  for (const CommitteeRow& row : kRows) {
    if (row.members == committee.members && row.gamma_ppm == committee.gamma_ppm &&
        row.delta_ppm == committee.delta_ppm && row.corrupt_max == committee.corrupt_max &&
        row.packing == committee.packing) {
      return &row;
    }
  }
  return nullptr;
}

Result<CommitteeParams> CommitteeOf(const OneShotSpec& task) {
  if (!Known(task.set)) return InvalidArgument("one_shot.set is unknown");
  for (const CommitteeRow& row : kRows) {
    if (row.members != task.members.size() || row.gamma_ppm != task.gamma_members_ppm ||
        row.delta_ppm != task.delta_members_ppm) {
      continue;
    }
    CommitteeParams committee;
    committee.set = task.set;
    committee.plaintext_bits = PlaintextBits(task.set);
    committee.members = row.members;
    committee.corrupt_max = row.corrupt_max;
    committee.packing = row.packing;
    committee.gamma_ppm = row.gamma_ppm;
    committee.delta_ppm = row.delta_ppm;
    CHORUS_TRY(CheckCommitteeIds(committee, task.members));
    return committee;
  }
  return InvalidArgument("one_shot: no committee of " + std::to_string(task.members.size()) +
                         " members withstands what the task assumes; see the table of committees");
}

uint32_t MembersNeeded(const CommitteeParams& committee) {
  const CommitteeRow* row = RowOf(committee);
  return row == nullptr ? 0 : uint32_t{row->members} - row->dropouts_max;
}

math::RlweEncoding EncodingOf(const SessionParams& params) {
  math::RlweEncoding encoding;
  encoding.set = InTheRing(params.committee.set);
  encoding.dim = params.vec_len;
  encoding.bits = params.bits;
  encoding.bound = params.bound;
  return encoding;
}

math::PackedSpec SharingOf(const CommitteeParams& committee) {
  return {
      .members = committee.members, .privacy = committee.corrupt_max, .packing = committee.packing};
}

size_t ShareElements(const CommitteeParams& committee) {
  const math::RlweParameters& set = math::RlweParametersFor(InTheRing(committee.set));
  return set.degree / 2 / std::max<size_t>(1, committee.packing);
}

size_t SealedShareBytes(const CommitteeParams& committee) {
  return ShareElements(committee) * sizeof(uint64_t) + crypto::kAeadTagBytes;
}

Status CheckOneShot(const SessionParams& params) {
  const CommitteeParams& committee = params.committee;
  if (params.mode != 0) return InvalidArgument("mode is not 0");
  if (!Known(committee.set) || committee.plaintext_bits != PlaintextBits(committee.set)) {
    return InvalidArgument("one_shot.set is unknown, or has another plaintext modulus");
  }
  if (RowOf(committee) == nullptr) {
    return InvalidArgument("the committee is none of the table of committees");
  }
  // Two honest clients at least, so that the sum of their keys leaves each key as uncertain as the
  // parameter set counts on [specification 2.2.2].
  if (params.a_min < 2) return InvalidArgument("a_min is below 2");
  if (HonestAmong(params.n_min, params.gamma_ppm) < params.a_min) {
    return InvalidArgument("n_min has fewer honest clients than a_min, at gamma");
  }
  return math::CheckRlweEncoding(EncodingOf(params), params.n_max);
}

uint32_t HonestAmong(uint32_t n, uint32_t gamma_ppm) {
  const uint64_t corrupt =
      std::max<uint64_t>(1, (uint64_t{n} * gamma_ppm + kMillion - 1) / kMillion);
  return corrupt < n ? static_cast<uint32_t>(n - corrupt) : 0;
}

Status CheckCommitteeIds(const CommitteeParams& committee, std::span<const PublicKey> ids) {
  if (ids.size() != committee.members) {
    return InvalidArgument("one_shot.members are not as many as the committee has");
  }
  std::vector<PublicKey> sorted(ids.begin(), ids.end());
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) {
    return InvalidArgument("one_shot.members names a member twice");
  }
  return OkStatus();
}

Status CheckCommitteeOptions(const AggregatorOptions& options) {
  const CommitteeParams& committee = options.params.committee;
  CHORUS_TRY(CheckCommitteeIds(committee, options.committee_ids));
  const CommitteeRow* row = RowOf(committee);
  if (row == nullptr || options.committee.size() + row->dropouts_max < committee.members) {
    return InvalidArgument("too few of the committee's members are there to be asked");
  }
  std::vector<uint32_t> indices;
  std::vector<PartyId> parties = options.parties;
  for (const CommitteeMember& member : options.committee) {
    if (member.index == 0 || member.index > committee.members) {
      return InvalidArgument("a committee member's index is not in 1..m");
    }
    indices.push_back(member.index);
    parties.push_back(member.party);
  }
  std::sort(indices.begin(), indices.end());
  std::sort(parties.begin(), parties.end());
  if (std::adjacent_find(indices.begin(), indices.end()) != indices.end() ||
      std::adjacent_find(parties.begin(), parties.end()) != parties.end()) {
    return InvalidArgument("a committee member is named twice, or is a client too");
  }
  return OkStatus();
}

}  // namespace chorus::aggregation
