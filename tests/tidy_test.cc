// The tree keeps its own rules. Each rule is tried first on text that breaks it and on text that
// does not, then on the tree.
#include "tidy_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace chorus::tidy {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// --- the tree ---

const fs::path& Top() {
  static const fs::path top = CHORUS_SOURCE_DIR;
  return top;
}

// Every text of the project: its folders, and the files at the top. Read once.
const std::vector<SourceFile>& Tree() {
  static const std::vector<SourceFile> tree = [] {
    std::vector<fs::path> paths;
    for (const char* folder : {"include", "src", "proto", "tests", "examples", "docs", ".ci"}) {
      for (const auto& entry : fs::recursive_directory_iterator(Top() / folder)) {
        // The fuzzers' inputs are data, whatever bytes are in them; the last is what npm fetched.
        const std::string path = entry.path().string();
        if (path.find("/tests/fuzz/corpus/") != std::string::npos ||
            path.find("/node_modules/") != std::string::npos) {
          continue;
        }
        if (entry.is_regular_file()) paths.push_back(entry.path());
      }
    }
    for (const auto& entry : fs::directory_iterator(Top())) {
      if (entry.is_regular_file()) paths.push_back(entry.path());
    }
    std::vector<SourceFile> files;
    for (const fs::path& path : paths) {
      std::ifstream in(path, std::ios::binary);
      std::ostringstream text;
      text << in.rdbuf();
      files.push_back({fs::relative(path, Top()).generic_string(), text.str()});
    }
    return files;
  }();
  return tree;
}

template <typename Rule>
Complaints OverTheTree(const Rule& rule) {
  Complaints all;
  for (const SourceFile& file : Tree()) {
    for (std::string& complaint : rule(file)) all.push_back(std::move(complaint));
  }
  return all;
}

std::string Joined(const Complaints& complaints) {
  std::string text;
  for (const std::string& complaint : complaints) text += complaint + "\n";
  return text;
}

#define EXPECT_CLEAN(rule)                                    \
  do {                                                        \
    const Complaints complaints = OverTheTree(rule);          \
    EXPECT_THAT(complaints, IsEmpty()) << Joined(complaints); \
  } while (false)

std::string Repeated(const std::string& line, size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) text += line;
  return text;
}

// --- the rules, tried
// ----------------------------------------------------------------------------

TEST(TidyRules, SeeAnIncludeThatPointsUpOrToASibling) {
  EXPECT_THAT(CheckLayers({"src/crypto/a.cc", "#include \"wire/wire.h\"\n"}),
              ElementsAre(HasSubstr("src/crypto/a.cc:1: crypto may not include")));
  EXPECT_THAT(CheckLayers({"src/client/a.cc", "\n#include \"coordinator/core.h\"\n"}),
              ElementsAre(HasSubstr(":2:")));
  EXPECT_THAT(CheckLayers({"src/coordinator/a.cc", "#include \"client/session.h\"\n"}).size(), 1);
  EXPECT_THAT(CheckLayers({"src/learning/a.cc", "#include \"trust/trust.h\"\n"}).size(), 1);
  EXPECT_THAT(CheckLayers({"include/chorus/a.h", "#include \"base/codec.h\"\n"}).size(), 1);
  EXPECT_THAT(CheckLayers({"examples/a.cc", "#include \"crypto/crypto.h\"\n"}).size(), 1);
  EXPECT_THAT(CheckLayers({"src/new_room/a.cc", ""}).size(), 1);
  EXPECT_THAT(CheckLayers({"src/crypto/a.cc", "#include \"base/codec.h\"\n#include <vector>\n"}),
              IsEmpty());
  EXPECT_THAT(CheckLayers({"src/cli/a.cc", "#include \"coordinator/core.h\"\n"}), IsEmpty());
}

TEST(TidyRules, SeeAThirdPartyOutsideItsPlace) {
  for (const char* include : {"<openssl/evp.h>", "<sodium.h>", "<Eigen/Core>", "<grpcpp/grpcpp.h>",
                              "\"chorus/v1/types.pb.h\"", "<sqlite3.h>", "<zlib.h>",
                              "<CLI/CLI.hpp>", "<absl/status/status.h>"}) {
    const std::string text = std::string("#include ") + include + "\n";
    EXPECT_THAT(CheckThirdParties({"src/math/a.cc", text}).size(), 1) << include;
    EXPECT_THAT(CheckThirdParties({"include/chorus/a.h", text}), Not(IsEmpty())) << include;
  }
  EXPECT_THAT(CheckThirdParties({"include/chorus/a.h", "#include <sys/stat.h>\n"}).size(), 1);
  EXPECT_THAT(CheckThirdParties({"src/crypto/a.cc", "#include <openssl/evp.h>\n"}), IsEmpty());
  EXPECT_THAT(
      CheckThirdParties({"include/chorus/a.h", "#include <span>\n#include \"chorus/bytes.h\"\n"}),
      IsEmpty());
}

