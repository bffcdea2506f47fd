#include <algorithm>
#include <cstring>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include "aggregation/secagg.h"

namespace chorus::aggregation {
namespace {

// Those of a round, and as many again.
constexpr size_t kOffersMax = 2 * limits::kParallelCohortsMax;

struct Known {
  PublicKey coordinator{};
  Bytes question;
  AcceptedOffer accepted;
};

// A signature is as good as random to whoever does not make it, and all bytes are compared besides.
uint64_t PlaceOf(BytesView question) {
  uint64_t place = 0;
  if (question.size() >= sizeof(Signature)) {
    std::memcpy(&place, question.last(sizeof(Signature)).data(), sizeof(place));
  }
  return place;
}

}  // namespace

struct KnownOffers::Inside {
  std::shared_mutex mutex;
  std::unordered_map<uint64_t, Known> known;
};

KnownOffers::KnownOffers() : inside_(std::make_unique<Inside>()) {}
KnownOffers::~KnownOffers() = default;

Result<AcceptedOffer> ReadOfferOnce(KnownOffers* offers, const PublicKey& coordinator,
                                    Protocol protocol, BytesView question) {
  if (offers == nullptr) return ReadOffer(coordinator, protocol, question);
  KnownOffers::Inside& inside = *offers->inside_;
  {
    const std::shared_lock lock(inside.mutex);
    const auto found = inside.known.find(PlaceOf(question));
    if (found != inside.known.end() && found->second.coordinator == coordinator &&
        found->second.accepted.params.protocol == protocol &&
        std::ranges::equal(found->second.question, question)) {
      return found->second.accepted;
    }
  }
  CHORUS_TRY_ASSIGN(const AcceptedOffer accepted, ReadOffer(coordinator, protocol, question));
  const std::unique_lock lock(inside.mutex);
  if (inside.known.size() >= kOffersMax) inside.known.clear();
  inside.known[PlaceOf(question)] = {coordinator, Bytes(question.begin(), question.end()),
                                     accepted};
  return accepted;
}

}  // namespace chorus::aggregation
