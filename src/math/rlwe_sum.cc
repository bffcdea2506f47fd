// The server's side: ciphertexts are added up as they arrive, and the sum is opened once.
//
// Opening is not constant time: the server may know the sums of keys, errors and values.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "math/math.h"
#include "math/rlwe.h"
#include "math/rlwe_kernels.h"

namespace chorus::math {
namespace {

// Residues that lie behind each other on the wire, modulo one prime.
struct Run {
  uint32_t limb = 0;
  uint64_t first = 0;  // of all residues
  size_t count = 0;
};

std::vector<Run> RunsOf(const RlweEncoding& encoding) {
  const RlweParameters& parameters = RlweParametersFor(encoding.set);
  const uint64_t coefficients = encoding.coefficients();
  std::vector<Run> runs;
  runs.reserve(size_t{encoding.polynomials()} * parameters.limbs);
  uint64_t first = 0;
  for (uint64_t done = 0; done < coefficients; done += parameters.degree) {
    const size_t count = std::min<uint64_t>(parameters.degree, coefficients - done);
    for (uint32_t limb = 0; limb < parameters.limbs; ++limb) {
      runs.push_back({.limb = limb, .first = first, .count = count});
      first += count;
    }
  }
  return runs;
}

uint64_t ResidueAt(BytesView packed, uint64_t index) {
  const uint64_t bit = index * kResidueBits;
  uint64_t word = 0;
  std::memcpy(&word, packed.data() + bit / 8,
              std::min<size_t>(sizeof(word), packed.size() - bit / 8));
  return word >> bit % 8 & kDigitMask;
}

// The stream from a run on, for vector instructions: empty when it does not begin on a byte.
BytesView FromRunOn(BytesView packed, const Run& run) {
  const uint64_t bit = run.first * kResidueBits;
  return bit % 8 == 0 ? packed.subspan(bit / 8) : BytesView();
}

// What a sum's plaintext must satisfy, and where its fields lie.
struct SumBounds {
  uint64_t fields = 0;
  unsigned bits = 0;
  unsigned plaintext_bits = 0;
  uint64_t offset = 0;  // contributors * bound: half of the largest field
  int64_t error_max = 0;
};

// Added to E, so that the number behind the residues is never negative: above kRlweErrorMax, and
// twice as much is below q / T. This takes the place of centering [specification 2.2.2]: for errors
// within the bound it is the same, and others are refused either way.
constexpr uint64_t kErrorOffset = kRlweErrorMax + 1;

// Residues modulo kLimbs primes to the number in [0, q) that has them, in words of 64 bits, lowest
// first; by mixed radix [Garner 1959].
template <size_t kLimbs>
class Recombination {
 public:
  using Number = std::array<uint64_t, kLimbs>;

  explicit Recombination(const RlweParameters& parameters) : primes_(parameters.primes) {
    const RlweKernel& kernel = *RlweKernelFor(RlwePath::kPortable);
    for (size_t i = 0; i < kLimbs; ++i) {
      for (size_t j = 0; j < i; ++j) {
        const uint64_t residue = ReduceOnce(primes_[j], primes_[i]);
        inverses_[i][j] =
            kernel.prepare(PowerModulo(residue, primes_[i] - 2, primes_[i]), primes_[i]);
      }
    }
  }

  Number Recombine(const Number& residues) const {
    Number digits;
    for (size_t i = 0; i < kLimbs; ++i) {
      const uint64_t prime = primes_[i];
      uint64_t digit = residues[i];
      for (size_t j = 0; j < i; ++j) {
        // Digits are below another prime, and primes differ by far less than half.
        const uint64_t known = ReduceOnce(digits[j], prime);
        digit = ReduceOnce(MultiplyLazily(digit + prime - known, inverses_[i][j], prime), prime);
      }
      digits[i] = digit;
    }
    Number number{};
    number[0] = digits[kLimbs - 1];
    for (size_t i = kLimbs - 1; i > 0; --i) {
      uint64_t carry = digits[i - 1];
      for (size_t j = 0; j < kLimbs - i; ++j) {
        const unsigned __int128 product =
            static_cast<unsigned __int128>(number[j]) * primes_[i - 1] + carry;
        number[j] = static_cast<uint64_t>(product);
        carry = static_cast<uint64_t>(product >> 64U);
      }
      number[kLimbs - i] = carry;
    }
    return number;
  }

