// AES-256-CTR with VAES, fused with the addition to the words [FIPS 197; NIST SP 800-38A, 6.5].
// Each function names the instructions it uses, so that a portable build has them all and takes
// none that the processor lacks. Registers are not wiped: they hold round keys until the next
// vector code, as they do after any AES in hardware.
#include "crypto/mask_kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

#include <array>

namespace chorus::crypto {
namespace {

#if defined(__x86_64__)

#define CHORUS_AES __attribute__((target("sse2,aes")))
#define CHORUS_AVX2 __attribute__((target("avx2")))
#define CHORUS_VAES256 __attribute__((target("avx2,aes,vaes")))
#define CHORUS_VAES512 __attribute__((target("avx512f,avx512bw,avx512vl,aes,vaes")))

constexpr size_t kRounds = 14;
constexpr size_t kLanes = 8;  // vectors under way at once, which hides the latency of a round

// --- the key schedule ------------------------------------------------------------------------

// The next round key from the one two before and from what AESKEYGENASSIST made of the last.
CHORUS_AES inline __m128i NextRoundKey(__m128i before, __m128i assisted) {
  before = _mm_xor_si128(before, _mm_slli_si128(before, 4));
  before = _mm_xor_si128(before, _mm_slli_si128(before, 8));
  return _mm_xor_si128(before, assisted);
}

// Rounds kRound and kRound + 1, kRound even. AES-256 takes the rotated word with the round constant
// for the even ones and the word as it is for the odd.
template <int kRound>
CHORUS_AES inline void ExpandPair(__m128i* keys) {
  constexpr int kRoundConstant = 1 << (kRound / 2 - 1);
  const __m128i even = _mm_aeskeygenassist_si128(keys[kRound - 1], kRoundConstant);
  keys[kRound] = NextRoundKey(keys[kRound - 2], _mm_shuffle_epi32(even, 0xff));
  if constexpr (kRound < static_cast<int>(kRounds)) {
    const __m128i odd = _mm_aeskeygenassist_si128(keys[kRound], 0);
    keys[kRound + 1] = NextRoundKey(keys[kRound - 1], _mm_shuffle_epi32(odd, 0xaa));
  }
}

CHORUS_AES void Expand(const uint8_t* key, AesSchedule& schedule) {
  auto* keys = reinterpret_cast<__m128i*>(&schedule.round_keys[0][0]);
  keys[0] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(key));
  keys[1] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(key + 16));
  ExpandPair<2>(keys);
  ExpandPair<4>(keys);
  ExpandPair<6>(keys);
  ExpandPair<8>(keys);
  ExpandPair<10>(keys);
  ExpandPair<12>(keys);
  ExpandPair<14>(keys);
}

// --- 256 bits --------------------------------------------------------------------------------

template <MaskOp kOp>
CHORUS_AVX2 inline void Combine256(uint8_t* words, __m256i stream) {
  auto* place = reinterpret_cast<__m256i*>(words);
  __m256i result = stream;
  if constexpr (kOp != MaskOp::kReplace) {
    const __m256i word = _mm256_loadu_si256(place);
    if constexpr (kOp == MaskOp::kAdd16) result = _mm256_add_epi16(word, stream);
    if constexpr (kOp == MaskOp::kAdd32) result = _mm256_add_epi32(word, stream);
    if constexpr (kOp == MaskOp::kAdd64) result = _mm256_add_epi64(word, stream);
    if constexpr (kOp == MaskOp::kSubtract16) result = _mm256_sub_epi16(word, stream);
    if constexpr (kOp == MaskOp::kSubtract32) result = _mm256_sub_epi32(word, stream);
    if constexpr (kOp == MaskOp::kSubtract64) result = _mm256_sub_epi64(word, stream);
  }
  _mm256_storeu_si256(place, result);
}

