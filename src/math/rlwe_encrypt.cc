// The client's side: a vector of integers to a packed ciphertext.
#include <algorithm>
#include <cstring>
#include <utility>

#include "math/math.h"
#include "math/rlwe.h"
#include "math/rlwe_kernels.h"

namespace chorus::math {
namespace {

// Writes residues of 50 bits as one little-endian bit stream.
class ResidueWriter {
 public:
  explicit ResidueWriter(std::span<uint8_t> out) : out_(out.data()) {}

  void Put(std::span<const uint64_t> residues) {
    if (filled_ == 0) {
      const size_t count = residues.size() / kTogether * kTogether;
      PutTogether(residues.first(count));
      residues = residues.subspan(count);
    }
    for (const uint64_t residue : residues) {
      held_ |= residue << filled_;
      filled_ += kResidueBits;
      if (filled_ < kWordBits) continue;
      std::memcpy(out_, &held_, sizeof(held_));
      out_ += sizeof(held_);
      filled_ -= kWordBits;
      held_ = residue >> (kResidueBits - filled_);  // the part that did not fit
    }
  }

  // Writes the last, incomplete word.
  void Finish() { std::memcpy(out_, &held_, (filled_ + 7) / 8); }

 private:
  static constexpr unsigned kWordBits = 64;
  static constexpr size_t kTogether = 4;  // the fewest that end with a byte
  static constexpr size_t kTogetherBytes = kTogether * kResidueBits / 8;

  // A multiple of kTogether. The place is local, as bytes written through it might be itself.
  void PutTogether(std::span<const uint64_t> residues) {
    uint8_t* out = out_;
    for (size_t i = 0; i < residues.size(); i += kTogether) {
      const uint64_t* const four = residues.data() + i;
      PutWord(four[0] | four[1] << 50U, out);
      PutWord(four[1] >> 14U | four[2] << 36U, out + 8);
      PutWord(four[2] >> 28U | four[3] << 22U, out + 16);
      out[24] = static_cast<uint8_t>(four[3] >> 42U);
      out += kTogetherBytes;
    }
    out_ = out;
  }
  static void PutWord(uint64_t word, uint8_t* to) { std::memcpy(to, &word, sizeof(word)); }

  uint8_t* out_;
  uint64_t held_ = 0;
  unsigned filled_ = 0;
};

// The digits in base 2^50 of one polynomial of message and error, [limbs] of [degree], all that is
// secret and small. Wiped on destruction.
class Plaintext {
 public:
  Plaintext(const RlweRing& ring, const RlweEncoding& encoding)
      : kernel_(ring.ntt(0).kernel()),
        encoding_(encoding),
        degree_(ring.parameters().degree),
        limbs_(ring.parameters().limbs),
        error_shift_(ErrorShift(ring.parameters())),
        digits_(limbs_ * degree_),
        noise_(degree_),
        stream_(degree_ * kNoiseBytes) {}

  const uint64_t* digits() const { return digits_.Reveal().data(); }

  // The error as T * (e + 42), so that no digit is negative: the residues' offset takes T * 42 away
  // again.
  void SetError(Rng& stream) {
    stream.Fill(stream_.RevealMutable());
    kernel_.draw_noise(stream_.Reveal().data(), noise_.RevealMutable().data(), degree_);
    Wipe(digits_.RevealMutableBytes());
    uint64_t* const last = Row(limbs_ - 1);
    for (size_t i = 0; i < degree_; ++i) last[i] = noise_.Reveal()[i] << error_shift_;
  }

  // Adds the values of coefficients [first, first + count). *over gets its top bit set when one is
  // out of bounds.
  template <typename Word>
  void AddMessage(std::span<const Word> words, uint64_t first, size_t count, uint64_t* over) {
    const uint64_t fields = encoding_.fields();
    const auto bits = static_cast<unsigned>(encoding_.bits);
    for (uint64_t field = 0; field < fields; ++field) {
      const uint64_t begin = first * fields + field;
      if (begin >= words.size()) return;
      const size_t digit = field * bits / kDigitBits;
      const unsigned shift = static_cast<unsigned>(field) * bits % kDigitBits;
      // Fields of up to 62 bits lie in at most two digits: the shifts of the widest are small.
      const Place place{.shift = shift,
                        .low = Row(digit),
                        .high = shift + bits > kDigitBits ? Row(digit + 1) : nullptr};
      const uint64_t left = (words.size() - begin + fields - 1) / fields;
      *over |= AddField(words.subspan(begin), fields, std::min<uint64_t>(count, left), place);
    }
  }

 private:
  uint64_t* Row(size_t digit) { return digits_.RevealMutable().data() + digit * degree_; }

  struct Place {  // of a field in a coefficient
    unsigned shift = 0;
    uint64_t* low = nullptr;
    uint64_t* high = nullptr;  // null when the field lies in one digit
  };

