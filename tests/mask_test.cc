// Masks on vectors: every path of the kernel against ExpandAesCtr, and the threads that share the
// work. A path that this processor lacks is skipped, and its test says so.
#include "crypto/mask.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "aggregation/secagg.h"
#include "base/hex.h"
#include "base/parallel.h"
#include "crypto/crypto.h"
#include "crypto/mask_kernels.h"
#include "matchers.h"

namespace chorus::crypto {
namespace {

constexpr size_t kTileBytes = size_t{64} << 10U;

Bytes Key(uint64_t index) {
  Bytes key(kKeyBytes);
  NewSeededRng(Bytes(kKeyBytes, 7))->Fill(key);
  for (size_t i = 0; i < 8; ++i) key[i] = static_cast<uint8_t>(index >> (8 * i));
  return key;
}

template <typename Word>
std::vector<Word> RandomWords(size_t size, uint64_t seed) {
  Bytes bytes(size * sizeof(Word));
  NewSeededRng(Key(~seed))->Fill(bytes);
  std::vector<Word> words(size);
  if (size > 0) std::memcpy(words.data(), bytes.data(), bytes.size());
  return words;
}

// What the specification says, a word at a time.
template <typename Word>
void ApplySlowly(std::vector<Word>& words, uint64_t first_word,
                 std::span<const MaskStream> streams) {
  constexpr uint64_t kWordsOfBlock = 16 / sizeof(Word);
  const uint64_t before = first_word % kWordsOfBlock;
  Bytes stream((before + words.size()) * sizeof(Word));
  for (const MaskStream& mask : streams) {
    ExpandAesCtr(mask.key, first_word / kWordsOfBlock, stream);
    for (size_t i = 0; i < words.size(); ++i) {
      Word word = 0;
      for (size_t j = 0; j < sizeof(Word); ++j) {
        const Word byte = stream[(before + i) * sizeof(Word) + j];
        word = static_cast<Word>(word | static_cast<Word>(byte << (8 * j)));
      }
      words[i] = static_cast<Word>(mask.sign == MaskSign::kAdd ? words[i] + word : words[i] - word);
    }
  }
}

// One path on one word size.
class MaskPaths : public testing::TestWithParam<std::tuple<MaskPath, size_t>> {
 protected:
  void SetUp() override {
    if (!HasMaskPath(path())) GTEST_SKIP() << "not on this processor";
  }
  static MaskPath path() { return std::get<0>(GetParam()); }

  // Calls `body` with a word of the size.
  template <typename Body>
  static void WithWord(const Body& body) {
    switch (std::get<1>(GetParam())) {
      case 2:
        return body(uint16_t{0});
      case 4:
        return body(uint32_t{0});
      default:
        return body(uint64_t{0});
    }
  }

