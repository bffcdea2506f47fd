// The figures of one-shot aggregation, at a million parameters and with a committee of 128. A
// figure is a function and a line of the table below.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>

#include "aggregation/one_shot.h"
#include "base/codec.h"
#include "bench.h"
#include "crypto/crypto.h"
#include "math/math.h"
#include "math/packed_shamir.h"
#include "math/rlwe.h"
#include "one_shot_session.h"
#include "session.h"

namespace chorus::bench {
namespace {

constexpr uint64_t kDim = 1'000'000;
constexpr int kBits = 21;
constexpr uint64_t kBound = 100;  // so that 10,000 contributions fit the bits
constexpr math::PackedSpec kCommittee{.members = 128, .privacy = 42, .packing = 32};
constexpr size_t kElements = 2'048;
constexpr double kMilliseconds = 1e3;
constexpr int kRuns = 15;

const math::RlweEncoding kEncoding{.dim = kDim, .bits = kBits, .bound = kBound};

const math::RlweRing& Ring() {
  static const math::RlweRing ring(math::RlweSet::kOsa4096);
  return ring;
}

// As in a session: a key of its own for each polynomial and prime.
std::unique_ptr<Rng> PublicStream(uint32_t polynomial, uint32_t limb) {
  static const SecretBytes session = crypto::HkdfExtract(Bytes(32), ViewOf("public"));
  Writer label;
  label.Raw("CHORUS1-OSA/a").U32(polynomial).U8(static_cast<uint8_t>(limb));
  return crypto::NewSeededRng(
      crypto::HkdfExpand(session.Reveal(), label.view(), crypto::kKeyBytes).Reveal());
}

class Zeros final : public Rng {
 public:
  void Fill(std::span<uint8_t> out) override { std::fill(out.begin(), out.end(), uint8_t{0}); }
};

// One contribution, which can stand for many: without errors it can be folded in as often as one
// likes and opens with as many times its key. What opening costs depends on no value.
struct Sample {
  math::SecretNumbers<int32_t> secret;
  RingVector values;
  Bytes ciphertext;
};

const Sample& TheSample() {
  static const Sample sample = [] {
    Sample made;
    made.secret = math::SampleSecret(Ring(), *crypto::NewSeededRng(Bytes(32, 1)));
    made.values = math::ZeroVector(kDim, kBits);
    for (uint64_t i = 0; i < kDim; ++i) {
      math::SetSigned(made.values, i, static_cast<int64_t>(i * 7 % (2 * kBound + 1)) - 100);
    }
    const auto no_errors = [](uint32_t) { return std::make_unique<Zeros>(); };
    made.ciphertext =
        *math::Encrypt(Ring(), kEncoding, made.values, made.secret, &PublicStream, no_errors);
    return made;
  }();
  return sample;
}

// A contribution's check and addition, in milliseconds. Every upload comes from memory, not from
// the cache.
std::optional<Measured> Fold() {
  constexpr size_t kUploads = 16;
  const std::vector<Bytes> uploads(kUploads, TheSample().ciphertext);
  math::CiphertextSum sum(Ring(), kEncoding);
  std::vector<double> seconds;
  bool refused = false;
  for (int run = 0; run < kRuns; ++run) {
    for (const Bytes& upload : uploads) {
      seconds.push_back(Seconds(CpuSeconds, [&] { refused = !sum.Fold(upload).ok() || refused; }));
    }
  }
  return Measured{refused ? 1e9 : kMilliseconds * Median(seconds), 1};
}

// Sessions by how many contributions survive: 100 and 10,000 clients, none or 30 % dropped.
constexpr std::array<uint32_t, 4> kSurvivors = {70, 100, 7'000, 10'000};

// A session before it is opened.
struct Session {
  std::unique_ptr<math::CiphertextSum> sum;
  std::unique_ptr<math::PackedShares> shares;  // of the sum of the keys
};

std::array<Session, kSurvivors.size()> MakeSessions() {
  std::array<Session, kSurvivors.size()> sessions;
  math::CiphertextSum sum(Ring(), kEncoding);
  const math::PackedDealer dealer = *math::PackedDealer::For(kCommittee);
  const std::unique_ptr<Rng> rng = crypto::NewSeededRng(Bytes(32, 2));
  for (size_t i = 0; i < kSurvivors.size(); ++i) {
    while (sum.contributors() < kSurvivors[i]) (void)sum.Fold(TheSample().ciphertext);
    std::vector<int32_t> keys;
    for (const int32_t key : TheSample().secret.Reveal()) {
      keys.push_back(key * static_cast<int32_t>(kSurvivors[i]));
    }
    sessions[i].sum = std::make_unique<math::CiphertextSum>(sum);
    sessions[i].shares = std::make_unique<math::PackedShares>(
        *dealer.Deal(math::PairCoefficients(keys).Reveal(), *rng));
  }
  return sessions;
}

// From the shares of 97 members, as 31 may drop out, to the sum; whether it is right.
bool Unmask(const Session& session) {
  std::vector<math::MemberShare> answers;
  for (uint32_t member = 32; member <= kCommittee.members; ++member) {
    answers.push_back({member, session.shares->Of(member)});
  }
  const auto opened = math::OpenPacked(kCommittee, kElements / kCommittee.packing, answers);
  if (!opened.ok()) return false;
  const uint32_t contributors = session.sum->contributors();
  const auto keys = math::UnpairCoefficients(
      opened->elements, math::kRlweSecretMax * static_cast<int32_t>(contributors));
  if (!keys.ok()) return false;
  const auto values = session.sum->Open(*keys, &PublicStream);
  return values.ok() && math::SignedAt(*values, kDim - 1, kBits) ==
                            contributors * math::SignedAt(TheSample().values, kDim - 1, kBits);
}

// The least time of each session's unmasking, in milliseconds, taken by turns.
const std::array<double, kSurvivors.size()>& UnmaskTimes() {
  static const std::array<double, kSurvivors.size()> least = [] {
    const std::array<Session, kSurvivors.size()> sessions = MakeSessions();
    std::array<double, kSurvivors.size()> times;
    times.fill(1e9);
    for (int run = 0; run < 2 * kRuns; ++run) {
      for (size_t i = 0; i < sessions.size(); ++i) {
        bool right = false;
        const double seconds = Seconds(CpuSeconds, [&] { right = Unmask(sessions[i]); });
        if (right) times[i] = std::min(times[i], kMilliseconds * seconds);
      }
    }
    return times;
  }();
  return least;
}

std::optional<Measured> UnmaskSlowest() {
  return Measured{*std::max_element(UnmaskTimes().begin(), UnmaskTimes().end()), 10};
}

std::optional<Measured> UnmaskSpread() {
  const auto [least, most] = std::minmax_element(UnmaskTimes().begin(), UnmaskTimes().end());
  return Measured{*most / *least, 1.05};
}

// The ciphertext's bytes over those of the packed vector, at the worst of the usual bits.
std::optional<Measured> Expansion() {
  double worst = 0;
  for (const int bits : {14, 17, 21, 28}) {
    const math::RlweEncoding encoding{.dim = kDim, .bits = bits, .bound = 1};
    worst = std::max(worst, static_cast<double>(encoding.ciphertext_bytes()) /
                                static_cast<double>(math::PackedBytes(kDim, bits)));
  }
  return Measured{worst, 1.20};
}

// The sealed shares' bytes, in per cent of the ciphertext's, at the fewest bits.
std::optional<Measured> ExpansionShares() {
  const math::RlweEncoding encoding{.dim = kDim, .bits = 14, .bound = 1};
  constexpr size_t kSealedBytes = kElements / kCommittee.packing * 8 + crypto::kAeadTagBytes;
  return Measured{100.0 * static_cast<double>(kCommittee.members * kSealedBytes) /
                      static_cast<double>(encoding.ciphertext_bytes()),
                  3.5};
}

// A key's shares for the whole committee, in milliseconds.
std::optional<Measured> Deal() {
  const math::PackedDealer dealer = *math::PackedDealer::For(kCommittee);
  const auto elements = math::PairCoefficients(TheSample().secret.Reveal());
  const std::unique_ptr<Rng> rng = crypto::NewSeededRng(Bytes(32, 3));
  std::vector<double> seconds;
  for (int run = 0; run < kRuns; ++run) {
    seconds.push_back(Seconds(CpuSeconds, [&] { (void)dealer.Deal(elements.Reveal(), *rng); }));
  }
  return Measured{kMilliseconds * Median(seconds), 2};
}

// What belongs beside a figure and has no bar of its own.
void Report(const char* name, double value, const char* unit) {
  std::printf("  %s %.3f %s\n", name, value, unit);
  std::fflush(stdout);
}

// Ends the program when a session fails: its figures would mean nothing.
template <typename T>
T Succeeded(Result<T> result) {
  if (!result.ok()) {
    std::fprintf(stderr, "a session failed: %s\n", result.status().message().c_str());
    std::exit(1);
  }
  return *std::move(result);
}

struct ClientTimes {  // in milliseconds
  double answer = 0;  // the whole of it
  double signatures = 0;
  double hear = 0;  // the server's, of that answer
};

// A client's one answer in a session of 10,000. Each run is a client of its own.
const ClientTimes& Client() {
  static const ClientTimes times = [] {
    OneShotSession session({.clients = 10'000, .dim = kDim, .bits = kBits, .bound = kBound});
    const Status begun = session.Begin();
    const Bytes question = Succeeded(begun.ok() ? session.Question(0) : begun);
    const size_t offer_bytes = aggregation::OfferBytes(Protocol::kOneShot);
    const auto offer =
        Succeeded(aggregation::ReadOffer(session.params().coordinator_id, Protocol::kOneShot,
                                         BytesView(question).first(offer_bytes)));
    const auto committee = Succeeded(
        aggregation::DecodeCommittee(BytesView(question).subspan(offer_bytes), kCommittee.members));
    std::vector<double> answers;
    std::vector<double> signatures;
    std::vector<double> hears;
    for (PartyId client = 0; client < kRuns; ++client) {
      const auto contributor = Succeeded(session.NewClient(client, session.InputOf(client)));
      Bytes answer;
      answers.push_back(
          Seconds(CpuSeconds, [&] { answer = Succeeded(contributor->Answer(question)); }));
      signatures.push_back(Seconds(
          CpuSeconds, [&] { (void)aggregation::CheckCommitteeSignatures(offer.sid0, committee); }));
      hears.push_back(Seconds(CpuSeconds, [&] { (void)session.Hear(client, answer); }));
    }
    return ClientTimes{kMilliseconds * Median(answers), kMilliseconds * Median(signatures),
                       kMilliseconds * Median(hears)};
  }();
  return times;
}

double ClientWithoutSignatures() { return Client().answer - Client().signatures; }

std::optional<Measured> ClientFigure() {
  Report("client_signatures", Client().signatures, "ms, of 128 members, not in client");
  Report("server_hear", Client().hear, "ms, digests, signature and fold of a contribution");
  return Measured{ClientWithoutSignatures(), 15};
}

// Over the client of a whole session of SecAgg in which all mask for real. On both sides without
// the signatures of those whom a client shares to: there it checks one for each peer, and with each
// it has a mask.
std::optional<Measured> ClientOverSecAgg() {
  const SessionCosts secagg = Succeeded(RunSession({.graph = SharingGraph::kSelfSelected,
                                                    .clients = 1'000,
                                                    .dim = kDim,
                                                    .gamma_ppm = 50'000,
                                                    .delta_ppm = 100'000,
                                                    .path = crypto::FastestMaskPath()}));
  const double all = kMilliseconds * secagg.client_seconds;
  const double signatures = Client().signatures / kCommittee.members * (secagg.client_masks - 1);
  Report("secagg_client", all - signatures, "ms, at the fastest masks");
  Report("secagg_client_signatures", signatures, "ms, not in secagg_client");
  Report("client_over_secagg_all", Client().answer / all, "x, with all signatures on both sides");
  return Measured{ClientWithoutSignatures() / (all - signatures), 0.3};
}

// 10,000 clients and 100,000 values, every contribution real.
std::optional<Measured> Large() {
  constexpr double kMebibyte = 1 << 20U;
  OneShotSession session({.clients = 10'000, .dim = 100'000, .bits = kBits, .bound = kBound});
  const Status begun = session.Begin();
  const OneShotCosts costs = Succeeded(begun.ok() ? session.Finish() : begun);
  Report("large_wall", costs.wall_seconds, "s, on 2 threads, all parties in one process");
  constexpr std::array<const char*, 5> kSteps = {"large_server_keys", "large_server_contributions",
                                                 "large_server_complaints", "large_server_votes",
                                                 "large_server_opening"};
  double server = costs.open_seconds;
  for (size_t i = 0; i < kSteps.size(); ++i) {
    Report(kSteps[i], costs.step_seconds[i], "s of CPU");
    server += costs.step_seconds[i];
  }
  Report("large_server_sum", costs.open_seconds, "s of CPU");
  Report("large_server", server, "s of CPU, all of these");
  Report("large_client", kMilliseconds * costs.client_seconds, "ms of CPU, the mean");
  Report("large_member", costs.member_seconds, "s of CPU, the mean");
  Report("large_server_memory", static_cast<double>(costs.server_bytes) / kMebibyte, "MiB");
  Report("large_member_memory", static_cast<double>(costs.member_bytes) / kMebibyte, "MiB");
  Report("large_client_up", static_cast<double>(costs.bytes_up) / 1024, "KiB");
  Report("large_client_down", static_cast<double>(costs.bytes_down) / 1024, "KiB");
  return Measured{static_cast<double>(costs.wrong_values), 0};
}

const std::vector<Figure>& Figures() {
  static const std::vector<Figure> figures = {
      {"fold", "ms", Bar::kAtMost, &Fold},
      {"unmask", "ms", Bar::kAtMost, &UnmaskSlowest},
      {"unmask_spread", "x the fastest of 70, 100, 7000 and 10000 survivors", Bar::kAtMost,
       &UnmaskSpread},
      {"expansion", "x the packed plaintext", Bar::kAtMost, &Expansion},
      {"expansion_shares", "% of the ciphertext", Bar::kAtMost, &ExpansionShares},
      {"deal", "ms", Bar::kAtMost, &Deal},
      {"client", "ms", Bar::kAtMost, &ClientFigure},
      {"client_over_secagg", "x SecAgg's client", Bar::kAtMost, &ClientOverSecAgg},
      {"large", "wrong values of 100000", Bar::kAtMost, &Large},
  };
  return figures;
}

}  // namespace
}  // namespace chorus::bench

int main(int count, char** words) {
  return chorus::bench::PrintAll(chorus::bench::Figures(),
                                 std::span(words, static_cast<size_t>(count)).subspan(1));
}