  // Adds every `stride`th of the words to `count` coefficients; the top bit says whether one is out
  // of bounds. Everything is local, so that the loops need not fear that digits overwrite it.
  template <typename Word>
  uint64_t AddField(std::span<const Word> words, uint64_t stride, size_t count,
                    const Place& place) const {
    const uint64_t mask = (uint64_t{1} << static_cast<unsigned>(encoding_.bits)) - 1;
    const uint64_t bound = encoding_.bound;
    const unsigned shift = place.shift;
    uint64_t* const low = place.low;
    uint64_t over = 0;
    // Modulo 2^bits, a value within its bounds and only such a one is 0 .. 2 * bound after this.
    const auto binary_at = [&](size_t i) {
      const uint64_t binary = (static_cast<uint64_t>(words[i * stride]) + bound) & mask;
      over |= 2 * bound - binary;
      return binary;
    };
    if (place.high == nullptr) {
      for (size_t i = 0; i < count; ++i) low[i] |= binary_at(i) << shift;
      return over;
    }
    uint64_t* const high = place.high;
    for (size_t i = 0; i < count; ++i) {
      const uint64_t binary = binary_at(i);
      low[i] |= binary << shift & kDigitMask;
      high[i] |= binary >> (kDigitBits - shift);
    }
    return over;
  }

  const RlweKernel& kernel_;
  const RlweEncoding& encoding_;
  size_t degree_;
  size_t limbs_;
  unsigned error_shift_;
  SecretNumbers<uint64_t> digits_;
  SecretNumbers<uint64_t> noise_;
  SecretBytes stream_;
};

DigitWeights WeightsOf(const RlweRing& ring, uint32_t limb) {
  const RlweParameters& parameters = ring.parameters();
  const uint64_t prime = parameters.primes[limb];
  DigitWeights weights{.prime = prime, .digits = parameters.limbs};
  for (uint32_t k = 1; k < parameters.limbs; ++k) {
    weights.weights[k] =
        ring.ntt(limb).kernel().prepare(PowerModulo(2, uint64_t{k} * kDigitBits, prime), prime);
  }
  const uint64_t plaintext_end =
      PowerModulo(2, static_cast<uint64_t>(parameters.plaintext_bits), prime);
  weights.offset = prime - MultiplyModulo(plaintext_end, kNoiseMax, prime);
  return weights;
}

// A key's transform modulo every prime, and the products with it. Wiped on destruction.
class TransformedKey {
 public:
  TransformedKey(const RlweRing& ring, std::span<const int32_t> secret)
      : ring_(ring), degree_(secret.size()), product_(degree_) {
    for (uint32_t limb = 0; limb < ring.parameters().limbs; ++limb) {
      SecretNumbers<uint64_t> residues(degree_);
      ToResidues(secret, ring.ntt(limb).prime(), residues.RevealMutable());
      ring.ntt(limb).Forward(residues.RevealMutable());
      limbs_.push_back({std::move(residues), WeightsOf(ring, limb)});
    }
  }

  // The ciphertext's residues modulo one prime, [degree], until the next call.
  std::span<const uint64_t> Encrypt(uint32_t limb, const Plaintext& plaintext, Rng& stream) {
    const Ntt& ntt = ring_.ntt(limb);
    const std::span<uint64_t> product = product_.RevealMutable();
    SamplePublic(ntt.prime(), stream, product);
    ntt.Multiply(product, limbs_[limb].secret.Reveal());
    ntt.Inverse(product);
    ntt.kernel().add_digits(limbs_[limb].weights, plaintext.digits(), product.data(), degree_);
    return product;
  }

 private:
  struct Limb {
    SecretNumbers<uint64_t> secret;
    DigitWeights weights;
  };

  const RlweRing& ring_;
  size_t degree_;
  SecretNumbers<uint64_t> product_;
  std::vector<Limb> limbs_;
};

// Whether the words are of the size that the encoding's bits take, and as many as its values.
bool IsShapedLike(const RingVector& values, const RlweEncoding& encoding) {
  const auto word_bytes = static_cast<size_t>(WordBytesFor(encoding.bits));
  return DimOf(values) == encoding.dim &&
         std::visit([word_bytes](const auto& words) { return sizeof(words[0]) == word_bytes; },
                    values);
}

}  // namespace

Result<Bytes> Encrypt(const RlweRing& ring, const RlweEncoding& encoding, const RingVector& values,
                      const SecretNumbers<int32_t>& secret, const PublicStreams& public_streams,
                      const ErrorStreams& error_streams) {
  if (ring.set() != encoding.set) return InvalidArgument("the ring is of another set");
  if (!IsShapedLike(values, encoding)) return InvalidArgument("values do not match the encoding");
  const uint64_t degree = ring.parameters().degree;
  if (secret.size() != degree) return InvalidArgument("the secret is of another degree");
  TransformedKey key(ring, secret.Reveal());
  Plaintext plaintext(ring, encoding);
  Bytes packed(encoding.ciphertext_bytes());
  ResidueWriter writer(packed);
  uint64_t over = 0;
  const uint64_t coefficients = encoding.coefficients();
  for (uint32_t polynomial = 0; polynomial < encoding.polynomials(); ++polynomial) {
    const uint64_t first = polynomial * degree;
    const size_t used = std::min(degree, coefficients - first);
    plaintext.SetError(*error_streams(polynomial));
    std::visit(
        [&](const auto& words) { plaintext.AddMessage(std::span(words), first, used, &over); },
        values);
    for (uint32_t limb = 0; limb < ring.parameters().limbs; ++limb) {
      const std::unique_ptr<Rng> stream = public_streams(polynomial, limb);
      writer.Put(key.Encrypt(limb, plaintext, *stream).first(used));
    }
  }
  writer.Finish();
  if (over >> 63U != 0) return InvalidArgument("a value lies outside the encoding's bound");
  return packed;
}

}  // namespace chorus::math
