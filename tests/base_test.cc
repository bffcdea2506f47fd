// Layer 0: status, bytes, codec, hex, chance, clock and log.
#include <array>
#include <cstdlib>
#include <ctime>
#include <limits>
#include <new>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/codec.h"
#include "base/ensure.h"
#include "base/hex.h"
#include "base/log.h"
#include "base/random.h"
#include "chorus/bytes.h"
#include "chorus/status.h"
#include "crypto/crypto.h"
#include "matchers.h"

namespace {

// A heap block under watch: whether it held only zeros when it was freed.
struct Watch {
  const void* block = nullptr;
  size_t size = 0;
  int frees = 0;
  int wiped = 0;
} g_watch;

}  // namespace

// Replaced for this binary, so that a test can look at a block at the moment it is freed; after
// that nobody may. Not inlined, for the compiler would take malloc and delete for a mistaken pair.
[[gnu::noinline]] void* operator new(size_t size) {
  if (void* block = std::malloc(size == 0 ? 1 : size)) return block;
  std::abort();
}

[[gnu::noinline]] void operator delete(void* block) noexcept {
  if (block != nullptr && block == g_watch.block) {
    const volatile uint8_t* bytes = static_cast<const uint8_t*>(block);
    bool zeros = true;
    for (size_t i = 0; i < g_watch.size; ++i) zeros = zeros && bytes[i] == 0;
    ++g_watch.frees;
    g_watch.wiped += zeros ? 1 : 0;
    g_watch.block = nullptr;
  }
  std::free(block);
}

[[gnu::noinline]] void operator delete(void* block, size_t) noexcept { operator delete(block); }

namespace chorus {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

SecretBytes WatchedSecret() {
  SecretBytes secret(Bytes(48, 0xA5));
  g_watch = {.block = secret.Reveal().data(), .size = secret.size()};
  return secret;
}

// Yields the numbers it was given, little-endian as UniformBelow reads them.
class ScriptedRng final : public Rng {
 public:
  explicit ScriptedRng(std::vector<uint64_t> script) : script_(std::move(script)) {}
  void Fill(std::span<uint8_t> out) override {
    ASSERT_EQ(out.size(), 8U);
    ASSERT_LT(used_, script_.size());
    for (size_t i = 0; i < 8; ++i) out[i] = static_cast<uint8_t>(script_[used_] >> (8 * i));
    ++used_;
  }
  size_t used() const { return used_; }

 private:
  std::vector<uint64_t> script_;
  size_t used_ = 0;
};

class RecordingSink final : public LogSink {
 public:
  struct Line {
    LogLevel level;
    std::string message;
    std::vector<LogField> fields;
  };
  void Write(LogLevel level, std::string_view message, std::span<const LogField> fields) override {
    lines.push_back({level, std::string(message), {fields.begin(), fields.end()}});
  }
  std::vector<Line> lines;
};

std::unique_ptr<Rng> Seeded(uint8_t seed) { return crypto::NewSeededRng(Bytes(32, seed)); }

// --- status
// ---------------------------------------------------------------------------------------

TEST(Status, IsOkByDefaultAndSaysSo) {
  EXPECT_THAT(OkStatus(), IsOk());
  EXPECT_EQ(Status().ToString(), "OK");
}

TEST(Status, ShowsItsCodeInGrpcSpellingAndItsMessage) {
  EXPECT_EQ(Aborted("the round ended").ToString(), "ABORTED: the round ended");
}

TEST(Status, NamesEveryCodeOfGrpcByItsNumber) {
  const std::vector<std::string> names = {"OK",
                                          "CANCELLED",
                                          "UNKNOWN",
                                          "INVALID_ARGUMENT",
                                          "DEADLINE_EXCEEDED",
                                          "NOT_FOUND",
                                          "ALREADY_EXISTS",
                                          "PERMISSION_DENIED",
                                          "RESOURCE_EXHAUSTED",
                                          "FAILED_PRECONDITION",
                                          "ABORTED",
                                          "OUT_OF_RANGE",
                                          "UNIMPLEMENTED",
                                          "INTERNAL",
                                          "UNAVAILABLE",
                                          "DATA_LOSS",
                                          "UNAUTHENTICATED"};
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(CodeName(static_cast<Code>(i)), names[i]);
  }
  EXPECT_STREQ(CodeName(static_cast<Code>(99)), "UNKNOWN");
}