 private:
  std::array<uint64_t, kRlweLimbsMax> primes_;
  std::array<std::array<Factor, kLimbs>, kLimbs> inverses_{};  // of prime j modulo prime i
};

// Bits of numbers in words [words][degree] from `first` on; calls body(i, low 64 bits of them).
template <typename Body>
void ForBitsFrom(unsigned first, std::span<const uint64_t> words, size_t degree, size_t count,
                 const Body& body) {
  const unsigned shift = first % 64;
  const uint64_t* const low = words.data() + first / 64 * degree;
  const uint64_t* const high = low + degree;
  if (shift == 0 || first / 64 * degree + degree == words.size()) {
    for (size_t i = 0; i < count; ++i) body(i, low[i] >> shift);
    return;
  }
  for (size_t i = 0; i < count; ++i) body(i, low[i] >> shift | high[i] << (64 - shift));
}

// Unpacks `count` coefficients, of which `residues` [kLimbs][degree] holds T * (E + kErrorOffset) +
// M and is changed, into the words from out[0] on. Gives a number whose top bit is set when an
// error or a field is out of bounds.
template <size_t kLimbs, typename Word>
uint64_t Unpack(const Recombination<kLimbs>& recombination, const SumBounds& bounds,
                std::span<uint64_t> residues, size_t count, std::span<Word> out) {
  const size_t degree = residues.size() / kLimbs;
  for (size_t i = 0; i < count; ++i) {
    typename Recombination<kLimbs>::Number number;
    for (size_t limb = 0; limb < kLimbs; ++limb) number[limb] = residues[limb * degree + i];
    number = recombination.Recombine(number);
    for (size_t limb = 0; limb < kLimbs; ++limb) residues[limb * degree + i] = number[limb];
  }
  uint64_t over = 0;
  ForBitsFrom(bounds.plaintext_bits, residues, degree, count, [&](size_t, uint64_t raised) {
    const int64_t error = static_cast<int64_t>(raised) - static_cast<int64_t>(kErrorOffset);
    over |= static_cast<uint64_t>((bounds.error_max - error) | (bounds.error_max + error));
  });
  const uint64_t mask = (uint64_t{1} << bounds.bits) - 1;
  for (uint64_t field = 0; field < bounds.fields; ++field) {
    // The last coefficient may have fewer fields.
    const size_t used =
        std::min<size_t>(count, (out.size() + bounds.fields - 1 - field) / bounds.fields);
    Word* const first = out.data() + field;
    ForBitsFrom(static_cast<unsigned>(field) * bounds.bits, residues, degree, used,
                [&](size_t i, uint64_t bits) {
                  const uint64_t value = bits & mask;
                  over |= 2 * bounds.offset - value;
                  first[i * bounds.fields] = static_cast<Word>((value - bounds.offset) & mask);
                });
  }
  return over;
}

}  // namespace

void ToResidues(std::span<const int32_t> numbers, uint64_t prime, std::span<uint64_t> residues) {
  for (size_t i = 0; i < numbers.size(); ++i) {
    const auto sign = static_cast<uint64_t>(int64_t{numbers[i]} >> 63);
    residues[i] = static_cast<uint64_t>(int64_t{numbers[i]}) + (prime & sign);
  }
}

CiphertextSum::CiphertextSum(const RlweRing& ring, const RlweEncoding& encoding)
    : ring_(ring), encoding_(encoding), residues_(encoding.residues()) {}

Status CiphertextSum::Check(BytesView packed) const {
  if (packed.size() != encoding_.ciphertext_bytes()) {
    return InvalidArgument("the ciphertext's length does not match its dimension");
  }
  const auto used_bits = static_cast<unsigned>(residues_.size() % 8 * kResidueBits % 8);
  if (used_bits != 0 && packed.back() >> used_bits != 0) {
    return InvalidArgument("the ciphertext's pad bits are not zero");
  }
  uint64_t over = 0;
  for (const Run& run : RunsOf(encoding_)) {
    const Ntt& ntt = ring_.ntt(run.limb);
    size_t i = ntt.kernel().check(FromRunOn(packed, run), ntt.prime(), run.count, &over);
    for (; i < run.count; ++i) over |= ntt.prime() - 1 - ResidueAt(packed, run.first + i);
  }
  if (over >> 63U != 0) return InvalidArgument("the ciphertext has a residue beyond its prime");
  return OkStatus();
}

Status CiphertextSum::Fold(BytesView packed) {
  if (contributors_ >= kRlweContributionsMax) {
    return ResourceExhausted("the sum holds as many ciphertexts as it can");
  }
  CHORUS_TRY(Check(packed));
  for (const Run& run : RunsOf(encoding_)) {
    const Ntt& ntt = ring_.ntt(run.limb);
    uint64_t* const sum = residues_.data() + run.first;
    size_t i = ntt.kernel().fold(FromRunOn(packed, run), ntt.prime(), run.count, sum);
    for (; i < run.count; ++i) {
      sum[i] = ReduceOnce(sum[i] + ResidueAt(packed, run.first + i), ntt.prime());
    }
  }
  ++contributors_;
  return OkStatus();
}

Status CiphertextSum::Add(const CiphertextSum& other) {
  if (other.encoding_.set != encoding_.set || other.encoding_.dim != encoding_.dim ||
      other.encoding_.bits != encoding_.bits || other.encoding_.bound != encoding_.bound) {
    return InvalidArgument("the sums are of different encodings");
  }
  if (other.contributors_ > kRlweContributionsMax - contributors_) {
    return ResourceExhausted("the sum holds as many ciphertexts as it can");
  }
  for (const Run& run : RunsOf(encoding_)) {
    const uint64_t prime = ring_.ntt(run.limb).prime();
    const uint64_t* const addend = other.residues_.data() + run.first;
    uint64_t* const sum = residues_.data() + run.first;
    for (size_t i = 0; i < run.count; ++i) sum[i] = ReduceOnce(sum[i] + addend[i], prime);
  }
  contributors_ += other.contributors_;
  return OkStatus();
}

Result<RingVector> CiphertextSum::Open(std::span<const int32_t> secret_sum,
                                       const PublicStreams& public_streams) const {
  if (contributors_ == 0) return FailedPrecondition("the sum is empty");
  if (secret_sum.size() != ring_.parameters().degree) {
    return InvalidArgument("the secret is of another degree");
  }
  RingVector values = ZeroVector(encoding_.dim, encoding_.bits);
  const bool opened = std::visit(
      [&](auto& words) {
        return ring_.parameters().limbs == 2
                   ? OpenWords<2>(secret_sum, public_streams, std::span(words))
                   : OpenWords<kRlweLimbsMax>(secret_sum, public_streams, std::span(words));
      },
      values);
  if (!opened) return Aborted("the sum does not open: an error or a value is out of bounds");
  return values;
}

template <size_t kLimbs, typename Word>
bool CiphertextSum::OpenWords(std::span<const int32_t> secret_sum,
                              const PublicStreams& public_streams, std::span<Word> out) const {
  const size_t degree = secret_sum.size();
  const auto plaintext_bits = static_cast<unsigned>(ring_.parameters().plaintext_bits);
  const SumBounds bounds{
      .fields = encoding_.fields(),
      .bits = static_cast<unsigned>(encoding_.bits),
      .plaintext_bits = plaintext_bits,
      .offset = contributors_ * encoding_.bound,
      .error_max = RlweErrorBound(contributors_),
  };
  std::array<std::vector<uint64_t>, kLimbs> key;
  std::array<DigitWeights, kLimbs> weights;
  for (uint32_t limb = 0; limb < kLimbs; ++limb) {
    const uint64_t prime = ring_.ntt(limb).prime();
    key[limb].resize(degree);
    ToResidues(secret_sum, prime, key[limb]);
    // -S, so that the rest is a sum.
    for (uint64_t& residue : key[limb]) residue = ReduceOnce(prime - residue, prime);
    ring_.ntt(limb).Forward(key[limb]);
    weights[limb] = {.prime = prime, .digits = 1};
    weights[limb].offset =
        MultiplyModulo(PowerModulo(2, plaintext_bits, prime), kErrorOffset, prime);
  }
  const Recombination<kLimbs> recombination(ring_.parameters());
  std::vector<uint64_t> rest(kLimbs * degree);  // of the sum, once a * S is taken away
  std::vector<uint64_t> sum(degree);
  uint64_t over = 0;
  const std::vector<Run> runs = RunsOf(encoding_);
  for (size_t i = 0; i < runs.size(); ++i) {
    const Run& run = runs[i];
    const Ntt& ntt = ring_.ntt(run.limb);
    const uint64_t polynomial = i / kLimbs;
    const std::span<uint64_t> of_limb = std::span(rest).subspan(run.limb * degree, degree);
    SamplePublic(ntt.prime(), *public_streams(static_cast<uint32_t>(polynomial), run.limb),
                 of_limb);
    ntt.Multiply(of_limb, key[run.limb]);
    ntt.Inverse(of_limb);
    std::copy_n(residues_.begin() + static_cast<ptrdiff_t>(run.first), run.count, sum.begin());
    ntt.kernel().add_digits(weights[run.limb], sum.data(), of_limb.data(), degree);
    if (run.limb + 1 < kLimbs) continue;
    const uint64_t first_value = polynomial * degree * bounds.fields;
    over |= Unpack<kLimbs, Word>(recombination, bounds, rest, run.count, out.subspan(first_value));
  }
  return over >> 63U == 0;
}

}  // namespace chorus::math
