// A task of OneShot on its way: files, wire, and what the coordinator requires of it.
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/hex.h"
#include "base/limits.h"
#include "chorus/coordinator.h"
#include "coordinator/committee.h"
#include "matchers.h"
#include "wire/wire.h"

namespace chorus::coordinator {
namespace {

std::string MemberText(uint8_t number) { return ToHex(PublicKey{number}); }

std::string TaskText(const std::string& more, size_t members = 4) {
  std::string list;
  for (size_t j = 0; j < members; ++j) {
    list += "  members: \"" + MemberText(static_cast<uint8_t>(j + 1)) + "\"\n";
  }
  return "name: \"a\"\nprotocol: PROTOCOL_ONE_SHOT\nexperimental: true\n"
         "model { inputs: 2 layers { units: 2 } }\none_shot {\n" +
         list + "}\n" + more;
}

TaskSpec OneShotTask() {
  const Result<TaskSpec> task = wire::ParseTaskText(TaskText("cohort { minimum: 5 }"));
  EXPECT_THAT(task, IsOk());
  return *task;
}

TEST(OneShotText, ReadsEveryField) {
  const Result<TaskSpec> task = wire::ParseTaskText(
      TaskText("one_shot { set: ONE_SHOT_SET_OSA_8192 gamma_members_ppm: 1 delta_members_ppm: 2\n"
               "gamma_ppm: 3 honest_min: 4 }"));
  EXPECT_THAT(task, HasCode(Code::kInvalidArgument)) << "a field twice";
  const Result<TaskSpec> whole = wire::ParseTaskText(
      "name: 'a' protocol: PROTOCOL_ONE_SHOT model { inputs: 2 layers { units: 2 } }\n"
      "experimental: true one_shot { set: ONE_SHOT_SET_OSA_8192 gamma_members_ppm: 1\n"
      "delta_members_ppm: 2 gamma_ppm: 3 honest_min: 4 members: '" +
      MemberText(7) + "' members: '" + MemberText(5) + "' }");
  ASSERT_THAT(whole, IsOk());
  EXPECT_EQ(whole->protocol, Protocol::kOneShot);
  EXPECT_TRUE(whole->experimental);
  EXPECT_EQ(whole->one_shot.set, OneShotSet::kOsa8192);
  EXPECT_EQ(whole->one_shot.members, (std::vector<PublicKey>{{7}, {5}}));
  EXPECT_EQ(whole->one_shot.gamma_members_ppm, 1U);
  EXPECT_EQ(whole->one_shot.delta_members_ppm, 2U);
  EXPECT_EQ(whole->one_shot.gamma_ppm, 3U);
  EXPECT_EQ(whole->one_shot.honest_min, 4U);
  const OneShotSpec defaults;
  EXPECT_EQ(OneShotTask().one_shot.set, defaults.set);
  EXPECT_EQ(OneShotTask().one_shot.gamma_ppm, defaults.gamma_ppm);
  EXPECT_EQ(OneShotTask().one_shot.honest_min, defaults.honest_min);
}

TEST(OneShotText, RefusesMembersThatAreNoKeys) {
  for (const std::string& bad : {std::string("00"), std::string(63, '0'), std::string(66, '0'),
                                 std::string(64, 'g'), std::string()}) {
    EXPECT_THAT(wire::ParseTaskText("name: 'a' protocol: PROTOCOL_ONE_SHOT\n"
                                    "model { inputs: 2 layers { units: 2 } }\n"
                                    "one_shot { members: '" +
                                    bad + "' }"),
                HasCodeAndText(Code::kInvalidArgument, "one_shot.members"));
    EXPECT_THAT(wire::ParsePolicyText("committee: '" + bad + "'"),
                HasCodeAndText(Code::kInvalidArgument, "committee"));
  }
  EXPECT_THAT(wire::ParseTaskText(TaskText("one_shot { set: 3 }", 0)),
              HasCode(Code::kInvalidArgument));
}

TEST(OneShotText, APolicyNamesWhomItTrusts) {
  const Result<Policy> defaults = wire::ParsePolicyText("");
  ASSERT_THAT(defaults, IsOk());
  EXPECT_FALSE(defaults->allow_experimental);
  EXPECT_FALSE(defaults->allow_any_committee);
  EXPECT_TRUE(defaults->committee.empty());
  const Result<Policy> policy =
      wire::ParsePolicyText("allow_experimental: true\nallow_any_committee: true\ncommittee: '" +
                            MemberText(3) + "'\ncommittee: '" + MemberText(4) + "'");
  ASSERT_THAT(policy, IsOk());
  EXPECT_TRUE(policy->allow_experimental);
  EXPECT_TRUE(policy->allow_any_committee);
  EXPECT_EQ(policy->committee, (std::vector<PublicKey>{{3}, {4}}));
}

TEST(OneShotTask, DecodesToWhatWasEncoded) {
  TaskSpec task = OneShotTask();
  task.one_shot.set = OneShotSet::kOsa8192;
  task.one_shot.gamma_members_ppm = 9;
  task.one_shot.delta_members_ppm = 8;
  task.one_shot.gamma_ppm = 7;
  task.one_shot.honest_min = 6;
  const Bytes bytes = wire::EncodeTask(task);
  const Result<TaskSpec> decoded = wire::DecodeTask(bytes);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(wire::EncodeTask(*decoded), bytes);
  EXPECT_EQ(decoded->one_shot.members, task.one_shot.members);
  EXPECT_EQ(decoded->one_shot.set, OneShotSet::kOsa8192);
  EXPECT_TRUE(decoded->experimental);
  // The largest committee leaves room.
  for (size_t j = 0; j < limits::kCommitteeMax; ++j) {
    task.one_shot.members.push_back(PublicKey{static_cast<uint8_t>(j), 1});
  }
  EXPECT_THAT(wire::DecodeTask(wire::EncodeTask(task)), IsOk());
}

// A task of before must keep its bytes: stores and clients compare them.
TEST(OneShotTask, LeavesOtherTasksTheirBytes) {
  TaskSpec task = OneShotTask();
  task.protocol = Protocol::kSecAgg;
  task.experimental = false;
  const Bytes with = wire::EncodeTask(task);
  task.one_shot = {};
  EXPECT_EQ(wire::EncodeTask(task), with);
}

TEST(OneShotTask, CarriesTheCommitteeInTheStatus) {
  wire::StatusReply reply;
  reply.committee = {{.identity = {1}, .checked_in = true}, {.identity = {2}}};
  const auto decoded = wire::Decode<wire::StatusReply>(wire::Encode(reply));
  ASSERT_THAT(decoded, IsOk());
  ASSERT_EQ(decoded->committee.size(), 2U);
  EXPECT_EQ(decoded->committee[0].identity, PublicKey{1});
  EXPECT_TRUE(decoded->committee[0].checked_in);
  EXPECT_FALSE(decoded->committee[1].checked_in);
  reply.committee.resize(limits::kCommitteeMax + 1);
  EXPECT_THAT(wire::Decode<wire::StatusReply>(wire::Encode(reply)),
              HasCodeAndText(Code::kInvalidArgument, "committee"));
}

TEST(OneShotTask, IsAcceptedWhenItCanWork) {
  EXPECT_THAT(ValidateTask(OneShotTask()), IsOk());
  TaskSpec large = OneShotTask();
  large.cohort.maximum = limits::kOneShotCohortMax;
  EXPECT_THAT(ValidateTask(large), IsOk());
}

TEST(OneShotTask, NamesTheFieldThatCannotWork) {
  const std::pair<std::string, std::function<void(TaskSpec&)>> cases[] = {
      {"experimental", [](TaskSpec& t) { t.experimental = false; }},
      {"one_shot: no committee of 3 members", [](TaskSpec& t) { t.one_shot.members.pop_back(); }},
      {"one_shot: no committee", [](TaskSpec& t) { t.one_shot.gamma_members_ppm = 20'000; }},
      {"one_shot.members names a member twice",
       [](TaskSpec& t) { t.one_shot.members[0] = t.one_shot.members[1]; }},
      {"one_shot.set", [](TaskSpec& t) { t.one_shot.set = static_cast<OneShotSet>(3); }},
      {"one_shot.gamma_ppm", [](TaskSpec& t) { t.one_shot.gamma_ppm = 1'000'000; }},
      {"one_shot.honest_min", [](TaskSpec& t) { t.one_shot.honest_min = 1; }},
      {"one_shot.honest_min", [](TaskSpec& t) { t.one_shot.honest_min = 5; }},
      {"cohort.parallel must be 1", [](TaskSpec& t) { t.cohort.parallel = 2; }},
      {"cohort.maximum must be at most 32768",
       [](TaskSpec& t) { t.cohort.maximum = limits::kOneShotCohortMax + 1; }},
  };
  for (const auto& [field, spoil] : cases) {
    TaskSpec task = OneShotTask();
    spoil(task);
    EXPECT_THAT(ValidateTask(task), HasCodeAndText(Code::kInvalidArgument, field));
  }
  TaskSpec secagg = OneShotTask();
  secagg.protocol = Protocol::kSecAgg;
  secagg.cohort.maximum = limits::kCohortMax + 1;
  EXPECT_THAT(ValidateTask(secagg), HasCodeAndText(Code::kInvalidArgument, "cohort.maximum"));
}

TEST(Committee, KnowsItsMembersByTheirPlace) {
  const TaskSpec task = OneShotTask();
  const Committee committee(task);
  EXPECT_EQ(committee.size(), 4U);
  EXPECT_EQ(committee.needed(), 3U);
  for (uint32_t j = 0; j < 4; ++j) {
    EXPECT_EQ(committee.IndexOf(task.one_shot.members[j]), j + 1);
  }
  EXPECT_EQ(committee.IndexOf(PublicKey{9}), 0U);
  TaskSpec other = task;
  other.protocol = Protocol::kSecAgg;
  EXPECT_EQ(Committee(other).size(), 0U);
  EXPECT_EQ(Committee(other).IndexOf(task.one_shot.members[0]), 0U);
}

}  // namespace
}  // namespace chorus::coordinator