TEST(Status, MakersSetTheirCode) {
  EXPECT_THAT(InvalidArgument("x"), HasCodeAndText(Code::kInvalidArgument, "x"));
  EXPECT_THAT(NotFound("x"), HasCode(Code::kNotFound));
  EXPECT_THAT(AlreadyExists("x"), HasCode(Code::kAlreadyExists));
  EXPECT_THAT(PermissionDenied("x"), HasCode(Code::kPermissionDenied));
  EXPECT_THAT(ResourceExhausted("x"), HasCode(Code::kResourceExhausted));
  EXPECT_THAT(FailedPrecondition("x"), HasCode(Code::kFailedPrecondition));
  EXPECT_THAT(Aborted("x"), HasCode(Code::kAborted));
  EXPECT_THAT(Internal("x"), HasCode(Code::kInternal));
  EXPECT_THAT(Unavailable("x"), HasCode(Code::kUnavailable));
  EXPECT_THAT(DataLoss("x"), HasCode(Code::kDataLoss));
  EXPECT_THAT(Unauthenticated("x"), HasCode(Code::kUnauthenticated));
  EXPECT_THAT(Cancelled("x"), HasCode(Code::kCancelled));
}

TEST(Result, HoldsAValueOrTheReasonWhyNot) {
  const Result<int> value = 7;
  EXPECT_THAT(value, HoldsValue(7));
  EXPECT_THAT(value.status(), IsOk());
  const Result<int> failure = NotFound("no such thing");
  EXPECT_FALSE(failure.ok());
  EXPECT_THAT(failure, HasCodeAndText(Code::kNotFound, "no such thing"));
}

TEST(Result, MadeFromAnOkStatusIsAnInternalError) {
  EXPECT_THAT(Result<int>(OkStatus()), HasCode(Code::kInternal));
}

TEST(Result, GivesAwayAValueThatOnlyMoves) {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(5);
  const std::unique_ptr<int> taken = *std::move(result);
  EXPECT_EQ(*taken, 5);
}

TEST(ResultDeathTest, AbortsWhenAFailureIsReadAsAValue) {
  const Result<int> failure = Aborted("ended");
  EXPECT_DEATH((void)*failure, "");
}

Status TryBoth(const Status& status, const Result<int>& result, int* reached) {
  CHORUS_TRY(status);
  *reached = 1;
  CHORUS_TRY(result);
  *reached = 2;
  return OkStatus();
}

Result<int> TryTwice(Result<int> first, Result<int> second) {
  CHORUS_TRY_ASSIGN(const int a, std::move(first));
  CHORUS_TRY_ASSIGN(const int b, std::move(second));
  return 10 * a + b;
}

TEST(Try, LeavesAtTheFirstFailureWithItsStatus) {
  int reached = 0;
  EXPECT_THAT(TryBoth(Aborted("a"), 1, &reached), HasCodeAndText(Code::kAborted, "a"));
  EXPECT_EQ(reached, 0);
  EXPECT_THAT(TryBoth(OkStatus(), NotFound("b"), &reached), HasCode(Code::kNotFound));
  EXPECT_EQ(reached, 1);
  EXPECT_THAT(TryBoth(OkStatus(), 1, &reached), IsOk());
  EXPECT_EQ(reached, 2);
}

TEST(Try, AssignsValuesAndLeavesAtTheFirstFailure) {
  EXPECT_THAT(TryTwice(4, 2), HoldsValue(42));
  EXPECT_THAT(TryTwice(Aborted("first"), NotFound("second")), HasCode(Code::kAborted));
  EXPECT_THAT(TryTwice(4, NotFound("second")), HasCode(Code::kNotFound));
}

