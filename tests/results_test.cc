// `chorus results`, `chorus serve --start` and `chorus audit`, run as processes over state, model
// files and coordinators that are made here.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/hex.h"
#include "base/log.h"
#include "chorus/audit.h"
#include "chorus/coordinator.h"
#include "chorus/store.h"
#include "cli/files.h"
#include "cli/model_file.h"
#include "coordinator/service.h"
#include "crypto/crypto.h"
#include "learning/analytics.h"
#include "matchers.h"
#include "trust/trust.h"
#include "wire/wire.h"

extern char** environ;

namespace chorus::cli {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

class Tool : public testing::Test {
 protected:
  Tool() {
    std::string pattern = (fs::temp_directory_path() / "chorus-results-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~Tool() override { fs::remove_all(folder_); }

  std::string In(const std::string& name) const { return folder_ + "/" + name; }
  std::string Content(const std::string& name) const {
    std::ifstream in(In(name), std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
  }

  // The exit code; what it prints, to both outputs, is in output_.
  int Run(std::vector<std::string> arguments) {
    const std::string output = In("output");
    std::vector<char*> raw;
    arguments.insert(arguments.begin(), CHORUS_TOOL);
    for (std::string& argument : arguments) raw.push_back(argument.data());
    raw.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output.c_str(),
                                     O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    pid_t pid = 0;
    const int failed = ::posix_spawn(&pid, CHORUS_TOOL, &actions, nullptr, raw.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    int status = 0;
    if (failed == 0) ::waitpid(pid, &status, 0);
    output_ = Content("output");
    return failed == 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  std::string folder_;
  std::string output_;
};

// --- results ---

TaskSpec Telemetry() {
  TaskSpec task;
  task.name = "telemetry";
  task.protocol = Protocol::kPlain;
  task.queries = {{.name = "players", .kind = QueryKind::kCount},
                  {.name = "speed",
                   .kind = QueryKind::kHistogram,
                   .columns = {0},
                   .low = 0,
                   .high = 1,
                   .bins = 2},
                  {.name = "won",
                   .kind = QueryKind::kTable,
                   .columns = {1, 2},
                   .low = 0,
                   .high = 1,
                   .bins = 2,
                   .unit = 0.5F},
                  {.name = "fit",
                   .kind = QueryKind::kMoments,
                   .columns = {0, 2},
                   .low = 0,
                   .high = 1,
                   .unit = 0.5F}};
  return task;
}

// 2 + 4 + 7 + 6 cells.
const std::vector<int64_t> kCells = {
    40, 7, 1, 2, 30, 7, 10, 12, 20, 30, 30, 30, 0, 40, 5, 6, 7, 8, 9'007'199'254'740'993};

class Results : public Tool {
 protected:
  // Two rounds: the first aborted, the second and the third with answers.
  void MakeState(const TaskSpec& task) {
    fs::create_directory(In("state"));
    const Result<std::unique_ptr<Store>> store = NewSqliteStore(In("state/coordinator.db"));
    ASSERT_THAT(store, IsOk());
    TaskRecord record;
    const Digest name = crypto::Sha256(ViewOf(task.name));
    std::copy_n(name.begin(), record.id.size(), record.id.begin());
    record.name = task.name;
    record.spec = wire::EncodeTask(task);
    record.rounds_begun = 3;
    record.rounds_committed = 2;
    const auto write = [&](Transaction& transaction) -> Status {
      CHORUS_TRY(transaction.PutTask(record));
      RoundReport aborted;
      aborted.round = 1;
      aborted.state = RoundState::kAborted;
      CHORUS_TRY(transaction.PutRound(record.id, aborted));
      for (const uint64_t number : {2, 3}) {
        std::vector<int64_t> cells = kCells;
        if (number == 2) cells[0] = 39;
        const Bytes bytes = learning::EncodeAnswers(cells);
        RoundReport round;
        round.round = number;
        round.state = RoundState::kCommitted;
        round.contributors = 7;
        round.examples = 40;
        round.answers = crypto::Sha256(bytes);
        CHORUS_TRY(transaction.PutModel(round.answers, bytes));
        CHORUS_TRY(transaction.PutRound(record.id, round));
      }
      return OkStatus();
    };
    ASSERT_THAT((*store)->RunTransaction("write", write), IsOk());
  }
};

TEST_F(Results, AreTablesOfTheLastRoundThatCommitted) {
  MakeState(Telemetry());
  ASSERT_EQ(Run({"results", "--state", In("state"), "--task", "telemetry"}), 0) << output_;
  for (const char* const text :
       {"round 3: 40 examples of 7 clients", "players (count)\n  40 examples of 7 clients",
        "below 0                                 1", "[0.5, 1)                               30",
        "1 and above                             7", "of no arm: 0", "units of 0.5",
        "9007199254740993"}) {
    EXPECT_THAT(output_, HasSubstr(text));
  }
  ASSERT_EQ(Run({"results", "--state", In("state"), "--task", "telemetry", "--round", "2"}), 0);
  EXPECT_THAT(output_, HasSubstr("39 examples of 7 clients"));
}

TEST_F(Results, AreExactInJson) {
  MakeState(Telemetry());
  ASSERT_EQ(
      Run({"results", "--state", In("state"), "--task", "telemetry", "--json", In("out.json")}), 0)
      << output_;
  const auto json = nlohmann::json::parse(Content("out.json"));
  EXPECT_EQ(json["round"], 3);
  EXPECT_EQ(json["clients"], 7);
  ASSERT_EQ(json["queries"].size(), 4U);
  EXPECT_EQ(json["queries"][0]["examples"], 40);
  EXPECT_EQ(json["queries"][1]["bins"], nlohmann::json({2, 30}));
  EXPECT_EQ(json["queries"][1]["edges"], nlohmann::json({0.0, 0.5, 1.0}));
  EXPECT_EQ(json["queries"][2]["arms"][0]["count"], 10);
  EXPECT_EQ(json["queries"][2]["arms"][0]["mean"], 0.6);
  EXPECT_EQ(json["queries"][3]["products_in_units"].back(), 9'007'199'254'740'993);
}

TEST_F(Results, SayWhyThereAreNone) {
  MakeState(Telemetry());
  const auto results = [this](const std::string& task, const std::string& round) {
    return Run({"results", "--state", In("state"), "--task", task, "--round", round});
  };
  EXPECT_EQ(results("other", "3"), 1);
  EXPECT_THAT(output_, HasSubstr("no task of this name"));
  EXPECT_EQ(results("telemetry", "1"), 1);
  EXPECT_THAT(output_, HasSubstr("round 1 has not committed"));
  fs::remove_all(In("state"));
  TaskSpec trains = Telemetry();
  trains.queries.clear();
  trains.model = {.inputs = 1, .layers = {{.units = 2}}};
  MakeState(trains);
  EXPECT_EQ(results("telemetry", "3"), 1);
  EXPECT_THAT(output_, HasSubstr("asks no queries"));
}

// --- a task that starts from a model file ---

constexpr const char* kTask =
    "name: \"clouds\"\nprotocol: PROTOCOL_PLAIN\nmodel { inputs: 2 layers { units: 3 "
    "activation: ACTIVATION_TANH } layers { units: 2 } }\n";

class Start : public Tool {
 protected:
  // Serves `task` for a moment that does not come: nobody takes part, and it is stopped by what is
  // wrong with the file, or else by the task's own mistake.
  int Serve(const std::string& task, const ModelSpec& model, size_t values) {
    std::ofstream(In("task")) << task;
    Bytes file = EncodeModelFile(model, Weights(values, 0.5F));
    EXPECT_THAT(WriteFile(In("model"), file, WriteOptions{.existing = Existing::kReplace}), IsOk());
    if (!fs::exists(In("keys"))) {
      EXPECT_EQ(Run({"keys", "init", "--dir", In("keys")}), 0);
    }
    return Run({"serve", "--task", In("task"), "--keys", In("keys"), "--state", In("state"),
                "--listen", "256.0.0.1:0", "--start", In("model")});
  }
};

TEST_F(Start, SaysInWhatTheModelsDiffer) {
  const ModelSpec right = {.inputs = 2,
                           .layers = {{.units = 3, .activation = Activation::kTanh}, {.units = 2}}};
  ModelSpec other = right;
  other.inputs = 4;
  EXPECT_EQ(Serve(kTask, other, 4 * 3 + 3 + 3 * 2 + 2), 1);
  EXPECT_THAT(output_, HasSubstr("its inputs are 4, and the task's 2"));
  other = right;
  other.layers[0].units = 5;
  EXPECT_EQ(Serve(kTask, other, 2 * 5 + 5 + 5 * 2 + 2), 1);
  EXPECT_THAT(output_, HasSubstr("of its layer 1 the units are 5, and the task's 3"));
  other = right;
  other.layers[0].activation = Activation::kRelu;
  EXPECT_EQ(Serve(kTask, other, 17), 1);
  EXPECT_THAT(output_, HasSubstr("of its layer 1 the activation is number 1, and the task's 2"));
  other = right;
  other.layers.push_back({.units = 2});
  EXPECT_EQ(Serve(kTask, other, 23), 1);
  EXPECT_THAT(output_, HasSubstr("the number of its layers is 3, and the task's 2"));
  other = right;
  other.loss = Loss::kSquaredError;
  EXPECT_EQ(Serve(kTask, other, 17), 1);
  EXPECT_THAT(output_, HasSubstr("its loss is number 1, and the task's 0"));
  EXPECT_EQ(Serve(kTask, right, 16), 1);
  EXPECT_THAT(output_, HasSubstr("holds 16 parameters in place of 17"));
}

TEST_F(Start, BeginsTheTaskWithTheFilesWeights) {
  const ModelSpec model = {.inputs = 2,
                           .layers = {{.units = 3, .activation = Activation::kTanh}, {.units = 2}}};
  // No port can be had, but the task is in the store by then.
  EXPECT_EQ(Serve(kTask, model, 17), 1);
  ASSERT_EQ(Run({"export", "--state", In("state"), "--task", "clouds", "--out", In("exported")}), 0)
      << output_;
  EXPECT_EQ(Content("exported"), Content("model"));
  // It goes on from there, whatever has become of the file.
  fs::remove(In("model"));
  EXPECT_EQ(Run({"serve", "--task", In("task"), "--keys", In("keys"), "--state", In("state"),
                 "--listen", "256.0.0.1:0", "--start", In("model")}),
            1);
  EXPECT_THAT(output_, HasSubstr("goes on after 0 of 10 rounds"));
  EXPECT_THAT(output_, Not(HasSubstr(In("model"))));
}

TEST_F(Start, IsNothingForAnalytics) {
  EXPECT_EQ(Serve("name: \"a\"\nprotocol: PROTOCOL_PLAIN\nqueries { name: \"n\" }\n",
                  {.inputs = 1, .layers = {{.units = 2}}}, 4),
            1);
  EXPECT_THAT(output_, HasSubstr("leave out --start"));
}

// --- the audit ---

class Audit : public Tool {
 protected:
  int Ask(int port, const std::string& contains) {
    return Run({"audit", "--server", "127.0.0.1:" + std::to_string(port), "--plaintext", "--task",
                "played", "--contains", contains});
  }
  std::string LastLine() const {
    const size_t end = output_.rfind('\n', output_.size() - 2);
    return end == std::string::npos ? output_ : output_.substr(end + 1);
  }
};

TEST_F(Audit, IsCheckedFromItsFirstEntryHoweverLongItIs) {
  const std::unique_ptr<Clock> clock = NewSystemClock();
  const std::unique_ptr<LogSink> log = NewStderrLogSink(LogLevel::kWarn);
  const std::unique_ptr<Store> store = NewMemoryStore();
  const std::unique_ptr<IdentityVerifier> verifier =
      trust::NewCertificateVerifier(crypto::Ed25519Public(Bytes(32, 2)), *clock);
  CoordinatorOptions options;
  options.listen = "127.0.0.1:0";
  options.plaintext = true;
  options.signing_seed = SecretBytes(Bytes(32, 1));
  TaskSpec& task = options.tasks.emplace_back().task;
  task.name = "played";
  task.protocol = Protocol::kPlain;
  task.model = {.inputs = 2, .layers = {{.units = 2}}};
  const Result<std::unique_ptr<Coordinator>> coordinator =
      Coordinator::Start(std::move(options), *store, *verifier, *clock, *log);
  ASSERT_THAT(coordinator, IsOk());
  for (int i = 0; i < 251; ++i) {
    ASSERT_THAT((*coordinator)->Pause({.task = "played", .reason = "a drill"}), IsOk());
    ASSERT_THAT((*coordinator)->Resume({.task = "played", .reason = "it is over"}), IsOk());
  }
  ASSERT_EQ(Ask((*coordinator)->port(), ""), 0) << LastLine();
  EXPECT_EQ(LastLine(), "503 entries, each signed and in its place\n");
  const size_t at = output_.find("  hash ") + 7;
  const std::string first = output_.substr(at, output_.find('\n', at) - at);
  EXPECT_EQ(Ask((*coordinator)->port(), first), 0) << LastLine();
  EXPECT_EQ(Ask((*coordinator)->port(), std::string(64, '0')), 1);
  EXPECT_NE(output_.find("does not contain"), std::string::npos) << LastLine();
}

TEST_F(Audit, IsNotWholeWithoutItsFirstEntries) {
  wire::AuditReply reply;
  for (uint64_t number = 1; number <= 3; ++number) {
    AuditEntry entry;
    entry.number = number;
    entry.action = AuditEntry::Action::kPaused;
    if (number > 1) entry.previous = AuditHash(reply.task_sha256, reply.entries.back());
    SignAudit(reply.task_sha256, Bytes(32, 3), entry);
    reply.entries.push_back(entry);
  }
  reply.entries.erase(reply.entries.begin());
  const auto answer = [&reply](std::string_view, const coordinator::Body&,
                               const coordinator::Reply& to) { to(wire::Encode(reply)); };
  const auto service =
      coordinator::Service::Start({.listen = "127.0.0.1:0", .plaintext = true}, answer);
  ASSERT_THAT(service, IsOk());
  const std::string last = ToHex(AuditHash(reply.task_sha256, reply.entries.back()));
  EXPECT_EQ(Ask((*service)->port(), last), 1);
  EXPECT_THAT(output_, HasSubstr("entries from 1 on, the coordinator begins with 2"));
  EXPECT_THAT(output_, Not(HasSubstr("each signed")));
}

}  // namespace
}  // namespace chorus::cli
