// The committee of a task of OneShot as its coordinator sees it: who is on it, and how many of them
// a round needs.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "aggregation/protocols.h"
#include "chorus/aggregation.h"
#include "chorus/bytes.h"
#include "chorus/status.h"
#include "chorus/task.h"

namespace chorus::coordinator {

// What OneShot requires of a task besides what every protocol does: leave for experiments, a
// committee of the table, enough honest clients, one cohort a round. Whatever encoding is valid
// fits its ring. kInvalidArgument names the field.
Status CheckOneShot(const TaskSpec& task);

// Who is asked to take part in a round that begins.
struct Invited {
  std::vector<PartyId> clients;
  std::vector<aggregation::CommitteeMember> committee;

  std::vector<PartyId> Everybody() const;
};

class Committee {
 public:
  // Of a valid task; of one with another protocol nobody is on it.
  explicit Committee(const TaskSpec& task);

  // A member's place in the task's list, from 1; 0: the identity is not on the committee.
  uint32_t IndexOf(const PublicKey& identity) const;
  const std::vector<PublicKey>& members() const { return members_; }  // in the task's order
  size_t size() const { return members_.size(); }
  uint32_t needed() const { return needed_; }  // without so many no round begins: m - f
  // Says that so many are too few.
  Status TooFew(size_t present) const;

 private:
  std::vector<PublicKey> members_;
  std::map<PublicKey, uint32_t> index_of_;
  uint32_t needed_ = 0;
};

}  // namespace chorus::coordinator
