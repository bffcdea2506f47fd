// The heart: one interface for every way of learning a sum without learning its parts.
//
// A protocol is a fixed sequence of steps. In each, the aggregator asks parties and hears their
// answers; a party's contributor turns a question into an answer. Both are pure functions of
// messages: no socket, clock or thread inside, so the same bytes move in production, in simulation
// and in tests.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <variant>
#include <vector>

#include "chorus/bytes.h"
#include "chorus/status.h"

namespace chorus {

// Integers modulo 2^(8w) in words of w = 2, 4 or 8 bytes, the fewest that hold the encoding's bits.
// [dim]
using RingVector =
    std::variant<std::vector<uint16_t>, std::vector<uint32_t>, std::vector<uint64_t>>;

// A party as the transport knows it: a client, a second server, an enclave. Chosen by the caller,
// unique in a round.
using PartyId = uint64_t;

// One party that is asked in a step. What it is asked is made when it is sent, by Body: a cohort's
// questions together would be far larger than what they are made from.
struct Question {
  PartyId to = 0;
  uint64_t answer_bytes_max = 0;  // a longer answer can be refused before it is received
};

struct Sum {
  RingVector values;          // [dim] residues, each reduced to the encoding's bits
  uint32_t contributors = 0;  // how many contributions are in it
};

// The server's side of one secure sum. Thread-compatible. Use: while (!done()) { Ask; send each its
// Body; Hear each answer; Close; }, then Finish. After a failed Close or Finish the object is spent
// and says so ever after; a call out of turn is kFailedPrecondition and changes nothing.
class Aggregator {
 public:
  virtual ~Aggregator() = default;
  // Whom to ask in this step. Once a step.
  virtual Result<std::vector<Question>> Ask() = 0;
  // What to ask `to` in this step: made anew by each call, and the same each time. kNotFound: not
  // asked in this step, or heard already.
  virtual Result<Bytes> Body(PartyId to) = 0;
  // Takes one answer; a bad one harms only its sender, who then counts as not heard. Any failure
  // leaves the state as it was. kNotFound: not asked in this step; kAlreadyExists: heard before;
  // else what is wrong with it.
  Status Hear(PartyId from, BytesView answer) { return HearPieces(from, {&answer, 1}); }
  // The same of an answer that lies in pieces, wherever they are cut.
  virtual Status HearPieces(PartyId from, std::span<const BytesView> answer) = 0;
  // Ends the step: who was asked and not heard has dropped out. kAborted when too few are left.
  virtual Status Close() = 0;
  virtual bool done() const = 0;
  // The sum, once done(). kAborted when it cannot be opened; never a wrong sum taken for right.
  virtual Result<Sum> Finish() = 0;
};

// A party's side. Answers each question once, in order; asking again is an error and ends the
// session. After an error or the last answer its secrets are wiped. Thread-compatible.
class Contributor {
 public:
  virtual ~Contributor() = default;
  // The answer to send. A failure carries the code to tell the coordinator; nothing else may be
  // sent.
  virtual Result<Bytes> Answer(BytesView question) = 0;
  // True once an answer carries this party's input: the ledger must be written before that answer
  // leaves.
  virtual bool uploaded() const = 0;
  virtual bool done() const = 0;
};

}  // namespace chorus
