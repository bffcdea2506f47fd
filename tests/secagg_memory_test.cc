// I9: once a session has ended, well or badly, no secret of it can be read in memory. Every
// allocation of this program, OpenSSL's too, passes through a recorder that keeps freed blocks, so
// what was freed unwiped is found as well as what is still held.
#include <openssl/crypto.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "cohort.h"
#include "matchers.h"

namespace {

// Blocks are kept in a list of their own, linked through a header, so that the recorder allocates
// nothing.
struct Block {
  Block* next;
  size_t size;
};
constexpr size_t kHeader = 32;  // keeps malloc's alignment
static_assert(sizeof(Block) <= kHeader);

Block* g_blocks = nullptr;
bool g_recording = false;

void* Allocate(size_t size) {
  auto* block = static_cast<Block*>(std::malloc(kHeader + size));
  if (block == nullptr) std::abort();
  block->size = size;
  block->next = nullptr;
  if (g_recording) {
    block->next = g_blocks;
    g_blocks = block;
  }
  return reinterpret_cast<uint8_t*>(block) + kHeader;
}

// While recording nothing is given back: the content stays to be looked at.
void Release(void* pointer) {
  if (pointer == nullptr || g_recording) return;
  bool kept = false;
  auto* block = reinterpret_cast<Block*>(static_cast<uint8_t*>(pointer) - kHeader);
  for (const Block* b = g_blocks; b != nullptr && !kept; b = b->next) kept = b == block;
  if (!kept) std::free(block);
}

void* OpenSslAllocate(size_t size, const char*, int) { return Allocate(size); }
void OpenSslRelease(void* pointer, const char*, int) { Release(pointer); }
void* OpenSslReallocate(void* pointer, size_t size, const char*, int) {
  void* fresh = Allocate(size);
  if (pointer != nullptr) {
    const size_t old = reinterpret_cast<Block*>(static_cast<uint8_t*>(pointer) - kHeader)->size;
    std::memcpy(fresh, pointer, old < size ? old : size);
    Release(pointer);
  }
  return fresh;
}
const int g_hooked =
    CRYPTO_set_mem_functions(&OpenSslAllocate, &OpenSslReallocate, &OpenSslRelease);

bool Found(chorus::BytesView pattern) {
  for (const Block* block = g_blocks; block != nullptr; block = block->next) {
    const auto* data = reinterpret_cast<const uint8_t*>(block) + kHeader;
    if (memmem(data, block->size, pattern.data(), pattern.size()) != nullptr) return true;
  }
  return false;
}

}  // namespace

// What the recorder keeps is no leak: asked by LeakSanitizer when there is one.
extern "C" __attribute__((visibility("default"))) int __lsan_is_turned_off() { return 1; }

void* operator new(size_t size) { return Allocate(size); }
void operator delete(void* pointer) noexcept { Release(pointer); }
void operator delete(void* pointer, size_t) noexcept { Release(pointer); }

namespace chorus::aggregation {
namespace {

// Secrets noted down where the scan does not find them: every byte inverted.
class Notes {
 public:
  void Add(BytesView secret) {
    size_t& size = sizes_[count_];
    size = secret.size();
    for (size_t i = 0; i < size; ++i) notes_[count_][i] = static_cast<uint8_t>(~secret[i]);
    ++count_;
  }
  size_t count() const { return count_; }
  // A noted secret, for what is derived from it. The copy wipes itself.
  SecretBytes Get(size_t index) const {
    SecretBytes plain(sizes_[index]);
    for (size_t j = 0; j < sizes_[index]; ++j) {
      plain.RevealMutable()[j] = static_cast<uint8_t>(~notes_[index][j]);
    }
    return plain;
  }
  bool CanBeRead(size_t index) const {
    std::array<uint8_t, kBytesMax> plain;  // on the stack: not searched
    for (size_t j = 0; j < sizes_[index]; ++j) plain[j] = static_cast<uint8_t>(~notes_[index][j]);
    return Found(BytesView(plain).first(sizes_[index]));
  }
  // How many of the noted secrets can be read in memory.
  size_t Readable() const {
    size_t readable = 0;
    for (size_t i = 0; i < count_; ++i) readable += CanBeRead(i) ? 1 : 0;
    return readable;
  }

 private:
  static constexpr size_t kBytesMax = 64;
  std::array<std::array<uint8_t, kBytesMax>, 64> notes_{};
  std::array<size_t, 64> sizes_{};
  size_t count_ = 0;
};

// Draws from a hash and keeps nothing but an inverted note of what it gave.
class NotingRng final : public Rng {
 public:
  explicit NotingRng(Notes& notes) : notes_(notes) {}
  void Fill(std::span<uint8_t> out) override {
    for (size_t at = 0; at < out.size(); at += 32) {
      const Digest block = crypto::Sha256(Writer().U64(counter_++).view());
      std::copy_n(block.begin(), std::min<size_t>(32, out.size() - at), out.begin() + at);
    }
    if (out.size() == 32 && notes_.count() < 8) notes_.Add(out);  // c, s and b
  }

