// docs/adversary.md is the list of attacks and of the tests against them. It is held against the
// tests themselves here, so that neither goes without the other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace chorus {
namespace {

namespace fs = std::filesystem;
using Names = std::set<std::string>;

std::string TextOf(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

// Over which graphs the tests of a suite run; nothing for one that is about none in particular.
const std::map<std::string, Names>& GraphsOfSuites() {
  static const std::map<std::string, Names> graphs = {
      {"Attack", {"complete", "self-selected", "ring"}},
      {"MaliciousAttack", {"complete", "self-selected"}},
      {"AcknowledgementAttack", {"complete", "self-selected"}},
      {"CompleteAttack", {"complete"}},
      {"SelfSelectedAttack", {"self-selected"}},
      {"LayerAttack", {"any"}},
      {"MaliciousServers", {"complete", "self-selected"}},
      {"LargeMaliciousServer", {"self-selected"}},
      {"SelfSelectedClient", {"self-selected"}},
      {"SelfSelectedServer", {"self-selected"}},
      {"HararyClient", {"ring"}},
      {"Equivocation", {}},
  };
  return graphs;
}

// "Suite.Name" of every test in tests/.
Names TestsThatExist() {
  static const std::regex test(R"(TEST(?:_P|_F)?\(\s*(\w+),\s*(\w+)\))");
  Names names;
  for (const auto& entry : fs::directory_iterator(fs::path(CHORUS_SOURCE_DIR) / "tests")) {
    if (entry.path().extension() != ".cc") continue;
    const std::string text = TextOf(entry.path());
    for (std::sregex_iterator match(text.begin(), text.end(), test), end; match != end; ++match) {
      names.insert((*match)[1].str() + "." + (*match)[2].str());
    }
  }
  return names;
}

struct Row {
  int number = 0;
  Names graphs;
  Names tests;
};

Names Split(const std::string& list) {
  static const std::regex item(R"([^,\s`]+)");
  return {std::sregex_token_iterator(list.begin(), list.end(), item), {}};
}

std::vector<Row> RowsOfThePage() {
  static const std::regex line(
      R"(\| (\d+) \| [^|\n]+ \| [^|\n]+ \| [^|\n]+ \| ([^|\n]+) \| ([^|\n]+) \|)");
  const std::string text = TextOf(fs::path(CHORUS_SOURCE_DIR) / "docs" / "adversary.md");
  std::vector<Row> rows;
  for (std::sregex_iterator match(text.begin(), text.end(), line), end; match != end; ++match) {
    rows.push_back({std::stoi((*match)[1]), Split((*match)[2]), Split((*match)[3])});
  }
  return rows;
}

TEST(AdversaryPage, HasEachAttackOnceAndInOrder) {
  const std::vector<Row> rows = RowsOfThePage();
  ASSERT_EQ(rows.size(), 42U);
  for (int i = 0; i < 42; ++i) EXPECT_EQ(rows[static_cast<size_t>(i)].number, i + 1);
}

TEST(AdversaryPage, NamesOnlyTestsThatExistAndTheGraphsTheyRunOver) {
  const Names existing = TestsThatExist();
  for (const Row& row : RowsOfThePage()) {
    Names graphs;
    for (const std::string& test : row.tests) {
      EXPECT_TRUE(existing.contains(test)) << row.number << ": " << test;
      const auto suite = GraphsOfSuites().find(test.substr(0, test.find('.')));
      ASSERT_NE(suite, GraphsOfSuites().end()) << row.number << ": " << test;
      graphs.insert(suite->second.begin(), suite->second.end());
    }
    EXPECT_EQ(row.graphs, graphs) << "attack " << row.number;
  }
}

TEST(AdversaryPage, NamesEveryTestOfAnAttackInItsRow) {
  static const std::regex numbered(R"(\w*Attack\.(\d+)_\w+)");
  std::map<int, Names> named;
  for (const Row& row : RowsOfThePage()) named[row.number] = row.tests;
  size_t found = 0;
  for (const std::string& test : TestsThatExist()) {
    std::smatch match;
    if (!std::regex_match(test, match, numbered)) continue;
    ++found;
    EXPECT_TRUE(named[std::stoi(match[1])].contains(test)) << test;
  }
  EXPECT_GT(found, 42U);
}

}  // namespace
}  // namespace chorus
