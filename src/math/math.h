// The numbers under every protocol: ring vectors, bit packing, one fixed-point encoding, and secret
// sharing over GF(2^61 - 1). No dependency, no I/O; randomness is passed in.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/pace.h"
#include "base/pieces.h"
#include "base/random.h"
#include "chorus/aggregation.h"
#include "chorus/bytes.h"
#include "chorus/status.h"
#include "chorus/task.h"

namespace chorus::math {

// --- ring vectors and packing (ring.cc) [specification 3.4] ----------------------------------
int WordBytesFor(int bits);  // 2, 4 or 8: the smallest w with 8w >= bits, bits in 1..64
RingVector ZeroVector(uint64_t dim, int bits);  // [dim] zeros in words for `bits`
uint64_t DimOf(const RingVector& vector);
// Wipes the words, for vectors that hold a client's input.
void WipeVector(RingVector& vector);
// Reduces every word to its low `bits`.
void ReduceBits(RingVector& vector, int bits);
// ceil(dim * bits / 8).
uint64_t PackedBytes(uint64_t dim, int bits);
// Value j in bits [j * bits, (j + 1) * bits) of a little-endian bit stream; pad bits zero. Words
// above `bits` are cut.
Bytes Pack(const RingVector& vector, int bits);
// The same into `packed`, which must be PackedBytes long; else nothing is written.
void PackInto(const RingVector& vector, int bits, std::span<uint8_t> packed);
// Adds a packed vector of the same dim to `sum`, words wrapping. kInvalidArgument, with `sum`
// unchanged: wrong length, or pad bits that are not zero.
Status AddPacked(RingVector& sum, BytesView packed, int bits);
// The same of one that lies in pieces, wherever they are cut.
Status AddPackedPieces(RingVector& sum, Pieces packed, int bits);
enum class Sign : uint8_t { kAdd, kSubtract };
// Word `index`, reduced to `bits` and read as two's complement.
int64_t SignedAt(const RingVector& vector, uint64_t index, int bits);
void SetSigned(RingVector& vector, uint64_t index, int64_t value);

// --- fixed point (fixed_point.cc) [specification D1, 3.10]
// --------------------------------------------------------- A contribution is one vector of
// integers in [-B, B]:
//   [update, dim values][examples][evaluated][correct][loss]
// the update scaled by (examples / W) * (B / clip), the rest as data of the same kind. Decoding a
// sum gives means weighted by examples.
inline constexpr uint64_t kMetricCoordinates = 4;
inline constexpr double kLossMax = 16.0;  // a mean loss is cut to this before it is encoded

struct FixedPoint {
  uint64_t dim = 0;           // of the update
  uint32_t bound = 0;         // B
  uint32_t examples_max = 0;  // W
  double clip = 0;            // the update's largest L2 norm
  int bits = 0;               // b
  uint64_t vector_dim() const { return dim + kMetricCoordinates; }
};

// The L2 norm, summed in double in blocks so that its relative error stays below 2^-30 up to the
// largest dim. Not finite exactly when a value is not. One sum for clipping and encoding, so that
// what one made the other accepts.
double Norm(std::span<const float> values);
// The same with a breath of `pace` before each block.
double Norm(std::span<const float> values, Pace* pace);
// values -= base, both of one size, and gives back what Norm gives of the differences: what became
// of weights, less what they were, in one pass.
double SubtractForNorm(std::span<float> values, std::span<const float> base);

// The fewest bits that cannot wrap: 1 + ceil(log2(n_max * bound + 1)).
int BitsFor(uint64_t n_max, uint64_t bound);
// The encoding that a task implies. kInvalidArgument names the field: a bound of zero or above 2^31
// - 1, W of zero or above B, a clip that is not finite and positive, n_max of zero, n_max * B
// beyond 62 bits, or dim above limits::kDimMax.
Result<FixedPoint> FixedPointFor(uint64_t dim, const ClipSpec& clip, const EncodingSpec& encoding,
                                 uint32_t n_max);
// kInvalidArgument unless n_max * bound < 2^(bits - 1): sums could wrap.
Status CheckNoWrap(uint64_t n_max, uint64_t bound, int bits);

struct Contribution {
  std::span<const float> update;  // [dim], clipped to L2 norm <= clip already
  uint64_t examples = 0;          // trained on; counts for at most W
  uint64_t evaluated = 0;         // held-back examples; counts for at most W
  double accuracy = 0;            // on those, in [0, 1]
  double loss = 0;                // mean, finite and >= 0; counts for at most kLossMax
};

// Rounds each value to one of its two neighbouring integers so that the expectation is the value
// (unbiased stochastic rounding), drawing from `rounding`. The time does not depend on the values.
// kInvalidArgument: wrong dim, a value that is not finite, a norm above clip (by more than a
// float's rounding, 1e-6 of it), accuracy or loss out of range. The vector holds the client's
// input: wipe it.
Result<RingVector> Encode(const FixedPoint& encoding, const Contribution& contribution,
                          Rng& rounding);
// The same in the memory of `memory`, what it held gone, where that has the shape: for whoever
// encodes for many clients in turn.
Result<RingVector> Encode(const FixedPoint& encoding, const Contribution& contribution,
                          Rng& rounding, RingVector memory);

struct Mean {
  std::vector<float> update;  // [dim], weighted by examples
  uint64_t examples = 0;
  uint64_t evaluated = 0;
  double accuracy = 0;  // weighted by evaluated
  double loss = 0;
};

// kAborted when a value lies outside contributors * bound, the weights are negative, add up to
// nothing or exceed contributors * W, or the metrics are more than those weights allow: somebody
// sent garbage and the sum is not to be used. kInvalidArgument on a wrong dim or word size, or more
// contributors than the bits hold.
Status CheckSum(const FixedPoint& encoding, const Sum& sum);
// Adds `sum`, whose residues have `bits`, to `total`, whose encoding is `wide`: as integers, hence
// exactly, since what two sums add up to need not fit the bits of either. kInvalidArgument, with
// `total` unchanged: a wrong dim or word size, or more contributors than the wide bits hold.
Status AddSum(const FixedPoint& wide, Sum& total, const Sum& sum, int bits);
// Of a sum that passes CheckSum; the same failures, and kAborted when a mean is no float.
Result<Mean> Decode(const FixedPoint& encoding, const Sum& sum);

// --- secret sharing (shamir.cc) [Shamir 1979; specification 3.1] -----------------------------
inline constexpr uint64_t kPrime = (uint64_t{1} << 61U) - 1;
inline constexpr size_t kSharedSecretBytes = 32;
inline constexpr size_t kLimbs = 5;  // 7, 7, 7, 7 and 4 bytes, little-endian
inline constexpr size_t kShareBytes = kLimbs * 8;

// Arithmetic modulo kPrime on canonical values (< kPrime). Constant time.
uint64_t FieldAdd(uint64_t a, uint64_t b);
uint64_t FieldSubtract(uint64_t a, uint64_t b);
uint64_t FieldMultiply(uint64_t a, uint64_t b);
uint64_t FieldInverse(uint64_t a);  // 0 for 0

// Wiped on destruction.
struct Share {
  uint32_t x = 0;                    // > 0: the holder's roster index + 1
  std::array<uint64_t, kLimbs> y{};  // each < kPrime

