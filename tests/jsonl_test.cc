// JSON lines as tables and as text.
#include <string>

#include "cli/dataset.h"
#include "dataset_files.h"
#include "matchers.h"

namespace chorus {
namespace {

using cli::DataOptions;
using cli::ReadDataSet;
using testing::ElementsAre;
using testing::HasSubstr;
using JsonLines = DatasetTest;

TEST_F(JsonLines, ReadsNumbersArraysAndCategories) {
  DataOptions options;
  options.paths = {Write("rows.jsonl",
                         "{\"x\": [1, 2.5], \"win\": true, \"map\": \"ice\", \"y\": 1}\n\n"
                         "{\"map\": \"lava\", \"x\": [3, -4], \"y\": 0, \"win\": false}\n")};
  options.features = {"x", "win", "map:category"};
  options.labels = {"y"};
  options.test_percent = 0;
  options.clients = 1;
  const auto data = ReadDataSet(options, Classifier(5, 2));
  ASSERT_THAT(data.status(), IsOk());
  EXPECT_THAT(data->features, ElementsAre("x[0]", "x[1]", "win", "map=ice", "map=lava"));
  EXPECT_THAT(data->train.features, ElementsAre(1, 2.5, 1, 1, 0, 3, -4, 0, 0, 1));
}

TEST_F(JsonLines, NamesTheLineOfWhatIsWrong) {
  DataOptions options;
  options.labels = {"y"};
  options.test_percent = 0;
  options.clients = 1;
  struct Wrong {
    std::string line;
    std::string said;
  };
  for (const Wrong& wrong : {Wrong{"{\"x\": 1, \"y\" 0}", "rows.jsonl:2:14: this is no JSON"},
                             Wrong{"[1, 2]", "rows.jsonl:2:1: a line must be an object"},
                             Wrong{"{\"x\": [1, 2], \"y\": 0}", "rows.jsonl:2:x: 2 numbers"},
                             Wrong{"{\"y\": 0}", "rows.jsonl:2:x: no value of \"x\""},
                             Wrong{"{\"x\": {}, \"y\": 0}", "rows.jsonl:2:x: a value here"},
                             Wrong{"{\"x\": \"one\", \"y\": 0}", "rows.jsonl:2:x: \"one\""}}) {
    options.paths = {Write("rows.jsonl", "{\"x\": 1, \"y\": 0}\n" + wrong.line + "\n")};
    const auto data = ReadDataSet(options, Classifier(1, 2));
    EXPECT_THAT(data.status(), HasCode(Code::kInvalidArgument)) << wrong.line;
    EXPECT_THAT(data.status().message(), HasSubstr(wrong.said));
  }
}

TEST_F(JsonLines, CutsSpeechesIntoWindowsOfTokens) {
  DataOptions options;
  options.paths = {Write("roles.jsonl",
                         "{\"role\": \"A\", \"speeches\": [\"abab\", \"ba\"]}\n"
                         "{\"role\": \"B\", \"speeches\": \"b\\u00e4b\"}\n")};
  options.text = "speeches";
  options.user = "role";
  options.partition = "column";
  options.test_percent = 0;
  const auto data = ReadDataSet(options, Speaker(3, 6));
  ASSERT_THAT(data.status(), IsOk());
  EXPECT_THAT(data->vocabulary, ElementsAre("\n", "a", "b", "\u00e4", "\xEF\xBF\xBD"));
  EXPECT_THAT(data->clients, ElementsAre("A", "B"));
  // "abab\nba": each character but the first is predicted once; -1 fills the last window.
  EXPECT_THAT(data->train.features, ElementsAre(1, 2, 1, 2,  // abab
                                                2, 0, 2, 1,  // b\nba
                                                2, 3, 2, -1));
  EXPECT_EQ(data->train_of[1].begin, 2U);
}

TEST_F(JsonLines, TestsOnTheLastCharactersOfEachSpeaker) {
  DataOptions options;
  options.paths = {Write("roles.jsonl",
                         "{\"role\": \"A\", \"speeches\": \"0123456789\"}\n"
                         "{\"role\": \"A\", \"speeches\": \"012345678\"}\n")};
  options.text = "speeches";
  options.user = "role";
  options.partition = "column";
  options.test_percent = 20;
  const auto data = ReadDataSet(options, Speaker(8, 12));
  ASSERT_THAT(data.status(), IsOk());
  // 20 characters with the line's end between the two; the last 4 are held out, and the first of
  // those follows a character to train on.
  EXPECT_THAT(data->test.features, ElementsAre(5, 6, 7, 8, 9, -1, -1, -1, -1));
  ASSERT_EQ(data->test_of.size(), 1U);
  EXPECT_EQ(data->test_of[0].count, 1U);
}

// Who speaks in both files is one client; a speaker of the test set alone is nobody's.
TEST_F(JsonLines, GivesTheTestSetsLinesToTheirSpeakers) {
  DataOptions options;
  options.paths = {Write("roles.jsonl",
                         "{\"role\": \"A\", \"speeches\": \"aaa\"}\n"
                         "{\"role\": \"B\", \"speeches\": \"bbb\"}\n")};
  options.test_paths = {Write("test.jsonl",
                              "{\"role\": \"D\", \"speeches\": \"aba\"}\n"
                              "{\"role\": \"C\", \"speeches\": \"aab\"}\n"
                              "{\"role\": \"B\", \"speeches\": \"bba\"}\n")};
  options.text = "speeches";
  options.user = "role";
  options.partition = "column";
  const auto data = ReadDataSet(options, Speaker(2, 3));
  ASSERT_THAT(data.status(), IsOk());
  EXPECT_THAT(data->clients, ElementsAre("A", "B"));
  EXPECT_THAT(data->train.features, ElementsAre(0, 0, 0, 1, 1, 1));
  ASSERT_EQ(data->test_of.size(), 2U);
  EXPECT_EQ(data->test_of[0].count, 0U);
  EXPECT_EQ(data->test_of[1].count, 1U);
  EXPECT_THAT(data->test.features, ElementsAre(1, 1, 0, 0, 1, 0, 0, 0, 1));
}

TEST_F(JsonLines, TestsOnAllThatWholeSpeakersSaidAndTakesNoTokensFromThem) {
  std::string lines;
  for (const char role : std::string("abcdefgh")) {
    lines += std::string("{\"role\": \"") + role + "\", \"speeches\": \"" + std::string(10, role) +
             "\"}\n";
  }
  DataOptions options;
  options.paths = {Write("roles.jsonl", lines)};
  options.text = "speeches";
  options.user = "role";
  options.partition = "column";
  options.test_clients_percent = 25;
  const auto data = ReadDataSet(options, Speaker(9, 12));
  ASSERT_THAT(data.status(), IsOk());
  EXPECT_EQ(data->clients.size(), 6U);
  EXPECT_EQ(data->train.count(), 6U);
  EXPECT_EQ(data->test.count(), 2U);
  // A window of ten characters each, none of them cut off; to those who train, the others' are
  // characters like any that they never saw.
  for (const float token : data->train.features) EXPECT_GE(token, 0.0F);
  EXPECT_EQ(data->vocabulary.size(), 6U + 1);
  for (const float token : data->test.features) EXPECT_EQ(token, 6.0F);
}

TEST_F(JsonLines, KeepsTheMostFrequentTokensOfAVocabularyThatIsTooLarge) {
  DataOptions options;
  options.paths = {Write("roles.jsonl", "{\"speeches\": \"aaabbbccd\"}\n")};
  options.text = "speeches";
  options.clients = 1;
  options.test_percent = 0;
  const auto data = ReadDataSet(options, Speaker(8, 4));
  ASSERT_THAT(data.status(), IsOk());
  EXPECT_THAT(data->vocabulary, ElementsAre("a", "b", "c", "\xEF\xBF\xBD"));
  EXPECT_THAT(data->train.features, ElementsAre(0, 0, 0, 1, 1, 1, 2, 2, 3));
  options.vocabulary = Write("tokens.txt", "dcb");
  const auto given = ReadDataSet(options, Speaker(8, 6));
  ASSERT_THAT(given.status(), IsOk());
  EXPECT_THAT(given->vocabulary, ElementsAre("\n", "b", "c", "d", "\xEF\xBF\xBD"));
}

TEST_F(JsonLines, NamesTheLineOfASpeechThatIsNone) {
  DataOptions options;
  options.text = "speeches";
  options.user = "role";
  options.partition = "column";
  for (const std::string line : {"{\"role\": \"A\"}", "{\"role\": \"A\", \"speeches\": [1]}",
                                 "{\"speeches\": \"x\"}", "{\"role\": [], \"speeches\": \"x\"}"}) {
    options.paths = {Write("roles.jsonl", "{\"role\": \"A\", \"speeches\": \"ab\"}\n" + line)};
    const auto data = ReadDataSet(options, Speaker(3, 6));
    EXPECT_THAT(data.status(), HasCode(Code::kInvalidArgument)) << line;
    EXPECT_THAT(data.status().message(), HasSubstr("roles.jsonl:2:")) << line;
  }
}

}  // namespace
}  // namespace chorus