TEST(TidyRules, SeeABannedWordInCodeOnly) {
  for (const Banned& banned : BannedInLibrary()) {
    const std::string line = "  x = " + banned.word + " y;\n";
    EXPECT_THAT(CheckBanned({"src/math/a.cc", line}).size(), 1) << banned.word;
    EXPECT_THAT(CheckBanned({"src/math/a.cc", "  // " + banned.word + "\n"}), IsEmpty());
    EXPECT_THAT(CheckBanned({"src/math/a.cc", "  f(\"" + banned.word + "\");\n"}), IsEmpty());
    EXPECT_THAT(CheckBanned({"src/math/a.cc", "  // NOLINT(tidy): why.\n" + line}), IsEmpty());
    EXPECT_THAT(CheckBanned({"tests/a.cc", line}), IsEmpty());
    if (banned.place.empty()) continue;
    EXPECT_THAT(CheckBanned({banned.place + (EndsWith(banned.place, "/") ? "a.cc" : ""), line}),
                IsEmpty());
  }
  EXPECT_THAT(CheckBanned({"src/math/a.cc", "static_assert(1); operand(1); retry; f'1';\n"}),
              IsEmpty());
}

TEST(TidyRules, SeeCodeBehindADigitSeparatorAndAfterAComment) {
  EXPECT_THAT(CheckBanned({"src/math/a.cc", "f(1'000, rand());\n"}).size(), 1);
  EXPECT_THAT(CheckBanned({"src/math/a.cc", "/* a */ rand(); // b\n"}).size(), 1);
  EXPECT_THAT(CheckBanned({"src/math/a.cc", "f('\"'); rand();\n"}).size(), 1);
  EXPECT_THAT(CheckBanned({"src/math/a.cc", "f(\"\\\"\"); rand();\n"}).size(), 1);
  EXPECT_THAT(CheckBanned({"src/math/a.cc", "f(R\"(\n\"rand()\n)\"); g();\n"}), IsEmpty());
}

TEST(TidyRules, SeeUnfinishedWords) {
  for (const std::string& word : UnfinishedWords()) {
    EXPECT_THAT(CheckFinished({"proto/a.proto", "// " + word + ": later\n"}).size(), 1) << word;
  }
  EXPECT_THAT(CheckFinished({"src/a.cc", "// FixMe\n"}).size(), 1);
  EXPECT_THAT(CheckFinished({"src/a.cc", "mktemp quickstart-XXXX; shackle; no?xxx\n"}), IsEmpty());
}

TEST(TidyRules, SeeLinesAndFilesThatAreTooLongOrUntidy) {
  EXPECT_THAT(CheckLines({"src/a.cc", std::string(101, 'x') + "\n"}).size(), 1);
  EXPECT_THAT(CheckLines({"src/a.cc", Repeated("×", 100) + "\n"}), IsEmpty());
  EXPECT_THAT(CheckLines({"docs/a.md", std::string(500, 'x') + "\n"}), IsEmpty());
  EXPECT_THAT(CheckLines({"docs/a.md", "x \n"}).size(), 1);
  EXPECT_THAT(CheckLines({"docs/a.md", "x"}).size(), 1);
  EXPECT_THAT(CheckLines({"src/a.cc", Repeated("\n", kFileLinesMax + 1)}).size(), 1);
  EXPECT_THAT(CheckLines({"src/a.cc", Repeated("\n", kFileLinesMax)}), IsEmpty());
}

TEST(TidyRules, SeeFunctionsThatAreTooLong) {
  const std::string body68 = Repeated("  if (x) { y(); }\n", 68);
  const auto count = [](const std::string& text) {
    return CheckFunctions({"src/a.cc", text}).size();
  };
  for (const std::string head :
       {"int F(int x) {\n", "Status A::B() const noexcept {\n", "TEST(A, B) {\n",
        "A::A(int x) : b_(x), c_{x} {\n", "template <typename T>\nauto F() -> int {\n"}) {
    const size_t extra = static_cast<size_t>(std::count(head.begin(), head.end(), '\n')) - 1;
    const std::string body = Repeated(" y();\n", 68 - extra);
    EXPECT_EQ(count(head + body + "}\n"), 0U) << head;
    EXPECT_EQ(count(head + body + " y();\n}\n"), 1U) << head;
    EXPECT_EQ(count("namespace a {\nclass B final : public C {\n public:\n" + head + body +
                    " y();\n}\n};\n}\n"),
              1U)
        << head;
  }
  EXPECT_EQ(count("void F() {\n" + body68 + "}\n\nvoid G() {\n" + body68 + "}\n"), 0U);
  EXPECT_EQ(count("const int a[] = {\n" + Repeated("  f(1),\n", 200) + "};\n"), 0U);
  EXPECT_EQ(count("class A {\n" + Repeated("  void F() { g(); }\n", 200) + "};\n"), 0U);
  EXPECT_EQ(count("#define A(x) \\\n  do {\nvoid F() {\n" + body68 + " y();\n}\n"), 1U);
}

