#include "memory.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <new>

namespace chorus::bench {
namespace {

thread_local Account* g_account = nullptr;

// In front of every block.
struct Header {
  Account* account;
  size_t size;  // as asked for
};
constexpr size_t kHeaderBytes = 16;  // keeps malloc's alignment
static_assert(sizeof(Header) == kHeaderBytes);

// What glibc's malloc takes for a block of `size`.
size_t ChunkBytes(size_t size) { return std::max<size_t>(32, (size + 8 + 15) / 16 * 16); }

void* Allocate(size_t size) {
  auto* header = static_cast<Header*>(std::malloc(kHeaderBytes + size));
  if (header == nullptr) std::abort();
  *header = {g_account, size};
  if (g_account != nullptr) {
    g_account->held += ChunkBytes(size);
    g_account->peak = std::max(g_account->peak, g_account->held);
  }
  return header + 1;
}

void Release(void* block) {
  if (block == nullptr) return;
  Header* header = static_cast<Header*>(block) - 1;
  if (header->account != nullptr) header->account->held -= ChunkBytes(header->size);
  std::free(header);
}

void* OpenSslAllocate(size_t size, const char*, int) { return Allocate(size); }
void OpenSslRelease(void* block, const char*, int) { Release(block); }
void* OpenSslReallocate(void* block, size_t size, const char*, int) {
  void* fresh = Allocate(size);
  if (block == nullptr) return fresh;
  std::memcpy(fresh, block, std::min(size, (static_cast<Header*>(block) - 1)->size));
  Release(block);
  return fresh;
}
const int g_hooked =
    CRYPTO_set_mem_functions(&OpenSslAllocate, &OpenSslReallocate, &OpenSslRelease);

}  // namespace

Account& OpenAccount() {
  // Never destroyed: blocks are released until the very end of the program.
  static auto* const accounts = new std::deque<Account>;
  return accounts->emplace_back();
}

OnAccount::OnAccount(Account& account) : before_(g_account) { g_account = &account; }
OnAccount::~OnAccount() { g_account = before_; }

bool CountsOpenSsl() { return g_hooked == 1; }

}  // namespace chorus::bench

void* operator new(size_t size) { return chorus::bench::Allocate(size); }
void operator delete(void* block) noexcept { chorus::bench::Release(block); }
void operator delete(void* block, size_t) noexcept { chorus::bench::Release(block); }