  ~Share() { Wipe({reinterpret_cast<uint8_t*>(y.data()), sizeof(y)}); }
};

struct SharingSpec {
  uint32_t threshold = 0;  // so many shares open the secret, fewer say nothing; > 0
};

// Polynomials of degree threshold - 1, one a limb, their higher coefficients drawn from `rng` limb
// by limb. Holds secrets: wiped on destruction.
class Polynomial {
 public:
  // `secret` is kSharedSecretBytes. With another size, or a threshold of zero, all shares are zeros
  // and give nothing away.
  Polynomial(BytesView secret, SharingSpec spec, Rng& rng);
  // With given coefficients [kLimbs][threshold - 1], each < kPrime: for known answers.
  Polynomial(BytesView secret, std::span<const std::vector<uint64_t>> coefficients);
  ~Polynomial();
  Polynomial(const Polynomial&) = delete;
  Polynomial& operator=(const Polynomial&) = delete;
  // x > 0; zeros for 0, where the secret is. Horner's rule, constant time in the coefficients.
  Share At(uint32_t x) const;

 private:
  std::vector<std::array<uint64_t, kLimbs>> coefficients_;  // [threshold], the secret's limbs first
};

// Shares as 5 × 8 bytes little-endian. Reading gives kInvalidArgument for a wrong size, an x of
// zero or a limb >= kPrime.
Bytes ShareBytes(const Share& share);
Result<Share> ReadShare(uint32_t x, BytesView bytes);

// Lagrange coefficients at zero for a set of holders; compute once for many secrets shared to the
// same set. `xs` are distinct and > 0.
std::vector<uint64_t> LagrangeAtZero(std::span<const uint32_t> xs);
// Opens a secret from exactly the threshold's number of shares, whose x match the coefficients' in
// order; kInvalidArgument when there are not as many, or none. kDataLoss when the limbs have bits
// where a secret has none: some share is wrong.
Result<SecretBytes> OpenSecret(std::span<const Share> shares, std::span<const uint64_t> lagrange);

// --- secret sharing with wrong shares (shamir_decode.cc) [Gao03; specification 3.8] ----------
struct DecodedSecret {
  SecretBytes secret;
  std::vector<uint32_t> wrong;  // the x of the wrong shares, ascending
};

// Opens a secret from m >= threshold shares of which at most e = floor((m - threshold) / 2) are
// wrong, in any of their limbs, and tells which. The law, whoever made the shares: the result, if
// there is one, is the only secret with polynomials of degree < threshold on which at least m - e
// whole shares lie, and `wrong` are exactly the others. More than e wrong shares can therefore pass
// for another secret, and the right ones for wrong: check the secret against what its owner
// committed to before blaming anybody. kDataLoss: no such secret, or its limbs have bits where a
// secret has none. kInvalidArgument: a threshold of zero, fewer shares than that or more than
// limits::kDecodedSharesMax, an x that is zero or comes twice, a limb >= kPrime. O(m^2), for the
// worst shares too. Not constant time: for whoever may see all the shares.
Result<DecodedSecret> DecodeSecret(std::span<const Share> shares, SharingSpec spec);

}  // namespace chorus::math