// Counters are kept with their low half little-endian in the low half of each lane, where they can
// be added to: block numbers stay below 2^64. AES sees them as 128 bits big-endian.
CHORUS_AVX2 inline __m256i CounterBytes256(__m256i counter) {
  const __m256i order = _mm256_broadcastsi128_si256(
      _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  return _mm256_shuffle_epi8(counter, order);
}

CHORUS_AVX2 inline __m256i RoundKey256(const AesSchedule& schedule, size_t round) {
  return _mm256_broadcastsi128_si256(
      _mm_load_si128(reinterpret_cast<const __m128i*>(schedule.round_keys[round])));
}

// `kWide` vectors of 32 bytes. All lanes take a round before any takes the next.
template <MaskOp kOp, size_t kWide>
CHORUS_VAES256 inline void Step256(const AesSchedule& schedule, __m256i& counter, uint8_t* words) {
  const __m256i two = _mm256_set_epi64x(0, 2, 0, 2);
  __m256i state[kWide];
  const __m256i whitening = RoundKey256(schedule, 0);
  for (size_t i = 0; i < kWide; ++i) {
    state[i] = _mm256_xor_si256(CounterBytes256(counter), whitening);
    counter = _mm256_add_epi64(counter, two);
  }
  for (size_t round = 1; round < kRounds; ++round) {
    const __m256i key = RoundKey256(schedule, round);
    for (size_t i = 0; i < kWide; ++i) state[i] = _mm256_aesenc_epi128(state[i], key);
  }
  const __m256i last = RoundKey256(schedule, kRounds);
  for (size_t i = 0; i < kWide; ++i) {
    Combine256<kOp>(words + 32 * i, _mm256_aesenclast_epi128(state[i], last));
  }
}

template <MaskOp kOp>
CHORUS_VAES256 void Apply256(const AesSchedule& schedule, uint64_t first_block, uint8_t* words,
                             size_t lines) {
  const auto first = static_cast<long long>(first_block);
  __m256i counter =
      _mm256_add_epi64(_mm256_set_epi64x(0, first, 0, first), _mm256_set_epi64x(0, 1, 0, 0));
  constexpr size_t kStepLines = kLanes * 32 / kMaskLineBytes;
  for (; lines >= kStepLines; lines -= kStepLines, words += kStepLines * kMaskLineBytes) {
    Step256<kOp, kLanes>(schedule, counter, words);
  }
  for (; lines > 0; --lines, words += kMaskLineBytes) Step256<kOp, 2>(schedule, counter, words);
}

template <MaskOp kOp>
CHORUS_AVX2 void CombineStream256(uint8_t* words, const uint8_t* stream, size_t size) {
  for (size_t i = 0; i + 32 <= size; i += 32) {
    Combine256<kOp>(words + i, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(stream + i)));
  }
}

// --- 512 bits --------------------------------------------------------------------------------

// The zeroing form with nothing to zero: GCC 12 warns of its own header in the plain one.
CHORUS_VAES512 inline __m512i Broadcast512(__m128i block) {
  return _mm512_maskz_broadcast_i32x4(0xffff, block);
}

template <MaskOp kOp>
CHORUS_VAES512 inline void Combine512(uint8_t* words, __m512i stream) {
  __m512i result = stream;
  if constexpr (kOp != MaskOp::kReplace) {
    const __m512i word = _mm512_loadu_si512(words);
    if constexpr (kOp == MaskOp::kAdd16) result = _mm512_add_epi16(word, stream);
    if constexpr (kOp == MaskOp::kAdd32) result = _mm512_add_epi32(word, stream);
    if constexpr (kOp == MaskOp::kAdd64) result = _mm512_add_epi64(word, stream);
    if constexpr (kOp == MaskOp::kSubtract16) result = _mm512_sub_epi16(word, stream);
    if constexpr (kOp == MaskOp::kSubtract32) result = _mm512_sub_epi32(word, stream);
    if constexpr (kOp == MaskOp::kSubtract64) result = _mm512_sub_epi64(word, stream);
  }
  _mm512_storeu_si512(words, result);
}

