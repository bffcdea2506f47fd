// What `chorus status` and its --watch tell: replies in, text out.
#include "cli/status_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace chorus::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

wire::StatusReply Running() {
  wire::StatusReply reply;
  reply.task = "outfits";
  reply.rounds_wanted = 10;
  reply.rounds_begun = 4;
  reply.rounds_committed = 2;
  reply.clients = 12;
  reply.step = "masked input";
  reply.steps = {{.name = "training"},
                 {.name = "keys"},
                 {.name = "masked input", .brings_input = true},
                 {.name = "unmasking"}};
  for (uint64_t n = 1; n <= 4; ++n) {
    RoundReport round;
    round.round = n;
    round.state = n == 2   ? RoundState::kAborted
                  : n == 4 ? RoundState::kOpen
                           : RoundState::kCommitted;
    if (n == 2) round.reason = "too few clients were left";
    round.invited = 10;
    round.contributors = n == 2 ? 0 : 9;
    round.dropouts = {1, 0, 0, 0};
    round.evaluated = n == 2 || n == 4 ? 0 : 50;
    round.accuracy = 0.5 + 0.1 * static_cast<double>(n);
    round.bytes_up = 1'000'000;
    round.bytes_down = 3'000'000;
    round.duration_ms = 1'500;
    reply.rounds.push_back(round);
  }
  wire::RoundInFlight now;
  now.round.round = 4;
  now.round.invited = 10;
  now.round.dropouts = {1, 1};
  now.running_ms = 3'200;
  now.asked = 8;
  now.answered = 5;
  reply.in_flight = now;
  return reply;
}

std::string Joined(const std::vector<std::string>& lines) {
  std::string all;
  for (const std::string& line : lines) all += line + "\n";
  return all;
}

TEST(WatchScreen, ShowsWhereTheRoundIsAndWhoWasLost) {
  const std::string text = Joined(WatchScreen(Running(), {.server = "host:1"}, {80, 40}));
  for (const char* words :
       {"outfits", "running", "host:1", "2 of 10 committed, 1 aborted", "12 checked in", "round 4",
        "masked input, 5 of 8 answered, for 3.2 s", "training > keys > [masked input] > unmasking",
        "  10\n", "training 3 (in 3 rounds)", "3.0 MB received, 9.0 MB sent",
        "100 kB and 300 kB a client and round", "0.8000", "too few clients were left"}) {
    EXPECT_THAT(text, HasSubstr(words));
  }
  EXPECT_THAT(text, Not(HasSubstr("\033")));
}

TEST(WatchScreen, ShowsTheFunnelOfTheRoundInFlight) {
  const std::vector<std::string> lines = WatchScreen(Running(), {}, {80, 40});
  const auto ends = [&](const std::string& label, const std::string& number) {
    for (const std::string& line : lines) {
      if (line.rfind(label, 0) == 0) return line.ends_with("  " + number);
    }
    return false;
  };
  EXPECT_TRUE(ends("checked in", "12"));
  EXPECT_TRUE(ends("invited", "10"));
  EXPECT_TRUE(ends("trained", "9"));
  EXPECT_TRUE(ends("uploaded", "5"));
  EXPECT_TRUE(ends("in the sum", "0"));
}

TEST(WatchScreen, FitsEveryTerminal) {
  wire::StatusReply reply = Running();
  reply.task = std::string(150, 'n') + "日本";
  reply.rounds[1].reason = std::string(300, 'r');
  for (const bool colour : {false, true}) {
    for (size_t columns = 1; columns <= 100; columns += 9) {
      for (size_t rows = 1; rows <= 60; rows += 7) {
        const std::vector<std::string> lines = WatchScreen(
            reply, {.server = "s", .trouble = "gone", .colour = colour}, {columns, rows});
        EXPECT_LE(lines.size(), rows);
        for (const std::string& line : lines) EXPECT_LE(ColumnsOf(line), columns) << line;
      }
    }
  }
}

