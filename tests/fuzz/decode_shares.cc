// Shamir decoding with wrong shares: up to the radius the secret opens and the wrong shares are
// named; beyond it, and for shares of any origin, what opens agrees with as many shares as the
// contract says.
#include <set>

#include "fuzz.h"
#include "math/math.h"

namespace chorus::math {
namespace {

using fuzz::Choices;
using fuzz::Require;

constexpr uint32_t kSharesMax = 24;

// Coefficients that follow from the choices.
class ChosenRng final : public Rng {
 public:
  explicit ChosenRng(uint8_t seed) : rng_(crypto::NewSeededRng(fuzz::Key("rng", seed).Reveal())) {}
  void Fill(std::span<uint8_t> out) override { rng_->Fill(out); }

 private:
  std::unique_ptr<Rng> rng_;
};

// What a decoded secret says of the shares it was opened from.
void CheckWrong(std::span<const Share> shares, uint32_t threshold, const DecodedSecret& decoded) {
  const std::set<uint32_t> wrong(decoded.wrong.begin(), decoded.wrong.end());
  Require(wrong.size() == decoded.wrong.size(), "a wrong share is named once");
  Require(wrong.size() <= (shares.size() - threshold) / 2, "no more are wrong than the radius");
  std::vector<Share> right;
  for (const Share& share : shares) {
    if (!wrong.contains(share.x)) right.push_back(share);
  }
  // Any window of the right shares opens the same secret.
  for (size_t first = 0; first + threshold <= right.size(); ++first) {
    const std::span<const Share> window(right.data() + first, threshold);
    std::vector<uint32_t> xs;
    for (const Share& share : window) xs.push_back(share.x);
    const Result<SecretBytes> opened = OpenSecret(window, LagrangeAtZero(xs));
    Require(opened.ok() && crypto::EqualConstantTime(opened->Reveal(), decoded.secret.Reveal()),
            "the right shares open the secret");
  }
}

}  // namespace

void Decode(BytesView input) {
  Choices choices(input);
  const uint32_t threshold = 1 + choices.Below(8);
  const uint32_t count = choices.Below(kSharesMax + 1);
  ChosenRng rng(choices.Byte());
  const SecretBytes secret = fuzz::Key("secret", choices.Byte());
  const Polynomial polynomial(secret.Reveal(), {.threshold = threshold}, rng);
  std::vector<Share> shares;
  std::set<uint32_t> changed;
  uint32_t x = 0;
  bool sound = true;  // distinct x > 0 and limbs below the prime
  for (uint32_t i = 0; i < count; ++i) {
    const uint8_t lie = choices.Byte();
    x += lie == 0xff ? 0 : 1 + lie % 4;
    Share share = polynomial.At(x);
    if (lie >= 0xc0 && lie < 0xff) {
      share.y[lie % kLimbs] = choices.Number() % (kPrime + (lie == 0xfe ? 2 : 0));
      sound = sound && share.y[lie % kLimbs] < kPrime;
    }
    if (share.y != polynomial.At(x).y) changed.insert(x);
    sound = sound && x != 0 && (shares.empty() || shares.back().x != x);
    shares.push_back(share);
  }
  const Result<DecodedSecret> decoded = DecodeSecret(shares, {.threshold = threshold});
  if (!sound || count < threshold) {
    Require(decoded.status().code() == Code::kInvalidArgument, "unsound shares are refused");
    return;
  }
  Require(decoded.ok() || decoded.status().code() == Code::kDataLoss, "shares open or are damaged");
  if (changed.size() <= (count - threshold) / 2) {
    Require(decoded.ok(), "within the radius the secret opens");
    Require(crypto::EqualConstantTime(decoded->secret.Reveal(), secret.Reveal()), "it is the one");
    Require(
        std::equal(changed.begin(), changed.end(), decoded->wrong.begin(), decoded->wrong.end()),
        "and the wrong shares are named");
  }
  if (decoded.ok()) CheckWrong(shares, threshold, *decoded);
}

}  // namespace chorus::math

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chorus::math::Decode({data, size});
  return 0;
}
