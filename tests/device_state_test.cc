// What a device keeps between rounds: on disk, and as a session uses it.
#include "client/device_state.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/hex.h"
#include "base/limits.h"
#include "client/training.h"
#include "client_fakes.h"
#include "matchers.h"

namespace chorus::client {
namespace {

using Kind = ClientEvent::Kind;

RecordKey KeyOf(uint8_t task, uint8_t model = 1) {
  RecordKey key{.personal_count = 3, .control_count = 2};
  key.task.fill(task);
  key.model.fill(model);
  return key;
}

DeviceRecord RecordOf(float value) {
  DeviceRecord record;
  record.personal = PrivateWeights({value, value + 1, value + 2});
  record.control = PrivateWeights({-value, 0.5F});
  return record;
}

std::string PathOf(const TemporaryFolder& folder, uint8_t task) {
  return folder.path() + "/task-" + ToHex(KeyOf(task).task);
}

Bytes ContentOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

void Write(const std::string& path, const Bytes& content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(content.data()),
             static_cast<std::streamsize>(content.size()));
}

void ExpectKept(const DeviceState& state, const RecordKey& key, float value) {
  const auto found = state.Find(key);
  ASSERT_THAT(found, IsOk());
  ASSERT_TRUE(found->has_value());
  EXPECT_EQ((*found)->personal.get(), RecordOf(value).personal.get());
  EXPECT_EQ((*found)->control.get(), RecordOf(value).control.get());
}

void ExpectNothing(const DeviceState& state, const RecordKey& key) {
  const auto found = state.Find(key);
  ASSERT_THAT(found, IsOk());
  EXPECT_FALSE(found->has_value());
}

TEST(DeviceState, GivesBackWhatWasKeptLast) {
  const TemporaryFolder folder;
  for (const auto& state : {DeviceState::InFiles(folder.path()), DeviceState::InMemory()}) {
    ExpectNothing(*state, KeyOf(1));
    ASSERT_THAT(state->Keep(KeyOf(1), RecordOf(5)), IsOk());
    ASSERT_THAT(state->Keep(KeyOf(2), RecordOf(7)), IsOk());
    ExpectKept(*state, KeyOf(1), 5);
    ASSERT_THAT(state->Keep(KeyOf(1), RecordOf(6)), IsOk());
    ExpectKept(*state, KeyOf(1), 6);
    ExpectKept(*state, KeyOf(2), 7);
  }
}

TEST(DeviceState, DoesNotGiveOneModelWhatAnotherKept) {
  const TemporaryFolder folder;
  for (const auto& state : {DeviceState::InFiles(folder.path()), DeviceState::InMemory()}) {
    ASSERT_THAT(state->Keep(KeyOf(1, 1), RecordOf(5)), IsOk());
    ExpectNothing(*state, KeyOf(1, 2));
    RecordKey larger = KeyOf(1, 1);
    larger.personal_count = 4;
    ExpectNothing(*state, larger);
    ExpectKept(*state, KeyOf(1, 1), 5);
  }
}

TEST(DeviceState, SurvivesARestartInFilesThatOnlyItsOwnerReads) {
  const TemporaryFolder folder;
  ASSERT_THAT(DeviceState::InFiles(folder.path())->Keep(KeyOf(1), RecordOf(5)), IsOk());
  ExpectKept(*DeviceState::InFiles(folder.path()), KeyOf(1), 5);
  struct stat facts {};
  ASSERT_EQ(stat(PathOf(folder, 1).c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600U);
  EXPECT_FALSE(std::filesystem::exists(PathOf(folder, 1) + ".new"));
}

TEST(DeviceState, SaysSoWhenAFileIsDamaged) {
  const TemporaryFolder folder;
  const auto state = DeviceState::InFiles(folder.path());
  ASSERT_THAT(state->Keep(KeyOf(1), RecordOf(5)), IsOk());
  const std::string path = PathOf(folder, 1);
  const Bytes sound = ContentOf(path);
  constexpr size_t kHeaderBytes = 80;
  ASSERT_EQ(sound.size(), kHeaderBytes + 5 * sizeof(float) + 32);
  for (size_t i = kHeaderBytes; i < sound.size(); ++i) {
    Bytes flipped = sound;
    flipped[i] ^= 0x40;
    Write(path, flipped);
    ASSERT_THAT(state->Find(KeyOf(1)), HasCodeAndText(Code::kDataLoss, "damaged")) << i;
  }
  for (size_t size = 0; size < sound.size(); ++size) {
    Write(path, Bytes(sound.begin(), sound.begin() + static_cast<ptrdiff_t>(size)));
    ASSERT_THAT(state->Find(KeyOf(1)), HasCode(Code::kDataLoss)) << size;
  }
  Bytes longer = sound;
  longer.push_back(0);
  Write(path, longer);
  EXPECT_THAT(state->Find(KeyOf(1)), HasCode(Code::kDataLoss));
  // In its header it is another model's.
  Bytes flipped = sound;
  flipped[40] ^= 1;
  Write(path, flipped);
  ExpectNothing(*state, KeyOf(1));
  // And is replaced all the same.
  ASSERT_THAT(state->Keep(KeyOf(1), RecordOf(6)), IsOk());
  ExpectKept(*state, KeyOf(1), 6);
}

TEST(DeviceState, KeepsWhatItHadWhenItCannotWrite) {
  const TemporaryFolder folder;
  const auto state = DeviceState::InFiles(folder.path());
  ASSERT_THAT(state->Keep(KeyOf(1), RecordOf(5)), IsOk());
  std::filesystem::create_directory(PathOf(folder, 1) + ".new");  // in the way
  EXPECT_THAT(state->Keep(KeyOf(1), RecordOf(6)), HasCode(Code::kUnavailable));
  ExpectKept(*state, KeyOf(1), 5);
  EXPECT_THAT(DeviceState::InFiles(folder.path() + "/none")->Keep(KeyOf(1), RecordOf(5)),
              HasCode(Code::kUnavailable));
}

TEST(DeviceState, MakesRoomByTheTaskThatWasWrittenLongestAgo) {
  const TemporaryFolder folder;
  const auto state = DeviceState::InFiles(folder.path());
  const auto now = std::filesystem::file_time_type::clock::now();
  const auto tasks = static_cast<uint8_t>(limits::kDeviceStatesMax);
  for (uint8_t task = 1; task <= tasks; ++task) {
    ASSERT_THAT(state->Keep(KeyOf(task), RecordOf(task)), IsOk());
    // The third is the oldest, not the first.
    const int age = task == 3 ? 1'000 : 100 - task;
    std::filesystem::last_write_time(PathOf(folder, task), now - std::chrono::seconds(age));
  }
  ASSERT_THAT(state->Keep(KeyOf(5), RecordOf(50)), IsOk());  // no new file: nothing goes
  ExpectKept(*state, KeyOf(3), 3);
  ASSERT_THAT(state->Keep(KeyOf(100), RecordOf(9)), IsOk());
  ExpectNothing(*state, KeyOf(3));
  ExpectKept(*state, KeyOf(1), 1);
  ExpectKept(*state, KeyOf(5), 50);
  ExpectKept(*state, KeyOf(100), 9);
}

// Calls `work` while no file may grow.
template <typename Work>
void WithAFullDisk(Work work) {
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  rlimit none = before;
  none.rlim_cur = 100;  // the header fits, the rest does not
  setrlimit(RLIMIT_FSIZE, &none);
  work();
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
}

TEST(DeviceState, LosesNoTaskToOneThatCannotBeWritten) {
  const TemporaryFolder folder;
  const auto state = DeviceState::InFiles(folder.path());
  const auto tasks = static_cast<uint8_t>(limits::kDeviceStatesMax);
  for (uint8_t task = 1; task <= tasks; ++task) {
    ASSERT_THAT(state->Keep(KeyOf(task), RecordOf(task)), IsOk());
  }
  Status kept;
  WithAFullDisk([&] { kept = state->Keep(KeyOf(100), RecordOf(9)); });
  EXPECT_THAT(kept, HasCode(Code::kResourceExhausted));
  WithAFullDisk([&] { kept = state->Keep(KeyOf(1), RecordOf(9)); });
  EXPECT_THAT(kept, HasCode(Code::kResourceExhausted));
  for (uint8_t task = 1; task <= tasks; ++task) ExpectKept(*state, KeyOf(task), task);
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    EXPECT_NE(entry.path().extension(), ".new") << entry.path();
  }
}

TEST(DeviceState, BeginsByRemovingWhatADeadProcessLeft) {
  const TemporaryFolder folder;
  ASSERT_THAT(DeviceState::InFiles(folder.path())->Keep(KeyOf(1), RecordOf(5)), IsOk());
  Write(PathOf(folder, 1) + ".new", Bytes(10));
  Write(PathOf(folder, 2) + ".new", Bytes(10));
  Write(folder.path() + "/ledger.new", Bytes(10));  // not ours
  const auto state = DeviceState::InFiles(folder.path());
  EXPECT_FALSE(std::filesystem::exists(PathOf(folder, 1) + ".new"));
  EXPECT_FALSE(std::filesystem::exists(PathOf(folder, 2) + ".new"));
  EXPECT_TRUE(std::filesystem::exists(folder.path() + "/ledger.new"));
  ExpectKept(*state, KeyOf(1), 5);
}

TEST(PrivateWeights, AreEmptyOnceMoved) {
  PrivateWeights from(Weights{1, 2});
  const PrivateWeights to(std::move(from));
  EXPECT_EQ(to.get(), (Weights{1, 2}));
  EXPECT_TRUE(from.get().empty());  // NOLINT(bugprone-use-after-move): that is the law
}

// --- in a session --------------------------------------------------------------------------------

TaskSpec PersonalTask() {
  TaskSpec task = PlainTask();
  task.model.layers = {{.units = 3, .activation = Activation::kTanh},
                       {.units = 2, .personal = true}};
  task.training.held_back_percent = 0;
  return task;
}

TEST(DeviceStateInSession, IsWrittenWhenTheUpdateLeavesAndUsedAfterARestart) {
  PlainWorld world(PersonalTask());
  const auto personal = [&] {
    const auto found =
        world.state->Find(RecordKeyOf(ParamsFor(world.task, 1, {}).task_id, world.task));
    return found.ok() && found->has_value() ? (*found)->personal.get() : Weights();
  };
  const uint64_t question = world.AskForUpdate(1);
  EXPECT_TRUE(personal().empty());  // trained, but the update has not left
  ASSERT_TRUE(world.RunUntilAnswered(question));
  const Weights first = personal();
  ASSERT_EQ(first.size(), 8U);
  EXPECT_NE(first, Weights(8, 0.25F));  // as published

  world.state = DeviceState::InFiles(world.folder.path());
  world.Renew();
  ASSERT_TRUE(world.RunUntilAnswered(world.AskForUpdate(2)));
  const Weights second = personal();
  EXPECT_NE(second, first);
  // From the published values, of which one round of the same examples makes about the first ones
  // again; from the first ones it goes on.
  double again = 0;
  double onwards = 0;
  for (size_t i = 0; i < 8; ++i) {
    again = std::max(again, std::abs(static_cast<double>(second[i] - first[i])));
    onwards = std::max(onwards, std::abs(static_cast<double>(first[i]) - 0.25));
  }
  EXPECT_GT(again, onwards / 4);
}

TEST(DeviceStateInSession, IsBegunAnewWhereItIsDamaged) {
  PlainWorld world(PersonalTask());
  ASSERT_TRUE(world.RunUntilAnswered(world.AskForUpdate(1)));
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(world.folder.path())) {
    if (entry.path().filename().string().starts_with("task-")) files.push_back(entry.path());
  }
  ASSERT_EQ(files.size(), 1U);
  Bytes content = ContentOf(files[0]);
  content.back() ^= 1;
  Write(files[0], content);
  ASSERT_TRUE(world.RunUntilAnswered(world.AskForUpdate(2)));
  for (const ClientEvent& event : world.events) {
    EXPECT_FALSE(event.kind == Kind::kRoundLost && event.round == 2) << event.status.message();
  }
  EXPECT_NE(ContentOf(files[0]), content);
}

