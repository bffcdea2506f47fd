// The tool: how it keeps files, what it prints, and what it refuses.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "aggregation/protocols.h"
#include "cli/files.h"
#include "cli/report.h"
#include "matchers.h"

extern char** environ;

namespace chorus::cli {
namespace {

namespace fs = std::filesystem;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

class CliTest : public testing::Test {
 protected:
  CliTest() {
    std::string pattern = (fs::temp_directory_path() / "chorus-cli-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~CliTest() override { fs::remove_all(folder_); }

  std::string In(const std::string& name) const { return folder_ + "/" + name; }

  std::string Content(const std::string& name) const {
    std::ifstream in(In(name), std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
  }

  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::recursive_directory_iterator(folder_)) {
      names.push_back(entry.path().filename());
    }
    return names;
  }

  mode_t ModeOf(const std::string& name) const {
    struct stat about {};
    EXPECT_EQ(::stat(In(name).c_str(), &about), 0) << name;
    return about.st_mode & 0777U;
  }

  struct Outcome {
    int exit_code = -1;
    std::string output;  // standard output and error
  };
  Outcome RunTool(std::vector<std::string> arguments) const {
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
    EXPECT_EQ(failed, 0);
    int status = 0;
    if (failed == 0) ::waitpid(pid, &status, 0);
    Outcome outcome{.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                    .output = Content("output")};
    fs::remove(output);
    return outcome;
  }

  std::string folder_;
};

// --- files ---------------------------------------------------------------------------------------

TEST_F(CliTest, WritesWholeFilesWithTheirMode) {
  EXPECT_THAT(WriteFile(In("a"), ViewOf("one"), WriteOptions{}), IsOk());
  EXPECT_THAT(WriteFile(In("b"), ViewOf("two"), WriteOptions{.access = Access::kSecret}), IsOk());
  EXPECT_EQ(Content("a"), "one");
  EXPECT_EQ(ModeOf("b"), 0600U);
  EXPECT_THAT(Names(), SizeIs(2));
}

TEST_F(CliTest, ReplacesOnlyWhenTold) {
  EXPECT_THAT(WriteFile(In("a"), ViewOf("one"), WriteOptions{}), IsOk());
  EXPECT_THAT(WriteFile(In("a"), ViewOf("two"), WriteOptions{}),
              HasCodeAndText(Code::kAlreadyExists, "not overwritten"));
  EXPECT_EQ(Content("a"), "one");
  EXPECT_THAT(WriteFile(In("a"), ViewOf("two"), WriteOptions{.existing = Existing::kReplace}),
              IsOk());
  EXPECT_EQ(Content("a"), "two");
}

TEST_F(CliTest, LeavesNothingBehindWhenTheDiskIsFull) {
  EXPECT_THAT(WriteFile(In("a"), ViewOf("old"), WriteOptions{}), IsOk());
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{.rlim_cur = 4'096, .rlim_max = 4'096};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const Status status =
        WriteFile(In("a"), Bytes(10'000), WriteOptions{.existing = Existing::kReplace});
    ::_exit(status.code() == Code::kResourceExhausted ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_EQ(Content("a"), "old");
  EXPECT_THAT(Names(), SizeIs(1));
}

TEST_F(CliTest, ReadsBackSeedsAndRefusesOthers) {
  SecretBytes seed(32);
  for (size_t i = 0; i < seed.size(); ++i) seed.RevealMutable()[i] = static_cast<uint8_t>(i * 7);
  EXPECT_THAT(WriteSeed(In("seed"), seed.Reveal()), IsOk());
  EXPECT_EQ(ModeOf("seed"), 0600U);
  const Result<SecretBytes> read = ReadSeed(In("seed"));
  ASSERT_THAT(read, IsOk());
  EXPECT_TRUE(std::ranges::equal(read->Reveal(), seed.Reveal()));

  const std::vector<std::string> refused = {"", "00", std::string(63, '0'), std::string(66, '0'),
                                            std::string(64, 'g')};
  for (const std::string& bad : refused) {
    std::ofstream(In("bad")) << bad;
    EXPECT_THAT(ReadSeed(In("bad")), HasCodeAndText(Code::kDataLoss, "64 hexadecimal digits"));
  }
  EXPECT_THAT(ReadSeed(In("absent")), HasCode(Code::kNotFound));
  EXPECT_THAT(ReadFile(folder_, 100), HasCode(Code::kInvalidArgument));
  std::ofstream(In("long")) << std::string(101, 'x');
  EXPECT_THAT(ReadFile(In("long"), 100), HasCode(Code::kResourceExhausted));
  EXPECT_THAT(ReadFile(In("long"), 101), IsOk());
}

TEST_F(CliTest, MakesFoldersAndSaysWhenAFileIsInTheWay) {
  EXPECT_THAT(MakeFolder(In("a/b/c"), Access::kSecret), IsOk());
  EXPECT_THAT(MakeFolder(In("a/b/c"), Access::kSecret), IsOk());
  EXPECT_EQ(ModeOf("a/b/c"), 0700U);
  std::ofstream(In("file")) << "x";
  EXPECT_THAT(MakeFolder(In("file"), Access::kPublic), HasCode(Code::kFailedPrecondition));
  EXPECT_THAT(MakeFolder(In("file/below"), Access::kPublic), Not(IsOk()));
}

// --- reports -------------------------------------------------------------------------------------

TEST(CliReport, WritesNumbersForPeople) {
  EXPECT_EQ(ReadableBytes(999), "999 B");
  EXPECT_EQ(ReadableBytes(1'000), "1.0 kB");
  EXPECT_EQ(ReadableBytes(334'499), "334 kB");
  EXPECT_EQ(ReadableBytes(999'999), "1.0 MB");
  EXPECT_EQ(ReadableBytes(3'400'000'000), "3.4 GB");
  EXPECT_EQ(ReadableSeconds(4'240), "4.2 s");
}

TEST(CliReport, TellsARoundInOneLine) {
  const auto steps = aggregation::StepNames(Protocol::kSecAgg, SharingGraph::kComplete);
  RoundReport round;
  round.round = 3;
  round.state = RoundState::kCommitted;
  round.invited = 20;
  round.contributors = 17;
  round.dropouts = {1, 0, 0, 0, 2, 0, 0};
  round.refused = 1;
  round.bytes_up = 20 * 334'000;
  round.bytes_down = 20 * 419'000;
  round.duration_ms = 4'200;
  const std::string line = RoundLine(round, steps, Measured{.accuracy = 0.81234, .loss = 0.5});
  EXPECT_THAT(line, HasSubstr("round   3: accuracy 0.8123, loss 0.5000; 17/20 contributed"));
  EXPECT_THAT(line, HasSubstr("3 dropped out (train 1, "));
  EXPECT_THAT(line, HasSubstr(" 2), 1 refused; a client 334 kB up, 419 kB down; 4.2 s"));
  EXPECT_THAT(line, Not(HasSubstr("\n")));

  round.state = RoundState::kAborted;
  round.reason = "too few are left";
  EXPECT_THAT(RoundLine(round, steps, {}), HasSubstr("aborted, too few are left; "));
}

TEST(CliReport, DrawsCurvesOfEveryLength) {
  EXPECT_THAT(TextCurve({}), HasSubstr("no curve"));
  for (const size_t rounds : {1U, 2U, 10U, 70U, 71U, 1'000U}) {
    std::vector<CurvePoint> curve;
    for (size_t i = 0; i < rounds; ++i) {
      curve.push_back({i + 1, static_cast<double>(i % 7) / 6.0});
    }
    const std::string text = TextCurve(curve);
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80U);
    EXPECT_THAT(text, HasSubstr("*"));
    EXPECT_THAT(text, HasSubstr("round 1"));
    const std::string svg = SvgCurve(curve, "a <b> & c");
    EXPECT_THAT(svg, HasSubstr("a &lt;b&gt; &amp; c"));
    EXPECT_THAT(svg, Not(HasSubstr("nan")));
    EXPECT_EQ(svg.find("http"), svg.find("http://www.w3.org/2000/svg"));
  }
}

// --- the program ---------------------------------------------------------------------------------

TEST_F(CliTest, EndsWithTwoOnAWrongCommandLine) {
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {},
           {"sing"},
           {"serve"},
           {"keys"},
           {"keys", "init"},
           {"keys", "committee", "--dir", In("k"), "--members", "0"},
           {"keys", "committee", "--dir", In("k"), "--members", "257"},
           {"committee"},
           {"committee", "--server", "a", "--keys", "b", "--data", "c"},
           {"keys", "init", "--dir", In("k"), "--days", "x"},
           {"status", "--server", "a", "--plaintext", "--tls-authority", "b"}}) {
    EXPECT_EQ(RunTool(arguments).exit_code, 2) << arguments.size();
  }
  EXPECT_EQ(RunTool({"--help"}).exit_code, 0);
  EXPECT_EQ(RunTool({"--version"}).exit_code, 0);
}

TEST_F(CliTest, ExplainsEveryOption) {
  for (const char* command : {"split", "serve", "train", "committee", "status", "export", "results",
                              "report", "simulate"}) {
    const Outcome help = RunTool({command, "--help"});
    EXPECT_EQ(help.exit_code, 0);
    std::istringstream lines(help.output);
    bool explained = true;
    for (std::string line; std::getline(lines, line);) {
      const bool option = line.rfind("  --", 0) == 0;
      EXPECT_TRUE(!option || explained) << command << ": the option before " << line;
      // The explanation stands in a column of its own, on this line or on the next.
      if (option) explained = line.size() > 30 && line.find_first_not_of(' ', 30) != line.npos;
      if (!option && line.size() > 30) explained = true;
    }
  }
}

TEST_F(CliTest, MakesKeysOnceAndSecretly) {
  const std::string keys = In("keys");
  EXPECT_EQ(RunTool({"keys", "init", "--dir", keys}).exit_code, 0);
  EXPECT_EQ(RunTool({"keys", "client", "--dir", keys, "--count", "2"}).exit_code, 0);
  for (const char* name : {"issuer.key", "coordinator.key", "tls-authority.key", "tls-server.key",
                           "clients/client-000/identity.key", "clients/client-001/identity.key"}) {
    EXPECT_EQ(ModeOf(std::string("keys/") + name), 0600U) << name;
  }
  for (const char* name : {"certificate", "coordinator.pub", "issuer.pub", "tls-authority.pem"}) {
    EXPECT_FALSE(Content(std::string("keys/clients/client-001/") + name).empty()) << name;
  }
  EXPECT_NE(Content("keys/clients/client-000/identity.key"),
            Content("keys/clients/client-001/identity.key"));

  const std::string before = Content("keys/issuer.key");
  const Outcome again = RunTool({"keys", "init", "--dir", keys});
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.output, HasSubstr("not overwritten"));
  EXPECT_EQ(Content("keys/issuer.key"), before);
  EXPECT_EQ(RunTool({"keys", "client", "--dir", keys, "--count", "3"}).exit_code, 1);
  EXPECT_EQ(RunTool({"keys", "client", "--dir", keys, "--count", "1", "--first", "2"}).exit_code,
            0);
}

TEST_F(CliTest, MakesACommitteeAndSaysHowFilesNameIt) {
  const std::string keys = In("keys");
  EXPECT_EQ(RunTool({"keys", "committee", "--dir", keys, "--members", "4"}).exit_code, 1)
      << "an issuer comes first";
  EXPECT_EQ(RunTool({"keys", "init", "--dir", keys}).exit_code, 0);
  const Outcome made = RunTool({"keys", "committee", "--dir", keys, "--members", "4"});
  EXPECT_EQ(made.exit_code, 0);
  std::string members;
  for (const char* member : {"member-001", "member-002", "member-003", "member-004"}) {
    const std::string folder = std::string("keys/committee/") + member + "/";
    EXPECT_EQ(ModeOf(folder + "identity.key"), 0600U);
    for (const char* name :
         {"certificate", "coordinator.pub", "issuer.pub", "tls-authority.pem", "identity.pub"}) {
      EXPECT_FALSE(Content(folder + name).empty()) << folder << name;
    }
    std::string key = Content(folder + "identity.pub");
    key.pop_back();
    EXPECT_THAT(made.output, HasSubstr("  members: \"" + key + "\"\n"));
    EXPECT_THAT(made.output, HasSubstr("\ncommittee: \"" + key + "\"\n"));
  }
  // What it prints is a task's and a policy's text.
  const size_t split = made.output.find("# of a policy file");
  ASSERT_NE(split, std::string::npos);
  std::ofstream(In("task")) << "name: \"a\"\nprotocol: PROTOCOL_ONE_SHOT\n"
                            << "model { inputs: 2 layers { units: 2 } }\ncohort { minimum: 0 }\n"
                            << made.output.substr(0, split);
  const Outcome serve =
      RunTool({"serve", "--task", In("task"), "--keys", keys, "--state", In("state")});
  EXPECT_THAT(serve.output, HasSubstr("cohort.minimum"));
  std::ofstream(In("policy")) << made.output.substr(split) << "honest: 1\n";
  const Outcome committee = RunTool({"committee", "--keys", keys + "/committee/member-001",
                                     "--server", "127.0.0.1:1", "--policy", In("policy")});
  EXPECT_EQ(committee.exit_code, 1);
  EXPECT_THAT(committee.output, HasSubstr("honest"));

  const std::string before = Content("keys/committee/member-001/identity.key");
  const Outcome again = RunTool({"keys", "committee", "--dir", keys, "--members", "4"});
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.output, HasSubstr("not overwritten"));
  EXPECT_EQ(Content("keys/committee/member-001/identity.key"), before);
}

TEST_F(CliTest, RunsAMemberOnlyWithItsKeys) {
  const Outcome outcome =
      RunTool({"committee", "--keys", In("none"), "--server", "127.0.0.1:1", "--plaintext"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.output, HasSubstr("identity.key"));
}

TEST_F(CliTest, SaysWhatIsWrongWithATask) {
  EXPECT_EQ(RunTool({"keys", "init", "--dir", In("keys")}).exit_code, 0);
  const auto serve = [&](const std::string& task) {
    std::ofstream(In("task")) << task;
    return RunTool({"serve", "--task", In("task"), "--keys", In("keys"), "--state", In("state"),
                    "--listen", "127.0.0.1:0", "--until-complete"});
  };
  const Outcome unknown = serve("name: \"a\"\nsecrecy: 1\n");
  EXPECT_EQ(unknown.exit_code, 1);
  EXPECT_THAT(unknown.output, HasSubstr("secrecy"));
  const Outcome impossible = serve(
      "name: \"a\"\nprotocol: PROTOCOL_SECAGG\nmodel { inputs: 2 layers { units: 2 } }\n"
      "cohort { minimum: 0 }\n");
  EXPECT_EQ(impossible.exit_code, 1);
  EXPECT_THAT(impossible.output, HasSubstr("cohort.minimum"));
  const Outcome absent =
      RunTool({"serve", "--task", In("none"), "--keys", In("keys"), "--state", In("state")});
  EXPECT_EQ(absent.exit_code, 1);
  EXPECT_THAT(absent.output, HasSubstr("none"));
}

TEST_F(CliTest, ServesNobodyWhereTheAuthorityOfClientsIsMissing) {
  EXPECT_EQ(RunTool({"keys", "init", "--dir", In("keys")}).exit_code, 0);
  std::ofstream(In("task")) << "name: \"a\"\nprotocol: PROTOCOL_SECAGG\n"
                            << "model { inputs: 2 layers { units: 2 } }\n";
  std::ofstream(In("empty.pem")) << "\n";
  const auto serve = [&](const std::string& authority) {
    return RunTool({"serve", "--task", In("task"), "--keys", In("keys"), "--state", In("state"),
                    "--listen", "127.0.0.1:0", "--until-complete", "--client-ca", authority});
  };
  // Each would have turned the authority off without a word.
  const Outcome empty = serve(In("empty.pem"));
  EXPECT_EQ(empty.exit_code, 1);
  EXPECT_THAT(empty.output, HasSubstr("holds no certificate"));
  const Outcome unset = serve("");
  EXPECT_EQ(unset.exit_code, 2);
  EXPECT_THAT(unset.output, HasSubstr("must not be empty"));
}

TEST_F(CliTest, SimulatesQueriesOverAllThatTheClientsHave) {
  std::ofstream(In("task")) << "name: \"ages\"\nprotocol: PROTOCOL_PLAIN\n"
                               "queries { name: \"people\" kind: QUERY_KIND_COUNT }\n"
                               "cohort { minimum: 4 target: 4 maximum: 4 }\nrounds: 1\n";
  std::ofstream data(In("data.csv"));
  data << "age\n";
  for (int i = 0; i < 40; ++i) data << i << "\n";
  data.close();
  const std::vector<std::string> command = {"simulate", "--task",       In("task"),
                                            "--data",   In("data.csv"), "--clients",
                                            "4",        "--report",     In("run.html")};
  const Outcome outcome = RunTool(command);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_THAT(outcome.output, HasSubstr("40 examples of 4 clients"));
  EXPECT_THAT(Content("run.html"), HasSubstr("40 examples of 4 clients"));
  EXPECT_THAT(Content("run.json"), HasSubstr("\"examples\": 40"));
  EXPECT_THAT(Content("run.csv"), HasSubstr(",40,4\n"));
  for (const std::string option :
       {"--out", "--start", "--target-accuracy", "--test-percent", "--test-clients"}) {
    std::vector<std::string> refused = command;
    refused.insert(refused.end(), {option, "1"});
    const Outcome no = RunTool(refused);
    EXPECT_EQ(no.exit_code, 1) << option;
    EXPECT_THAT(no.output, HasSubstr(option + " is for tasks that train a model"));
  }
}

TEST_F(CliTest, ExportsNothingFromAnEmptyFolder) {
  const Outcome outcome =
      RunTool({"export", "--state", folder_, "--task", "a", "--out", In("model")});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.output, HasSubstr("no coordinator's state"));
  EXPECT_FALSE(fs::exists(In("model")));
}

}  // namespace
}  // namespace chorus::cli
