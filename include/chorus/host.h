// What the embedding program may supply: time, cancellation, logs, identities, the network.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "chorus/bytes.h"
#include "chorus/status.h"

namespace chorus {

// Milliseconds since an arbitrary start; never goes back.
using Time = std::chrono::milliseconds;

// Where time comes from. Implementations are thread-safe. NewSystemClock() (base) is the default
// everywhere.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Time Now() const = 0;  // monotonic
  virtual int64_t UnixSeconds()
      const = 0;  // wall clock, for certificates' validity and days of the ledger
};

// A flag with which one thread asks another to stop. Thread-safe. Calls that take a Cancel honour
// it within one minibatch of training, or within one network chunk.
class Cancel {
 public:
  void Request() { requested_.store(true, std::memory_order_relaxed); }
  bool requested() const { return requested_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> requested_{false};
};

enum class LogLevel { kDebug, kInfo, kWarn, kError };

// One named number or one named fixed word of a log line. Users' data has no way in: see
// base/log.h.
struct LogField {
  std::string_view name;
  int64_t number = 0;
  std::string_view word = {};  // when set, replaces the number
};

// Where log lines go. Must be thread-safe. `error` is a bug of ours, `warn` is the peer or the
// network, `info` is one line for each transition of a round.
class LogSink {
 public:
  virtual ~LogSink() = default;
  virtual void Write(LogLevel level, std::string_view message,
                     std::span<const LogField> fields) = 0;
};

// What an identity's evidence proved.
struct Identity {
  uint64_t serial = 0;  // the issuer's own number for this identity; unique for one issuer
  uint32_t weight = 1;  // how many votes the issuer gives it
};

// Judges whether a long-term Ed25519 key belongs to somebody. The coordinator must not be able to
// pass this check for keys of its own making: Sybil resistance (gamma) is exactly as good as the
// issuer behind it. [specification 3.2]. Implementations are thread-safe.
class IdentityVerifier {
 public:
  virtual ~IdentityVerifier() = default;
  // kUnauthenticated when the evidence does not vouch for `key` now: foreign issuer, expired,
  // malformed.
  virtual Result<Identity> Verify(const PublicKey& key, BytesView evidence) const = 0;
};

// What a session token of the game's own login proved.
struct TokenClaims {
  std::string subject;     // who the login knows: one player; not empty
  int64_t expires_at = 0;  // Unix seconds: not valid from then on
  // The identity key that the token is for, where the login bound it to one [RFC 7800]: then nobody
  // else can use it.
  std::optional<PublicKey> identity;
};

// Judges the session tokens of the game's own login, beside the identity's evidence: whoever has no
// account has no session, and an account has one session at a time. A coordinator without one asks
// for no token. NewJwtVerifier (chorus/token.h) is the usual one. Implementations are thread-safe.
class TokenVerifier {
 public:
  virtual ~TokenVerifier() = default;
  // kUnauthenticated when `token` (not longer than limits' kTokenBytesMax) is not good at
  // `unix_seconds`: made up, expired, for somebody else; the message says which.
  virtual Result<TokenClaims> Verify(BytesView token, int64_t unix_seconds) const = 0;
};

// The client's way to its coordinator: one request out, one answer back, each at most limits'
// kMessageBytesMax. Hosts with their own network stack (consoles, browsers) supply one; gRPC is the
// default.
class Transport {
 public:
  virtual ~Transport() = default;
  // Sends `request` to `method` (the rpc's bare name in chorus.v1.Coordinator) and waits for the
  // answer. Called from one thread at a time. A failure carries the peer's status, or kUnavailable
  // when the peer cannot be reached, kDeadlineExceeded after `deadline`, kCancelled after
  // Interrupt().
  virtual Result<Bytes> Call(std::string_view method, BytesView request,
                             std::chrono::milliseconds deadline) = 0;
  // From any thread: makes the call under way, and every later one, return kCancelled at once.
  virtual void Interrupt() = 0;
  // Closes the connection, if there is one; the next Call opens another. Called between two calls,
  // when the coordinator has sent this client away for minutes or hours.
  virtual void HangUp() {}
};

}  // namespace chorus