TEST(DeviceStateInSession, RefusesATaskThatNeedsItWhereThereIsNone) {
  PlainWorld world(PersonalTask());
  world.state.reset();
  world.Renew();
  ASSERT_TRUE(world.RunUntilAnswered(world.Invite(1, world.task)));
  ASSERT_NE(world.Find(Kind::kRefused), nullptr);
  EXPECT_THAT(world.Find(Kind::kRefused)->status, HasCode(Code::kFailedPrecondition));
}

TEST(DeviceStateInSession, LosesTheRoundWhereItCannotBeWritten) {
  PlainWorld world(PersonalTask());
  const uint64_t question = world.AskForUpdate(1);
  // In the way of the file.
  std::filesystem::create_directory(world.folder.path() + "/task-" +
                                    ToHex(ParamsFor(world.task, 1, {}).task_id) + ".new");
  ASSERT_TRUE(world.RunUntilAnswered(question));
  EXPECT_TRUE(world.server.uploads[question].data.empty());
  EXPECT_EQ(world.Find(Kind::kRefused), nullptr);  // neither the policy nor the ledger said no
  ASSERT_NE(world.Find(Kind::kRoundLost), nullptr);
  EXPECT_THAT(world.Find(Kind::kRoundLost)->status,
              HasCodeAndText(Code::kUnavailable, "the device's state cannot be written"));
}