  // Whether the path does what is specified to `size` words from `first_word` on, and nothing to
  // the words around them, which also put the words on every alignment.
  template <typename Word>
  static bool Agrees(size_t size, uint64_t first_word, std::span<const MaskStream> streams) {
    constexpr size_t kAround = 9;
    const std::vector<Word> all = RandomWords<Word>(size + 2 * kAround, size + first_word);
    std::vector<Word> expected(all.begin() + kAround, all.end() - kAround);
    ApplySlowly(expected, first_word, streams);
    std::vector<Word> masked = all;
    ApplyMaskStreams(path(), std::span(masked).subspan(kAround, size), first_word, streams);
    return std::equal(expected.begin(), expected.end(), masked.begin() + kAround) &&
           std::equal(all.begin(), all.begin() + kAround, masked.begin()) &&
           std::equal(all.end() - kAround, all.end(), masked.end() - kAround);
  }
};

TEST_P(MaskPaths, GiveTheStreamOfOpenSslForEveryLength) {
  WithWord([](auto word) {
    using Word = decltype(word);
    const Bytes key = Key(1);
    for (const MaskSign sign : {MaskSign::kAdd, MaskSign::kSubtract}) {
      const MaskStream stream{key, sign};
      for (size_t size = 0; size <= 1'200 / sizeof(Word); ++size) {
        ASSERT_TRUE(Agrees<Word>(size, 0, {&stream, 1})) << size;
      }
    }
  });
}

TEST_P(MaskPaths, BeginAtAnyWord) {
  WithWord([](auto word) {
    using Word = decltype(word);
    const Bytes key = Key(2);
    const MaskStream stream{key, MaskSign::kSubtract};
    for (uint64_t first = 0; first <= 80; ++first) {
      for (const size_t size : {1U, 2U, 3U, 7U, 8U, 31U, 33U, 64U, 257U}) {
        ASSERT_TRUE(Agrees<Word>(size, first, {&stream, 1})) << first << " " << size;
      }
    }
  });
}

TEST_P(MaskPaths, GoOnFromTileToTile) {
  WithWord([](auto word) {
    using Word = decltype(word);
    constexpr size_t kTile = kTileBytes / sizeof(Word);
    const std::vector<Bytes> keys = {Key(3), Key(4)};
    const std::vector<MaskStream> streams = {{keys[0], MaskSign::kAdd},
                                             {keys[1], MaskSign::kSubtract}};
    for (const size_t size : {kTile - 1, kTile, kTile + 1, 2 * kTile, 3 * kTile + 5}) {
      for (const uint64_t first : {0, 1, 5, 1'001}) {
        ASSERT_TRUE(Agrees<Word>(size, first, streams)) << first << " " << size;
      }
    }
  });
}

// Block numbers whose low 16, 24, 32, 48 or 56 bits run over inside a vector, inside a step of the
// loop, and between steps; and the last block that a vector can meet.
TEST_P(MaskPaths, CountBlocksIn64BitsWithEveryCarry) {
  WithWord([](auto word) {
    using Word = decltype(word);
    constexpr uint64_t kWordsOfBlock = 16 / sizeof(Word);
    const Bytes key = Key(5);
    const MaskStream stream{key, MaskSign::kAdd};
    for (const unsigned bit : {8U, 16U, 24U, 32U, 33U, 48U, 56U}) {
      for (uint64_t back = 0; back <= 40; ++back) {
        const uint64_t block = (uint64_t{1} << bit) - back;
        ASSERT_TRUE(Agrees<Word>(50 * kWordsOfBlock, block * kWordsOfBlock + 1, {&stream, 1}))
            << bit << " " << back;
      }
    }
    const size_t size = 200;
    ASSERT_TRUE(Agrees<Word>(size, ~uint64_t{0} - (size - 1), {&stream, 1}));
  });
}

TEST_P(MaskPaths, ApplyEveryStreamOnce) {
  WithWord([](auto word) {
    using Word = decltype(word);
    std::vector<Bytes> keys;
    std::vector<MaskStream> streams;
    for (uint64_t i = 0; i < 131; ++i) keys.push_back(Key(1'000 + i));
    for (size_t i = 0; i < keys.size(); ++i) {
      streams.push_back({keys[i], i % 3 == 0 ? MaskSign::kSubtract : MaskSign::kAdd});
    }
    for (const size_t count : {0U, 1U, 2U, 63U, 64U, 65U, 128U, 129U, 131U}) {
      ASSERT_TRUE(Agrees<Word>(700, 3, std::span(streams).first(count))) << count;
    }
  });
}

TEST_P(MaskPaths, LeaveNothingOfAMaskThatIsAddedAndTaken) {
  WithWord([](auto word) {
    using Word = decltype(word);
    const Bytes key = Key(6);
    const std::vector<MaskStream> both = {{key, MaskSign::kAdd}, {key, MaskSign::kSubtract}};
    const std::vector<Word> words = RandomWords<Word>(70'000, 6);
    std::vector<Word> masked = words;
    ApplyMaskStreams(path(), std::span(masked), 11, both);
    EXPECT_TRUE(masked == words);
    ApplyMaskStreams(path(), std::span(masked), 11, std::span(both).first(1));
    EXPECT_FALSE(masked == words);
  });
}

std::string PathAndWord(const testing::TestParamInfo<MaskPaths::ParamType>& info) {
  const std::vector<std::string> names = {"Evp", "Vaes256", "Vaes512"};
  return names[static_cast<size_t>(std::get<0>(info.param))] + "Word" +
         std::to_string(std::get<1>(info.param));
}
INSTANTIATE_TEST_SUITE_P(All, MaskPaths,
                         testing::Combine(testing::Values(MaskPath::kEvp, MaskPath::kVaes256,
                                                          MaskPath::kVaes512),
                                          testing::Values(size_t{2}, size_t{4}, size_t{8})),
                         PathAndWord);

// [FIPS 197, A.3]
TEST(MaskKernel, ExpandsThePublishedKey) {
  const Bytes key = *FromHex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
  for (const MaskPath path : {MaskPath::kVaes256, MaskPath::kVaes512}) {
    const MaskKernel* kernel = MaskKernelFor(path);
    if (kernel == nullptr) continue;
    AesSchedule schedule;
    kernel->expand(key.data(), schedule);
    const auto round_key = [&schedule](size_t round) { return ToHex(schedule.round_keys[round]); };
    EXPECT_EQ(round_key(0), "603deb1015ca71be2b73aef0857d7781");
    EXPECT_EQ(round_key(1), "1f352c073b6108d72d9810a30914dff4");
    EXPECT_EQ(round_key(2), "9ba354118e6925afa51a8b5f2067fcde");
    EXPECT_EQ(round_key(3), "a8b09c1a93d194cdbe49846eb75d5b9a");
    EXPECT_EQ(round_key(14), "fe4890d1e6188d0b046df344706c631e");
  }
}

TEST(MaskKernel, IsThereForThePathsThatTheProcessorHas) {
  EXPECT_TRUE(HasMaskPath(MaskPath::kEvp));
  EXPECT_TRUE(HasMaskPath(FastestMaskPath()));
  EXPECT_EQ(MaskKernelFor(MaskPath::kEvp), nullptr);
  EXPECT_EQ(HasMaskPath(MaskPath::kVaes512), FastestMaskPath() == MaskPath::kVaes512);
}

TEST(MaskKernelDeathTest, RefusesAKeyOfTheWrongSize) {
  std::vector<uint32_t> words(4);
  const Bytes key(16);
  const MaskStream stream{key, MaskSign::kAdd};
  EXPECT_DEATH(ApplyMaskStreams(MaskPath::kEvp, std::span(words), 0, {&stream, 1}), "");
}

}  // namespace
}  // namespace chorus::crypto

namespace chorus {
namespace {

void ExpectEachPieceOnce(Executor& executor, size_t count) {
  std::vector<int> calls(count, 0);
  executor.ParallelFor(count, [&calls](size_t i) { ++calls[i]; });
  EXPECT_EQ(std::count(calls.begin(), calls.end(), 1), static_cast<ptrdiff_t>(count));
}

TEST(Executor, DoesEachPieceOnce) {
  InlineExecutor inline_executor;
  for (const size_t count : {0U, 1U, 7U, 1'000U}) ExpectEachPieceOnce(inline_executor, count);
  for (const size_t threads : {0U, 1U, 2U, 5U}) {
    ThreadPool pool(threads);
    for (int call = 0; call < 300; ++call) {
      for (const size_t count : {0U, 1U, 2U, 50U}) ExpectEachPieceOnce(pool, count);
    }
  }
}

// Two pieces that wait for each other end only when two threads are at work.
TEST(ThreadPool, WorksOnSeveralPiecesAtOnce) {
  ThreadPool pool(2);
  std::mutex mutex;
  std::condition_variable arrived;
  int present = 0;
  bool met = true;
  pool.ParallelFor(2, [&](size_t) {
    std::unique_lock lock(mutex);
    ++present;
    arrived.notify_all();
    met = arrived.wait_for(lock, std::chrono::seconds(60), [&] { return present == 2; }) && met;
  });
  EXPECT_TRUE(met);
}

TEST(ThreadPool, ReturnsOnlyWhenEveryPieceHas) {
  ThreadPool pool(2);
  const std::thread::id caller = std::this_thread::get_id();
  std::mutex mutex;
  std::condition_variable arrived;
  int present = 0;
  std::atomic<int> done{0};
  pool.ParallelFor(2, [&](size_t) {
    {
      std::unique_lock lock(mutex);
      ++present;
      arrived.notify_all();
      arrived.wait_for(lock, std::chrono::seconds(60), [&] { return present == 2; });
    }
    // The pool's own thread is the late one.
    if (std::this_thread::get_id() != caller) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    ++done;
  });
  EXPECT_EQ(done.load(), 2);
}

}  // namespace
}  // namespace chorus

namespace chorus::aggregation {
namespace {

TEST(ApplyMasks, GivesTheSameOnManyThreads) {
  std::vector<Mask> masks;
  for (uint64_t i = 0; i < 3; ++i) {
    masks.push_back(
        {SecretBytes(crypto::Key(i)), i == 1 ? math::Sign::kSubtract : math::Sign::kAdd});
  }
  ThreadPool pool(4);
  for (const int bits : {12, 26, 40}) {
    for (const uint64_t dim : {0, 1, 65'536, 300'001}) {
      RingVector once = math::ZeroVector(dim, bits);
      ApplyMasks(crypto::FastestMaskPath(), once, masks);
      RingVector shared = math::ZeroVector(dim, bits);
      ApplyMasks(crypto::FastestMaskPath(), shared, masks, pool);
      EXPECT_TRUE(once == shared) << bits << " " << dim;
      EXPECT_EQ(once == math::ZeroVector(dim, bits), dim == 0) << bits << " " << dim;
    }
  }
}

TEST(ApplyMasks, TakesWhatWasAddedWithTheOtherSign) {
  RingVector vector = math::ZeroVector(1'000, 26);
  for (uint64_t i = 0; i < 1'000; ++i) math::SetSigned(vector, i, static_cast<int64_t>(i) - 500);
  const RingVector before = vector;
  std::vector<Mask> masks;
  masks.push_back({SecretBytes(crypto::Key(9)), math::Sign::kAdd});
  ApplyMasks(crypto::FastestMaskPath(), vector, masks);
  EXPECT_FALSE(vector == before);
  masks[0].sign = math::Sign::kSubtract;
  ApplyMasks(crypto::FastestMaskPath(), vector, masks);
  EXPECT_TRUE(vector == before);
}

}  // namespace
}  // namespace chorus::aggregation
