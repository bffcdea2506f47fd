// What OneShot's server computes from the committee's answers: whom to leave out after complaints,
// and the sum [specification 2.2.4].
#include <algorithm>

#include "aggregation/one_shot.h"

namespace chorus::aggregation {

Resolution ResolveComplaints(std::span<const Positions> complaints, uint32_t clients) {
  Resolution out;
  out.members.assign(complaints.size(), false);
  out.clients.assign(clients, false);
  std::vector<size_t> of_member(complaints.size());
  std::vector<std::vector<size_t>> accusers(clients);
  for (size_t member = 0; member < complaints.size(); ++member) {
    of_member[member] = complaints[member].size();
    for (const uint32_t client : complaints[member]) accusers[client].push_back(member);
  }
  std::vector<size_t> of_client(clients);
  for (uint32_t client = 0; client < clients; ++client) of_client[client] = accusers[client].size();
  while (true) {
    const auto client = std::max_element(of_client.begin(), of_client.end());
    if (client == of_client.end() || *client == 0) return out;
    const auto member = std::max_element(of_member.begin(), of_member.end());
    if (*client >= *member) {
      const auto left_out = static_cast<uint32_t>(client - of_client.begin());
      out.clients[left_out] = true;
      of_client[left_out] = 0;
      for (const size_t accuser : accusers[left_out]) {
        if (!out.members[accuser]) --of_member[accuser];
      }
    } else {
      const auto left_out = static_cast<size_t>(member - of_member.begin());
      out.members[left_out] = true;
      of_member[left_out] = 0;
      for (const uint32_t accused : complaints[left_out]) {
        if (!out.clients[accused]) --of_client[accused];
      }
    }
  }
}

Result<OpenedSum> OpenSum(const SessionParams& params, const Digest& sid,
                          std::span<const math::MemberShare> shares,
                          const math::CiphertextSum& ciphertexts) {
  Result<math::OpenedElements> elements =
      math::OpenPacked(SharingOf(params.committee), ShareElements(params.committee), shares);
  if (!elements.ok()) {
    return Aborted("the committee's shares open to no key: " + elements.status().message());
  }
  const auto key_max = static_cast<int32_t>(ciphertexts.contributors()) * math::kRlweSecretMax;
  const Result<std::vector<int32_t>> key = math::UnpairCoefficients(elements->elements, key_max);
  if (!key.ok()) return Aborted("the committee's shares open to no sum of clients' keys");
  const LatticeStreams streams(sid);
  OpenedSum opened;
  CHORUS_TRY_ASSIGN(opened.values, ciphertexts.Open(*key, [&](uint32_t polynomial, uint32_t limb) {
    return streams.PublicPolynomial(polynomial, limb);
  }));
  opened.wrong = std::move(elements->wrong);
  return opened;
}

}  // namespace chorus::aggregation