// --- the host's own engine -----------------------------------------------------------------------

// Moves every weight by as much as it was told.
class MovingTrainer final : public Trainer {
 public:
  Status Accept(const TaskSpec& task) override {
    accepted.push_back(task.name);
    return acceptance;
  }
  Result<TrainedUpdate> Train(const TaskSpec&, uint64_t, std::span<const float> weights,
                              const Cancel&) override {
    return TrainedUpdate{.update = Weights(weights.size() - missing, 0.125F), .examples = 4};
  }
  Status acceptance;
  size_t missing = 0;
  std::vector<std::string> accepted;
};

TEST(TrainerInSession, TrainsInPlaceOfTheClient) {
  PlainWorld world;
  MovingTrainer trainer;
  world.trainer = &trainer;
  world.examples = {};
  world.Renew();
  const uint64_t question = world.AskForUpdate(1);
  ASSERT_TRUE(world.RunUntilAnswered(question));
  EXPECT_EQ(trainer.accepted, std::vector<std::string>{"test"});
  ASSERT_THAT(world.aggregator->Hear(1, world.server.uploads[question].data), IsOk());
}

TEST(TrainerInSession, IsAskedAndMayRefuse) {
  PlainWorld world;
  MovingTrainer trainer;
  trainer.acceptance = PermissionDenied("the player is in a match");
  world.trainer = &trainer;
  world.Renew();
  ASSERT_TRUE(world.RunUntilAnswered(world.Invite(1, world.task)));
  ASSERT_NE(world.Find(Kind::kRefused), nullptr);
  EXPECT_THAT(world.Find(Kind::kRefused)->status,
              HasCodeAndText(Code::kPermissionDenied, "the player is in a match"));
}