// `kWide` vectors of 64 bytes, with the round keys in registers.
template <MaskOp kOp, size_t kWide>
CHORUS_VAES512 inline void Step512(const __m512i (&keys)[kRounds + 1], __m512i& counter,
                                   uint8_t* words) {
  const __m512i order =
      Broadcast512(_mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  const __m512i four = _mm512_set_epi64(0, 4, 0, 4, 0, 4, 0, 4);
  __m512i state[kWide];
  for (size_t i = 0; i < kWide; ++i) {
    state[i] = _mm512_xor_si512(_mm512_shuffle_epi8(counter, order), keys[0]);
    counter = _mm512_add_epi64(counter, four);
  }
  for (size_t round = 1; round < kRounds; ++round) {
    for (size_t i = 0; i < kWide; ++i) state[i] = _mm512_aesenc_epi128(state[i], keys[round]);
  }
  for (size_t i = 0; i < kWide; ++i) {
    Combine512<kOp>(words + 64 * i, _mm512_aesenclast_epi128(state[i], keys[kRounds]));
  }
}

template <MaskOp kOp>
CHORUS_VAES512 void Apply512(const AesSchedule& schedule, uint64_t first_block, uint8_t* words,
                             size_t lines) {
  __m512i keys[kRounds + 1];
  for (size_t round = 0; round <= kRounds; ++round) {
    keys[round] =
        Broadcast512(_mm_load_si128(reinterpret_cast<const __m128i*>(schedule.round_keys[round])));
  }
  const auto first = static_cast<long long>(first_block);
  __m512i counter = _mm512_add_epi64(_mm512_set_epi64(0, first, 0, first, 0, first, 0, first),
                                     _mm512_set_epi64(0, 3, 0, 2, 0, 1, 0, 0));
  for (; lines >= kLanes; lines -= kLanes, words += kLanes * kMaskLineBytes) {
    Step512<kOp, kLanes>(keys, counter, words);
  }
  for (; lines > 0; --lines, words += kMaskLineBytes) Step512<kOp, 1>(keys, counter, words);
}

// --- the tables ------------------------------------------------------------------------------

using Apply = void (*)(const AesSchedule&, uint64_t, uint8_t*, size_t);
using Combine = void (*)(uint8_t*, const uint8_t*, size_t);

// In the order of MaskOp.
constexpr std::array<Apply, 7> kApply256 = {
    &Apply256<MaskOp::kReplace>,    &Apply256<MaskOp::kAdd16>,      &Apply256<MaskOp::kAdd32>,
    &Apply256<MaskOp::kAdd64>,      &Apply256<MaskOp::kSubtract16>, &Apply256<MaskOp::kSubtract32>,
    &Apply256<MaskOp::kSubtract64>,
};
constexpr std::array<Apply, 7> kApply512 = {
    &Apply512<MaskOp::kReplace>,    &Apply512<MaskOp::kAdd16>,      &Apply512<MaskOp::kAdd32>,
    &Apply512<MaskOp::kAdd64>,      &Apply512<MaskOp::kSubtract16>, &Apply512<MaskOp::kSubtract32>,
    &Apply512<MaskOp::kSubtract64>,
};
constexpr std::array<Combine, 7> kCombine256 = {
    &CombineStream256<MaskOp::kReplace>,    &CombineStream256<MaskOp::kAdd16>,
    &CombineStream256<MaskOp::kAdd32>,      &CombineStream256<MaskOp::kAdd64>,
    &CombineStream256<MaskOp::kSubtract16>, &CombineStream256<MaskOp::kSubtract32>,
    &CombineStream256<MaskOp::kSubtract64>,
};

constexpr MaskKernel kKernel256 = {
    .expand = &Expand,
    .apply =
        [](const AesSchedule& schedule, uint64_t first_block, uint8_t* words, size_t lines,
           MaskOp op) { kApply256[static_cast<size_t>(op)](schedule, first_block, words, lines); },
};
constexpr MaskKernel kKernel512 = {
    .expand = &Expand,
    .apply =
        [](const AesSchedule& schedule, uint64_t first_block, uint8_t* words, size_t lines,
           MaskOp op) { kApply512[static_cast<size_t>(op)](schedule, first_block, words, lines); },
};

// Read from the processor itself: Clang 14 does not know the name "vaes". The registers that its
// wide forms need are what __builtin_cpu_supports answers for, the system's consent included.
bool HasVaes() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  constexpr unsigned kVaesBit = 1U << 9U;  // of leaf 7's ECX
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (ecx & kVaesBit) != 0;
}

struct Features {
  bool avx2 = __builtin_cpu_supports("avx2") != 0;
  bool vaes256 = avx2 && __builtin_cpu_supports("aes") != 0 && HasVaes();
  bool vaes512 = vaes256 && __builtin_cpu_supports("avx512f") != 0 &&
                 __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512vl") != 0;
};

const Features& Processor() {
  static const Features features;
  return features;
}

}  // namespace

const MaskKernel* MaskKernelFor(MaskPath path) {
  if (path == MaskPath::kVaes512 && Processor().vaes512) return &kKernel512;
  if (path == MaskPath::kVaes256 && Processor().vaes256) return &kKernel256;
  return nullptr;
}

size_t CombineStreamWide(uint8_t* words, const uint8_t* stream, size_t size, MaskOp op) {
  if (!Processor().avx2) return 0;
  const size_t whole = size / 32 * 32;
  kCombine256[static_cast<size_t>(op)](words, stream, whole);
  return whole;
}

#else

}  // namespace

const MaskKernel* MaskKernelFor(MaskPath) { return nullptr; }

size_t CombineStreamWide(uint8_t*, const uint8_t*, size_t, MaskOp) { return 0; }

#endif

}  // namespace chorus::crypto
