// SHA-256's compression with the processor's own instructions, for several messages in turn
// [FIPS 180-4, 6.2.2; Intel, "Intel SHA Extensions", 2013]. Functions name the instructions that
// they use, so that a portable build has them and takes none that the processor lacks.
#include "crypto/sha256_lanes.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace chorus::crypto {
namespace {

#if defined(__x86_64__)

#define CHORUS_SHA __attribute__((target("sha,sse4.1,ssse3")))

// [FIPS 180-4, 4.2.2]
alignas(16) constexpr std::array<uint32_t, 64> kRoundConstants = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

// Messages lie in many places, most of them in the cache of the core that received them. The
// processor fetches ahead within a page only.
constexpr size_t kFetchAheadBytes = 1'024;

constexpr int kQuads = 16;  // of rounds: the instructions do two each, from four words

// The chaining value as the instructions want it: words A, B, E, F and C, D, G, H from the top.
struct Halves {
  __m128i abef;
  __m128i cdgh;
};

CHORUS_SHA inline Halves Load(const uint32_t* state) {
  const __m128i dcba = _mm_loadu_si128(reinterpret_cast<const __m128i*>(state));
  const __m128i hgfe = _mm_loadu_si128(reinterpret_cast<const __m128i*>(state + 4));
  const __m128i cdab = _mm_shuffle_epi32(dcba, 0xB1);
  const __m128i efgh = _mm_shuffle_epi32(hgfe, 0x1B);
  return {_mm_alignr_epi8(cdab, efgh, 8), _mm_blend_epi16(efgh, cdab, 0xF0)};
}

CHORUS_SHA inline void Store(const Halves& halves, uint32_t* state) {
  const __m128i feba = _mm_shuffle_epi32(halves.abef, 0x1B);
  const __m128i dchg = _mm_shuffle_epi32(halves.cdgh, 0xB1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state), _mm_blend_epi16(feba, dchg, 0xF0));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

// Rounds 4 * quad to 4 * quad + 3. `words` are the last sixteen of the message schedule: those of
// this quad in place quad % 4, and there is made ready what later ones need.
CHORUS_SHA inline void FourRounds(int quad, Halves& halves, __m128i (&words)[4]) {
  __m128i& now = words[quad % 4];
  __m128i& next = words[(quad + 1) % 4];
  __m128i& before = words[(quad + 3) % 4];
  const __m128i sum = _mm_add_epi32(
      now, _mm_load_si128(reinterpret_cast<const __m128i*>(&kRoundConstants[4 * quad])));
  halves.cdgh = _mm_sha256rnds2_epu32(halves.cdgh, halves.abef, sum);
  if (quad >= 3 && quad < kQuads - 1) {
    next = _mm_sha256msg2_epu32(_mm_add_epi32(next, _mm_alignr_epi8(now, before, 4)), now);
  }
  halves.abef = _mm_sha256rnds2_epu32(halves.abef, halves.cdgh, _mm_shuffle_epi32(sum, 0x0E));
  if (quad >= 1 && quad < kQuads - 3) before = _mm_sha256msg1_epu32(before, now);
}

template <size_t kLanes>
CHORUS_SHA void Compress(std::array<Sha256Lane, kSha256LanesMax>& of, size_t count) {
  const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  Halves states[kLanes];
  for (size_t lane = 0; lane < kLanes; ++lane) states[lane] = Load(of[lane].state);
  for (; count > 0; --count) {
    Halves halves[kLanes];
    __m128i words[kLanes][4];
    for (size_t lane = 0; lane < kLanes; ++lane) {
      halves[lane] = states[lane];
      _mm_prefetch(of[lane].blocks + kFetchAheadBytes, _MM_HINT_T0);  // faults nowhere
    }
#pragma GCC unroll 16
    for (int quad = 0; quad < kQuads; ++quad) {
#pragma GCC unroll 3
      for (size_t lane = 0; lane < kLanes; ++lane) {
        if (quad < 4) {
          const auto* block = reinterpret_cast<const __m128i*>(of[lane].blocks) + quad;
          words[lane][quad] = _mm_shuffle_epi8(_mm_loadu_si128(block), big_endian);
        }
        FourRounds(quad, halves[lane], words[lane]);
      }
    }
    for (size_t lane = 0; lane < kLanes; ++lane) {
      states[lane].abef = _mm_add_epi32(states[lane].abef, halves[lane].abef);
      states[lane].cdgh = _mm_add_epi32(states[lane].cdgh, halves[lane].cdgh);
      of[lane].blocks += kSha256BlockBytes;
    }
  }
  for (size_t lane = 0; lane < kLanes; ++lane) Store(states[lane], of[lane].state);
}

void CompressLanes(std::array<Sha256Lane, kSha256LanesMax>& of, size_t lanes, size_t count) {
  if (lanes == 1) return Compress<1>(of, count);
  if (lanes == 2) return Compress<2>(of, count);
  Compress<3>(of, count);
}

// Leaf 7 tells of the instructions, which work on the registers that every system saves.
bool ProcessorHasSha() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  constexpr unsigned kSha = 1U << 29U;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (ebx & kSha) != 0 &&
         __builtin_cpu_supports("ssse3") != 0 && __builtin_cpu_supports("sse4.1") != 0;
}

#endif

}  // namespace

Sha256Compress Sha256CompressSideBySide() {
#if defined(__x86_64__)
  static const bool has = ProcessorHasSha();
  if (has) return CompressLanes;
#endif
  return nullptr;
}

}  // namespace chorus::crypto