// --- secret bytes
// -----------------------------------------------------------------------------------

TEST(SecretBytes, AreWipedOnDestruction) {
  { const SecretBytes secret = WatchedSecret(); }
  EXPECT_EQ(g_watch.frees, 1);
  EXPECT_EQ(g_watch.wiped, 1);
}

TEST(SecretBytes, AreWipedBeforeMoveAssignmentFreesThem) {
  SecretBytes secret = WatchedSecret();
  secret = SecretBytes(Bytes{1, 2, 3});
  EXPECT_EQ(g_watch.frees, 1);
  EXPECT_EQ(g_watch.wiped, 1);
  EXPECT_THAT(secret.Reveal(), ElementsAre(1, 2, 3));
}

TEST(SecretBytes, SurviveMoveAssignmentToThemselves) {
  SecretBytes secret(Bytes{1, 2, 3});
  SecretBytes& same = secret;
  secret = std::move(same);
  EXPECT_THAT(secret.Reveal(), ElementsAre(1, 2, 3));
}

TEST(SecretBytes, MoveWithoutACopyAndLeaveNothing) {
  Bytes plain = {1, 2, 3};
  const uint8_t* block = plain.data();
  SecretBytes first(std::move(plain));
  EXPECT_TRUE(plain.empty());
  const SecretBytes second(std::move(first));
  EXPECT_TRUE(first.empty());
  EXPECT_EQ(second.Reveal().data(), block);
}

TEST(SecretBytes, CloneIsIndependent) {
  SecretBytes secret(Bytes{1, 2, 3});
  const SecretBytes clone = secret.Clone();
  secret.RevealMutable()[0] = 9;
  EXPECT_THAT(clone.Reveal(), ElementsAre(1, 2, 3));
}

TEST(SecretBytes, CannotBeCopied) {
  EXPECT_FALSE(std::is_copy_constructible_v<SecretBytes>);
  EXPECT_FALSE(std::is_copy_assignable_v<SecretBytes>);
}

TEST(Wipe, TakesAnEmptySpan) { Wipe({}); }

// --- codec
// --------------------------------------------------------------------------------------------

Bytes OneOfEach() {
  Writer writer;
  writer.U8(0x01).U16(0x0203).U32(0x04050607).U64(0x08090A0B0C0D0E0F).U64Little(0x1011121314151617);
  writer.F32(1.0F).Raw(Bytes{0xAA, 0xBB}).Raw(std::string_view("hi"));
  return std::move(writer).Take();
}

void ReadOneOfEach(Reader& reader) {
  (void)reader.U8();
  (void)reader.U16();
  (void)reader.U32();
  (void)reader.U64();
  (void)reader.U64Little();
  (void)reader.F32();
  (void)reader.Raw(2);
  (void)reader.Array<2>();
}

TEST(Codec, WritesBigEndianUnlessTheNameSaysOtherwise) {
  EXPECT_EQ(ToHex(OneOfEach()),
            "01"
            "0203"
            "04050607"
            "08090a0b0c0d0e0f"
            "1716151413121110"
            "3f800000"
            "aabb"
            "6869");
}

TEST(Codec, ReadsWhatWasWritten) {
  const Bytes bytes = OneOfEach();
  Reader reader(bytes);
  EXPECT_EQ(reader.U8(), 0x01);
  EXPECT_EQ(reader.U16(), 0x0203);
  EXPECT_EQ(reader.U32(), 0x04050607U);
  EXPECT_EQ(reader.U64(), 0x08090A0B0C0D0E0FU);
  EXPECT_EQ(reader.U64Little(), 0x1011121314151617U);
  EXPECT_EQ(reader.F32(), 1.0F);
  EXPECT_THAT(reader.Raw(2), ElementsAre(0xAA, 0xBB));
  EXPECT_EQ(reader.left(), 2U);
  EXPECT_THAT(reader.Array<2>(), ElementsAre('h', 'i'));
  EXPECT_THAT(reader.Finish("it"), IsOk());
}