TEST(TrainerInSession, LosesTheRoundByAResultThatCannotBe) {
  PlainWorld world;
  MovingTrainer trainer;
  trainer.missing = 1;
  world.trainer = &trainer;
  world.Renew();
  ASSERT_TRUE(world.RunUntilAnswered(world.Invite(1, world.task)));
  ASSERT_NE(world.Find(Kind::kRoundLost), nullptr);
  EXPECT_THAT(world.Find(Kind::kRoundLost)->status,
              HasCodeAndText(Code::kInvalidArgument, "the host's trainer"));
}

TEST(TrainerInSession, IsAskedNoQuestionsAboutExamples) {
  PlainWorld world;
  world.task.model = {};
  world.task.queries = {{.name = "count"}};
  world.options.policy.allow_analytics = true;
  world.options.policy.analytics_cohort_min = 1;
  MovingTrainer trainer;
  world.trainer = &trainer;
  world.examples = {};
  world.Renew();
  ASSERT_TRUE(world.RunUntilAnswered(world.Invite(1, world.task)));
  ASSERT_NE(world.Find(Kind::kRefused), nullptr);
  EXPECT_THAT(world.Find(Kind::kRefused)->status,
              HasCodeAndText(Code::kInvalidArgument, "which this game's own engine holds"));
  EXPECT_TRUE(trainer.accepted.empty());
}

TEST(TrainerInSession, CannotDoWhatReachesIntoTraining) {
  PlainWorld world;
  world.task.training.scaffold = true;
  world.task.training.population = 3;
  MovingTrainer trainer;
  world.trainer = &trainer;
  world.Renew();
  ASSERT_TRUE(world.RunUntilAnswered(world.Invite(1, world.task)));
  ASSERT_NE(world.Find(Kind::kRefused), nullptr);
  EXPECT_THAT(world.Find(Kind::kRefused)->status,
              HasCodeAndText(Code::kInvalidArgument, "SCAFFOLD"));
  EXPECT_TRUE(trainer.accepted.empty());
}

}  // namespace
}  // namespace chorus::client
