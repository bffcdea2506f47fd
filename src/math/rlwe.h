// Encryption of vectors so that ciphertexts and keys both add up: c = a * s + T * e + m in the ring
// Z_q[X] / (X^N + 1), with a public and s, e small. The sum of ciphertexts opens with the sum of
// the keys, at a cost that depends on the vectors' length alone. [Lyubashevsky, Peikert and Regev
// 2010; specification 2.2.2]
//
// Everything is exact: an opened sum is the integers that adding the plain vectors gives, or there
// is no result. A key must never encrypt twice. Streams of bytes come from the caller, one by one
// from keys of its own [specification 2.2.2, RLWE conventions].
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/random.h"
#include "chorus/aggregation.h"
#include "chorus/bytes.h"
#include "chorus/status.h"
#include "math/ntt.h"
#include "math/secret_numbers.h"

namespace chorus::math {

// --- parameters ------------------------------------------------------------------------------

inline constexpr uint32_t kRlweContributionsMax = 1U << 15U;  // n_max: the errors stay decodable
inline constexpr int32_t kRlweSecretMax = 42;    // |s|, |e| of one key: both are CBD(42)
inline constexpr int64_t kRlweErrorMax = 8'190;  // |E| of a sum, so that |T * E + M| < q / 2
inline constexpr uint32_t kResidueBits = 50;     // on the wire

// The numbers are those of the session's parameters.
enum class RlweSet : uint8_t { kOsa4096 = 1, kOsa8192 = 2 };

struct RlweParameters {
  uint32_t degree = 0;  // N
  uint32_t limbs = 0;   // q is the product of so many primes
  std::array<uint64_t, kRlweLimbsMax> primes{};
  std::array<uint64_t, kRlweLimbsMax> roots{};  // psi: psi^N = -1 modulo the prime
  int plaintext_bits = 0;                       // T = 2^plaintext_bits
};
const RlweParameters& RlweParametersFor(RlweSet set);

// How a vector lies in the ring: integers in [-bound, bound], `fields()` of `bits` bits each to a
// coefficient. bits of 14, 17, 21, 28 and 43 waste least.
struct RlweEncoding {
  RlweSet set = RlweSet::kOsa4096;
  uint64_t dim = 0;
  int bits = 0;        // b: holds the sum of all contributors' fields
  uint64_t bound = 0;  // B_tot: of one contribution, noise for privacy included

  // What follows from it; zero when `bits` does not fit a coefficient.
  uint64_t fields() const;            // r, of a coefficient
  uint64_t coefficients() const;      // ceil(dim / r)
  uint32_t polynomials() const;       // P
  uint64_t residues() const;          // limbs * coefficients
  uint64_t ciphertext_bytes() const;  // on the wire
};

// Checked once, when a session is made; everything below takes an encoding that passed.
// kInvalidArgument names the field: dim of zero, or above that of the largest model with its
// metrics; bits outside 2 .. 62; bound of zero; n_max of zero or above kRlweContributionsMax; n_max
// * 2 * bound >= 2^bits.
Status CheckRlweEncoding(const RlweEncoding& encoding, uint64_t n_max);

// The largest |E| that a sum of `contributors` may show: min(8190, 10 standard deviations of the
// sum of as many CBD(42)) [specification 2.2.4].
int64_t RlweErrorBound(uint32_t contributors);

// --- the ring --------------------------------------------------------------------------------

// A parameter set made ready: tables of some hundreds of KiB, so make one a session and not one a
// call. Immutable and thread-safe.
class RlweRing {
 public:
  explicit RlweRing(RlweSet set);  // on the fastest path of this processor
  // For tests and benchmarks. A path that this processor lacks is replaced by kPortable.
  RlweRing(RlweSet set, RlwePath path);

  RlweSet set() const { return set_; }
  const RlweParameters& parameters() const { return RlweParametersFor(set_); }
  const Ntt& ntt(uint32_t limb) const { return ntts_[limb]; }

 private:
  RlweSet set_;
  std::vector<Ntt> ntts_;  // [limbs]
};

// The stream for the public polynomial's residues modulo prime `limb`. Called once for each, in
// order.
using PublicStreams = std::function<std::unique_ptr<Rng>(uint32_t polynomial, uint32_t limb)>;
// The stream for the error of a polynomial. Called once for each, in order.
using ErrorStreams = std::function<std::unique_ptr<Rng>(uint32_t polynomial)>;

// Small numbers modulo `prime`. Constant time.
void ToResidues(std::span<const int32_t> numbers, uint64_t prime, std::span<uint64_t> residues);

// Fills `residues` with uniform ones below `prime`, by rejection: little-endian words of the
// stream, of which the low 50 bits count. A polynomial's are [degree] of them, in the order of the
// NTT.
void SamplePublic(uint64_t prime, Rng& stream, std::span<uint64_t> residues);

// A key: [degree] coefficients from CBD(42), 16 bytes of the stream each. Constant time.
SecretNumbers<int32_t> SampleSecret(const RlweRing& ring, Rng& stream);

// The packed ciphertext of `values` [dim], words of the encoding's bits in two's complement:
// ciphertext_bytes() of residues of 50 bits in the order polynomial, limb, coefficient, of the last
// polynomial only the coefficients used. kInvalidArgument: a ring of another set, a wrong dim or
// word size, a secret of another degree, a value outside [-bound, bound]. Constant time in values,
// secret and errors; what is derived from them is wiped.
Result<Bytes> Encrypt(const RlweRing& ring, const RlweEncoding& encoding, const RingVector& values,
                      const SecretNumbers<int32_t>& secret, const PublicStreams& public_streams,
                      const ErrorStreams& error_streams);

// --- the server ------------------------------------------------------------------------------

// The sum of ciphertexts, folded in as they arrive. Thread-compatible.
class CiphertextSum {
 public:
  // `ring` must outlive it and be of the encoding's set.
  CiphertextSum(const RlweRing& ring, const RlweEncoding& encoding);

  // Adds a packed ciphertext. kInvalidArgument, with nothing changed: a wrong length, pad bits that
  // are not zero, a residue >= its prime. kResourceExhausted: kRlweContributionsMax are in it.
  Status Fold(BytesView packed);
  // Adds another sum of the same ring and encoding, the same way. kInvalidArgument: of another.
  Status Add(const CiphertextSum& other);
  uint32_t contributors() const { return contributors_; }

  // The sum of the contributors' vectors, from the sum of their keys [degree]: residues reduced to
  // the encoding's bits, the same as any other protocol gives. kAborted when an error is larger
  // than RlweErrorBound or a value larger than contributors * bound: the key's sum is wrong or
  // somebody sent garbage, and there is no result. Garbage whose errors are small all the same,
  // modulo q / T, counts as another vector; a wrong key's are by chance, with 2 * RlweErrorBound +
  // 1 in 2^14 a coefficient. kInvalidArgument: a wrong size of the key.
  // kFailedPrecondition: nothing is in it. Not constant time: the server may know the sum.
  Result<RingVector> Open(std::span<const int32_t> secret_sum,
                          const PublicStreams& public_streams) const;

 private:
  Status Check(BytesView packed) const;
  template <size_t kLimbs, typename Word>
  bool OpenWords(std::span<const int32_t> secret_sum, const PublicStreams& public_streams,
                 std::span<Word> out) const;

  const RlweRing& ring_;
  RlweEncoding encoding_;
  std::vector<uint64_t> residues_;  // in the order of the wire, each below its prime
  uint32_t contributors_ = 0;
};

}  // namespace chorus::math