TEST(Codec, ReturnsEveryIntegerOverManySeeds) {
  for (uint8_t seed = 0; seed < 100; ++seed) {
    const std::unique_ptr<Rng> rng = Seeded(seed);
    std::vector<uint64_t> values;
    Writer writer;
    for (int i = 0; i < 20; ++i) {
      const uint64_t v = UniformBelow(*rng, std::numeric_limits<uint64_t>::max());
      values.push_back(v);
      writer.U8(static_cast<uint8_t>(v)).U16(static_cast<uint16_t>(v));
      writer.U32(static_cast<uint32_t>(v)).U64(v).U64Little(v);
    }
    Reader reader(writer.view());
    for (const uint64_t v : values) {
      ASSERT_EQ(reader.U8(), static_cast<uint8_t>(v)) << "seed " << int{seed};
      ASSERT_EQ(reader.U16(), static_cast<uint16_t>(v)) << "seed " << int{seed};
      ASSERT_EQ(reader.U32(), static_cast<uint32_t>(v)) << "seed " << int{seed};
      ASSERT_EQ(reader.U64(), v) << "seed " << int{seed};
      ASSERT_EQ(reader.U64Little(), v) << "seed " << int{seed};
    }
    ASSERT_THAT(reader.Finish("list"), IsOk());
  }
}

TEST(Codec, KeepsEveryBitOfAFloat) {
  for (const float v : {-0.0F, 1e-45F, std::numeric_limits<float>::infinity(), 3.4e38F}) {
    Writer writer;
    writer.F32(v);
    EXPECT_EQ(std::bit_cast<uint32_t>(Reader(writer.view()).F32()), std::bit_cast<uint32_t>(v));
  }
}

TEST(Codec, RefusesEveryTruncation) {
  const Bytes bytes = OneOfEach();
  for (size_t size = 0; size < bytes.size(); ++size) {
    Reader reader(BytesView(bytes).first(size));
    ReadOneOfEach(reader);
    EXPECT_THAT(reader.Finish("a message"),
                HasCodeAndText(Code::kInvalidArgument, "a message is cut short"))
        << size;
  }
}

TEST(Codec, RefusesBytesLeftOver) {
  Bytes bytes = OneOfEach();
  bytes.push_back(0);
  Reader reader(bytes);
  ReadOneOfEach(reader);
  EXPECT_THAT(reader.Finish("a message"),
              HasCodeAndText(Code::kInvalidArgument, "a message has bytes left over"));
}

TEST(Codec, YieldsNothingAfterTheFirstReadPastTheEnd) {
  const Bytes bytes = {1, 2, 3};
  Reader reader(bytes);
  EXPECT_EQ(reader.U32(), 0U);
  EXPECT_TRUE(reader.failed());
  EXPECT_EQ(reader.U8(), 0);  // though three bytes were there
  EXPECT_TRUE(reader.Raw(1).empty());
  EXPECT_THAT(reader.Array<2>(), ElementsAre(0, 0));
  EXPECT_EQ(reader.left(), 0U);
}

TEST(Codec, RefusesALengthBeyondTheEndWithoutOverflow) {
  const Bytes bytes = {1, 2, 3};
  Reader reader(bytes);
  EXPECT_TRUE(reader.Raw(std::numeric_limits<size_t>::max()).empty());
  EXPECT_TRUE(reader.failed());
}

TEST(Codec, TakesACountThatItsEntriesCanFill) {
  Writer writer;
  writer.U32(3).U16(1).U16(2).U16(3);
  Reader reader(writer.view());
  EXPECT_EQ(reader.Count(2), 3U);
  EXPECT_FALSE(reader.failed());
}