TEST(TidyRules, SeeHeadersOutOfOrder) {
  EXPECT_THAT(CheckHeaders({"src/a/b.h", "// B.\nint b;\n"}, false).size(), 1);
  EXPECT_THAT(CheckHeaders({"src/a/b.h", "// B.\n#pragma once\n"}, false), IsEmpty());
  const SourceFile late = {"src/a/b.cc", "#include <vector>\n\n#include \"a/b.h\"\n"};
  EXPECT_THAT(CheckHeaders(late, true).size(), 1);
  EXPECT_THAT(CheckHeaders(late, false), IsEmpty());
  EXPECT_THAT(CheckHeaders({"src/a/b.cc", "#include \"a/b.h\"\n#include <map>\n"}, true),
              IsEmpty());
}

TEST(TidyRules, SeeDeadLinksAndTitles) {
  const auto exists = [](const std::string& path) { return path == "README.md"; };
  EXPECT_THAT(CheckPage({"docs/a.md", "# A\n[r](../README.md#top) [w](https://x.org)\n"}, exists),
              IsEmpty());
  EXPECT_THAT(CheckPage({"docs/a.md", "# A\n[r](README.md)\n"}, exists).size(), 1);
  EXPECT_THAT(CheckPage({"docs/a.md", "# A\n# B\n"}, exists).size(), 1);
  EXPECT_THAT(CheckPage({"docs/a.md", "A\n"}, exists).size(), 1);
  EXPECT_THAT(CheckPage({"docs/a.md", "# A\n```\n# not a title\n```\n"}, exists), IsEmpty());
}

TEST(TidyRules, SeeAFieldNumberUsedTwice) {
  const std::string one = "message A {\n  int32 x = 1;\n  oneof y {\n    B b = 2;\n  }\n";
  EXPECT_THAT(CheckProto({"proto/a.proto", one + "}\nmessage B {\n  int32 x = 1;\n}\n"}),
              IsEmpty());
  EXPECT_THAT(CheckProto({"proto/a.proto", one + "  int32 z = 2;  // again\n}\n"}).size(), 1);
}

// --- the rules, on the tree
// ----------------------------------------------------------------------

TEST(Tidy, IncludesPointDown) { EXPECT_CLEAN(CheckLayers); }

TEST(Tidy, ThirdPartiesStayInTheirPlaces) { EXPECT_CLEAN(CheckThirdParties); }

TEST(Tidy, LibraryUsesNothingBanned) { EXPECT_CLEAN(CheckBanned); }

TEST(Tidy, NothingIsUnfinished) {
  EXPECT_CLEAN([](const SourceFile& file) {
    for (const char* folder : {"src/", "include/", "proto/", "examples/", "tests/"}) {
      if (StartsWith(file.path, folder)) return CheckFinished(file);
    }
    return Complaints();
  });
}

TEST(Tidy, LinesAndFilesAreShort) {
  EXPECT_CLEAN(CheckLines);
  for (const SourceFile& file : Tree()) EXPECT_LE(file.text.size(), kFileBytesMax) << file.path;
}

TEST(Tidy, FunctionsAreShort) { EXPECT_CLEAN(CheckFunctions); }

TEST(Tidy, HeadersComeOnceAndFirst) {
  EXPECT_CLEAN([](const SourceFile& file) {
    const fs::path header = (Top() / file.path).replace_extension(".h");
    return CheckHeaders(file, EndsWith(file.path, ".cc") && fs::exists(header));
  });
}

TEST(Tidy, PagesHaveOneTitleAndNoDeadLinks) {
  EXPECT_CLEAN([](const SourceFile& file) {
    if (!EndsWith(file.path, ".md")) return Complaints();
    return CheckPage(file, [](const std::string& path) { return fs::exists(Top() / path); });
  });
}

TEST(Tidy, ScriptsCanBeRun) {
  for (const SourceFile& file : Tree()) {
    if (!file.text.starts_with("#!")) continue;
    const fs::perms mode = fs::status(Top() / file.path).permissions();
    EXPECT_NE(mode & fs::perms::owner_exec, fs::perms::none)
        << file.path << " begins with #! and is not executable: chmod +x";
  }
}

TEST(Tidy, FieldNumbersAreUnique) {
  EXPECT_CLEAN([](const SourceFile& file) {
    return EndsWith(file.path, ".proto") ? CheckProto(file) : Complaints();
  });
}

}  // namespace
}  // namespace chorus::tidy
