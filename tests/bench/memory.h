// What each party of a session holds in memory. A program that links memory.cc counts every
// allocation, OpenSSL's too, to the account that the thread is on; whoever frees it, it is that
// account's. Counted are the allocator's chunks, which are larger than what was asked for.
#pragma once

#include <cstddef>

namespace chorus::bench {

struct Account {
  size_t held = 0;
  size_t peak = 0;  // since the account began or Rebase
  // Counts the peak from what is held now.
  void Rebase() { peak = held; }
};

// A new account, kept until the program ends: OpenSSL and errors keep some of what they allocated
// beyond the session that it is counted to.
Account& OpenAccount();

// The calling thread's allocations are `account`'s during its life.
class OnAccount {
 public:
  explicit OnAccount(Account& account);
  ~OnAccount();
  OnAccount(const OnAccount&) = delete;
  OnAccount& operator=(const OnAccount&) = delete;

 private:
  Account* before_;
};

// Whether OpenSSL's allocations are counted: not when it allocated before this was in place.
bool CountsOpenSsl();

}  // namespace chorus::bench