TEST(Codec, RefusesALyingCountBeforeAnythingIsAllocated) {
  for (const uint32_t count : {4U, 1'000'000U, 0xFFFF'FFFFU}) {
    Writer writer;
    writer.U32(count).U16(1).U16(2).U16(3);
    Reader reader(writer.view());
    EXPECT_EQ(reader.Count(2), 0U);
    EXPECT_THAT(reader.Finish("list"), HasCode(Code::kInvalidArgument));
  }
}

// --- hex
// ------------------------------------------------------------------------------------------------

TEST(Hex, GoesThereAndBackForEveryByte) {
  Bytes all(256);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint8_t>(i);
  EXPECT_THAT(FromHex(ToHex(all)), HoldsValue(all));
  EXPECT_EQ(ToHex(Bytes{0x00, 0x9F, 0xFF}), "009fff");
  EXPECT_THAT(FromHex("aAfF"), HoldsValue(Bytes{0xAA, 0xFF}));
  EXPECT_THAT(FromHex(""), HoldsValue(Bytes{}));
}

TEST(Hex, RefusesWhatIsNotHex) {
  EXPECT_THAT(FromHex("abc"), HasCodeAndText(Code::kInvalidArgument, "even number"));
  for (const std::string_view text :
       {"0g", "g0", "0x", " 0", "-1", "/0", ":0", "@0", "`0", "\xC3\xA9"}) {
    EXPECT_THAT(FromHex(text), HasCode(Code::kInvalidArgument)) << text;
  }
}

// --- chance
// -----------------------------------------------------------------------------------------------

TEST(UniformBelow, DrawsAgainWhereTheLastPartialRangeWouldBias) {
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  // 2^64 = 3q + 1: exactly one value is too many.
  ScriptedRng three({kMax, kMax - 1});
  EXPECT_EQ(UniformBelow(three, 3), (kMax - 1) % 3);
  EXPECT_EQ(three.used(), 2U);
  // Above half the range nearly every second value is refused.
  const uint64_t bound = (uint64_t{1} << 63U) + 1;
  ScriptedRng half({kMax, bound, bound - 1});
  EXPECT_EQ(UniformBelow(half, bound), bound - 1);
  EXPECT_EQ(half.used(), 3U);
  // A power of two divides the range: nothing is refused.
  ScriptedRng eight({kMax});
  EXPECT_EQ(UniformBelow(eight, 8), 7U);
}

TEST(UniformBelow, StaysBelowEveryBound) {
  const std::unique_ptr<Rng> rng = Seeded(3);
  for (uint64_t bound = 1; bound != 0; bound <<= 1U) {
    for (int i = 0; i < 100; ++i) {
      ASSERT_LT(UniformBelow(*rng, bound), bound);
      ASSERT_LT(UniformBelow(*rng, bound | 1U), bound | 1U);
    }
  }
  EXPECT_EQ(UniformBelow(*rng, 1), 0U);
}

// Chi-square over 7 cells of 70,000 draws; 6 degrees of freedom exceed 38.3 with a chance of 1e-6.
// The seed is fixed, so the outcome is too.
TEST(UniformBelow, HitsEveryValueAlike) {
  const std::unique_ptr<Rng> rng = Seeded(4);
  std::array<double, 7> hits{};
  for (int i = 0; i < 70'000; ++i) ++hits[UniformBelow(*rng, hits.size())];
  double chi_square = 0;
  for (const double n : hits) chi_square += (n - 10'000) * (n - 10'000) / 10'000;
  EXPECT_LT(chi_square, 38.3);
}

TEST(UniformUnit, ReachesBothEndsOfItsRangeAndStaysBelowOne) {
  ScriptedRng ends({0, (uint64_t{1} << 53U) - 1});
  EXPECT_EQ(UniformUnit(ends), 0.0);
  EXPECT_EQ(UniformUnit(ends), 1.0 - 0x1p-53);
}

// --- clock and log
// ----------------------------------------------------------------------------------------

TEST(SystemClock, NeverGoesBackAndKnowsTheDate) {
  const std::unique_ptr<Clock> clock = NewSystemClock();
  Time last = clock->Now();
  for (int i = 0; i < 1'000; ++i) {
    const Time now = clock->Now();
    ASSERT_GE(now, last);
    last = now;
  }
  EXPECT_NEAR(static_cast<double>(clock->UnixSeconds()), static_cast<double>(std::time(nullptr)),
              2.0);
}

TEST(Log, PassesNamedNumbersAndWords) {
  RecordingSink sink;
  Log(sink, LogLevel::kWarn, "round ended", {{"round", 7}, {"left", -1}, {"reason", "late"}});
  ASSERT_EQ(sink.lines.size(), 1U);
  const RecordingSink::Line& line = sink.lines.front();
  EXPECT_EQ(line.level, LogLevel::kWarn);
  EXPECT_EQ(line.message, "round ended");
  ASSERT_EQ(line.fields.size(), 3U);
  EXPECT_EQ(line.fields[0].name, "round");
  EXPECT_EQ(line.fields[0].number, 7);
  EXPECT_EQ(line.fields[1].number, -1);
  EXPECT_EQ(line.fields[2].word, "late");
}

TEST(Log, KeepsTheFirstSixteenFields) {
  RecordingSink sink;
  Log(sink, LogLevel::kInfo, "many",
      {{"a", 1},
       {"b", 2},
       {"c", 3},
       {"d", 4},
       {"e", 5},
       {"f", 6},
       {"g", 7},
       {"h", 8},
       {"i", 9},
       {"j", 10},
       {"k", 11},
       {"l", 12},
       {"m", 13},
       {"n", 14},
       {"o", 15},
       {"p", 16},
       {"q", 17}});
  ASSERT_EQ(sink.lines.front().fields.size(), 16U);
  EXPECT_EQ(sink.lines.front().fields.back().name, "p");
}

TEST(Log, TakesNoTextMadeAtRunTime) {
  EXPECT_FALSE((std::is_constructible_v<Field, Literal, std::string>));
  EXPECT_FALSE((std::is_constructible_v<Field, Literal, const char*>));
  EXPECT_FALSE((std::is_constructible_v<Field, Literal, double>));
  EXPECT_FALSE((std::is_constructible_v<Literal, std::string>));
  EXPECT_FALSE((std::is_constructible_v<Literal, char(&)[8]>));
}

TEST(StderrLogSink, WritesItsLevelAndAboveOnOneLineEach) {
  testing::internal::CaptureStderr();
  {
    const std::unique_ptr<LogSink> sink = NewStderrLogSink(LogLevel::kInfo);
    Log(*sink, LogLevel::kDebug, "quiet");
    Log(*sink, LogLevel::kInfo, "round began", {{"round", 7}, {"mode", "secagg"}});
    Log(*sink, LogLevel::kError, "a {} bug");
  }
  const std::string text = testing::internal::GetCapturedStderr();
  constexpr const char* kTime = "[0-9]+-[0-9]+-[0-9]+ [0-9]+:[0-9]+:[0-9]+[.][0-9][0-9][0-9] ";
  EXPECT_THAT(text, testing::ContainsRegex(std::string("^") + kTime +
                                           "info round began round=7 mode=secagg\n" + kTime));
  EXPECT_THAT(text, HasSubstr(" error a {} bug\n"));
  EXPECT_THAT(text, testing::Not(HasSubstr("quiet")));
}

TEST(StderrLogSink, WritesJsonWithTheTimeOfGreenwich) {
  testing::internal::CaptureStderr();
  Log(*NewStderrLogSink(LogLevel::kWarn, LogFormat::kJson), LogLevel::kWarn, "late", {{"code", 4}});
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              testing::MatchesRegex(
                  "[{]\"time\":\"[0-9]+-[0-9]+-[0-9]+T[0-9]+:[0-9]+:[0-9]+[.][0-9][0-9][0-9]Z\","
                  "\"level\":\"warn\",\"message\":\"late\",\"code\":4[}]\n"));
}

}  // namespace
}  // namespace chorus