TEST(WatchScreen, EndsEveryColourThatItBegins) {
  for (size_t columns = 1; columns <= 80; ++columns) {
    for (const std::string& line :
         WatchScreen(Running(), {.server = "s", .trouble = "", .colour = true}, {columns, 40})) {
      const size_t last = line.rfind("\033[");
      if (last != std::string::npos) {
        EXPECT_EQ(line.substr(last, 4), "\033[0m") << line;
      }
    }
  }
}

TEST(WatchScreen, SaysHowOldItsFiguresAreWhenNobodyAnswers) {
  const std::string text = Joined(WatchScreen(
      Running(), {.server = "s", .trouble = "connection refused", .heard_s = 9}, {80, 40}));
  EXPECT_THAT(text, AllOf(HasSubstr("unreachable"), HasSubstr("9 s ago: connection refused")));
}

TEST(WatchScreen, SaysThatThereIsNothingYet) {
  wire::StatusReply reply;
  reply.task = "new";
  reply.rounds_wanted = 3;
  const std::string text = Joined(WatchScreen(reply, {}, {80, 24}));
  EXPECT_THAT(text, AllOf(HasSubstr("waiting for clients"), HasSubstr("no round is open"),
                          Not(HasSubstr("accuracy")), Not(HasSubstr("invited"))));
  reply.rounds_begun = reply.rounds_committed = 3;
  EXPECT_THAT(Joined(WatchScreen(reply, {}, {80, 24})), HasSubstr("complete"));
}

TEST(WatchScreen, ListsTheTasksWhereThereAreSeveral) {
  wire::StatusReply reply = Running();
  reply.tasks = {{.name = "outfits", .rounds_wanted = 10}};
  EXPECT_THAT(Joined(WatchScreen(reply, {}, {80, 40})), Not(HasSubstr("tasks")));
  reply.tasks.push_back({.name = "skill", .rounds_wanted = 5, .clients = 3, .step = "keys"});
  EXPECT_THAT(Joined(WatchScreen(reply, {}, {80, 40})),
              AllOf(HasSubstr("tasks      outfits  0 of 10 committed"),
                    HasSubstr("           skill  0 of 5 committed, 3 clients, keys")));
  EXPECT_THAT(StatusText(reply), HasSubstr("skill"));
}

TEST(WatchLine, ChangesWhenSomethingHappens) {
  wire::StatusReply reply = Running();
  const std::string before = WatchLine(reply);
  EXPECT_EQ(before,
            "outfits: 2 of 10 rounds committed, 12 clients; round 4, masked input, 5 of 8 "
            "answered; round 3 committed, accuracy 0.8000");
  reply.in_flight->running_ms += 1'000;
  EXPECT_EQ(WatchLine(reply), before);
  ++reply.in_flight->answered;
  EXPECT_NE(WatchLine(reply), before);
}

TEST(Sparkline, RunsFromTheLowestToTheHighest) {
  const double rising[] = {0, 1, 2, 3, 4, 5, 6, 7};
  EXPECT_EQ(Sparkline(rising, 8), "▁▂▃▄▅▆▇█");
  EXPECT_EQ(Sparkline(rising, 2), "▁█");
  const double flat[] = {2, 2};
  EXPECT_EQ(ColumnsOf(Sparkline(flat, 8)), 2U);
  EXPECT_EQ(Sparkline({}, 8), "");
}

TEST(ColumnsOf, CountsWhatATerminalShows) {
  EXPECT_EQ(ColumnsOf("abc"), 3U);
  EXPECT_EQ(ColumnsOf("é█▁"), 3U);
  EXPECT_EQ(ColumnsOf("日本"), 4U);
  EXPECT_EQ(ColumnsOf("\033[31mred\033[0m"), 3U);
  EXPECT_EQ(ColumnsOf("\033["), 0U);
}

TEST(StatusText, TellsTheTaskAndItsRounds) {
  const std::string text = StatusText(Running());
  EXPECT_THAT(text, HasSubstr("task outfits: 2 of 10 rounds committed, 4 begun\nclients: 12\n"
                              "step: masked input, 5 of 8 answered\n"));
  EXPECT_THAT(text, HasSubstr("     2  aborted"));
  EXPECT_THAT(text, HasSubstr("too few clients were left"));
}

}  // namespace
}  // namespace chorus::cli