 private:
  Notes& notes_;
  uint64_t counter_ = 0;
};

constexpr size_t kWatched = 2;

class SecAggMemory : public testing::Test {
 protected:
  SecAggMemory() {
    CohortShape shape;
    shape.clients = 7;
    shape.dim = 64;
    shape.bits = 32;
    shape.bound = 1 << 20;
    cohort_ = std::make_unique<Cohort>(21, shape);
    g_blocks = nullptr;  // what another test left is not this one's
    g_recording = true;
    ContributorOptions options = cohort_->OptionsFor(kWatched);
    const auto& words = std::get<std::vector<uint32_t>>(options.input);
    notes_.Add({reinterpret_cast<const uint8_t*>(words.data()) + 16, 16});
    options.rng = &rng_;
    cohort_->contributors[kWatched] = *NewContributor(std::move(options));
  }
  ~SecAggMemory() override {
    g_recording = false;
    cohort_.reset();
  }
  // Opens one delivery to the watched client and notes the shares in it, as only that client could.
  void NoteShares(const RosterAndPeers& roster, const Delivery& delivery) {
    const Digest sid = SessionId(sid0_, roster.n, roster.root);
    const SecretBytes c_secret = notes_.Get(1);
    const PublicKey c = crypto::X25519Public(c_secret.Reveal());
    const auto peer = std::find_if(roster.peers.begin(), roster.peers.end(),
                                   [&](const Peer& p) { return p.index == delivery.from; });
    const ChannelKeys keys = *DeriveChannel(sid, crypto::X25519Key(c_secret.Reveal()),
                                            {roster.index, c}, {peer->index, peer->c});
    const GraphParams graph = *CompleteGraph(roster.n, 50'000, 100'000);
    const SecretBytes both = *crypto::AeadOpen(
        keys.open.Reveal(), {},
        ShareAssociatedData(sid, peer->index, roster.index, graph, delivery.commitment),
        delivery.sealed);
    notes_.Add(both.Reveal().first(math::kShareBytes));
    notes_.Add(both.Reveal().subspan(math::kShareBytes));
    notes_.Add(keys.open.Reveal());
  }

  Notes notes_;
  NotingRng rng_{notes_};
  std::unique_ptr<Cohort> cohort_;
  Digest sid0_{};
};

TEST_F(SecAggMemory, ScanFindsSecretsWhileTheyAreNeeded) {
  ASSERT_EQ(g_hooked, 1) << "OpenSSL allocated before the recorder was in place";
  size_t readable = 0;
  cohort_->on_answer = [&](Where where, Bytes&) {
    // After R2 the input and b are held, and c and s are gone.
    if (where.step == 1 && where.client == kWatched) readable = notes_.Readable();
    return true;
  };
  ASSERT_THAT(cohort_->Run(), IsOk());
  EXPECT_EQ(notes_.count(), 4U);
  EXPECT_EQ(readable, 2U);
}

TEST_F(SecAggMemory, NothingIsReadableOnceTheSessionIsDone) {
  size_t readable = SIZE_MAX;
  RosterAndPeers roster;
  cohort_->on_question = [&](Where where, Bytes& body) {
    if (where.client != kWatched) return true;
    if (where.step == 0) sid0_ = crypto::LabeledHash("CHORUS1/sid0", {BytesView(body).first(284)});
    if (where.step == 1) roster = *DecodeRoster(body, 128);
    if (where.step == 2) NoteShares(roster, (*DecodeDeliver(body, 7))[3]);
    return true;
  };
  cohort_->on_answer = [&](Where where, Bytes& body) {
    if (where.step != 4 || where.client != kWatched) return true;
    Wipe(body);  // the answer itself is the one place where shares may stand
    readable = notes_.Readable();
    return true;
  };
  ASSERT_THAT(cohort_->Run(), IsOk());
  EXPECT_TRUE(cohort_->contributors[kWatched]->done());
  EXPECT_EQ(notes_.count(), 7U);
  EXPECT_EQ(readable, 0U);
}

TEST_F(SecAggMemory, NothingIsReadableOnceTheSessionIsAborted) {
  for (size_t step = 0; step < 5; ++step) {
    Notes notes;
    NotingRng rng(notes);
    g_recording = false;
    CohortShape shape;
    shape.clients = 7;
    shape.dim = 64;
    shape.bits = 32;
    shape.bound = 1 << 20;
    Cohort cohort(22, shape);
    g_recording = true;
    ContributorOptions options = cohort.OptionsFor(kWatched);
    const auto& words = std::get<std::vector<uint32_t>>(options.input);
    notes.Add({reinterpret_cast<const uint8_t*>(words.data()) + 16, 16});
    options.rng = &rng;
    cohort.contributors[kWatched] = *NewContributor(std::move(options));
    cohort.on_question = [&](Where where, Bytes& body) {
      if (where.step == step && where.client == kWatched) body.push_back(0);
      return true;
    };
    EXPECT_THAT(cohort.Run(), IsOk());
    EXPECT_FALSE(cohort.client_status[kWatched].ok());
    EXPECT_EQ(notes.Readable(), 0U) << "aborted in step " << step;
  }
}

TEST_F(SecAggMemory, PreKeysAreGoneOnceTheyServedOrAPlainOfferCame) {
  for (const bool served : {false, true}) {
    Notes notes;
    NotingRng rng(notes);
    g_recording = false;
    Cohort cohort(23);
    g_recording = true;
    PreKeys keys =
        *MakePreKeys({.identity_seed = cohort.identities[kWatched].Reveal(), .not_after = 1}, rng);
    if (served) cohort.prekeys.push_back({Cohort::kFirstParty + kWatched, keys.record});
    ContributorOptions options = cohort.OptionsFor(kWatched);
    options.rng = &rng;
    options.prekeys = std::move(keys);
    cohort.contributors[kWatched] = *NewContributor(std::move(options));
    EXPECT_TRUE(notes.CanBeRead(0) && notes.CanBeRead(1));
    bool answered = false;
    cohort.on_answer = [&](Where where, Bytes&) {
      if (where.client != kWatched || where.step != (served ? 1 : 0)) return true;
      answered = true;
      EXPECT_FALSE(notes.CanBeRead(0) || notes.CanBeRead(1)) << served;
      return true;
    };
    EXPECT_THAT(cohort.Run(), IsOk());
    EXPECT_TRUE(answered);
  }
}

}  // namespace
}  // namespace chorus::aggregation
