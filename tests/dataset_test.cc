#include "cli/dataset.h"

#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "cli/partition.h"
#include "client/example_store.h"
#include "dataset_files.h"
#include "matchers.h"

namespace chorus {
namespace {

using cli::DataOptions;
using cli::DataSet;
using cli::PartitionTable;
using cli::ReadDataSet;
using testing::ElementsAre;
using testing::HasSubstr;

namespace fs = std::filesystem;

using Csv = DatasetTest;
using Idx = DatasetTest;
using PartitionOf = DatasetTest;

TEST_F(Csv, ReadsQuotesSeparatorsAndLineEndsInFields) {
  DataOptions options = OfCsv(
      "\xEF\xBB\xBF\"a\";\"name; \"\"quoted\"\"\";y\r\n1.5; \"2\" ;0\r\n\r\n"
      "-3e-1;\"4\";1\n");
  options.separator = ";";
  const auto data = ReadDataSet(options, Classifier(2, 2));
  ASSERT_THAT(data.status(), IsOk());
  EXPECT_THAT(data->features, ElementsAre("a", "name; \"quoted\""));
  EXPECT_THAT(data->train.features, ElementsAre(1.5F, 2.0F, -0.3F, 4.0F));
  EXPECT_THAT(data->train.labels, ElementsAre(0U, 1U));
}

TEST_F(Csv, TakesNoTabForABlankWhereItSeparates) {
  DataOptions options = OfCsv(
      "a\tk\tb\ty\n"
      "1\t \"x\ty\" \t2\t0\n"
      "\t\"z\"\t 3 \t1\n"
      "4\t\t\t0\n");
  options.separator = "tab";
  options.features = {"a", "k:category", "b"};
  options.when_missing = "mean";
  const auto data = ReadDataSet(options, Classifier(4, 2));
  ASSERT_THAT(data.status(), IsOk());
  EXPECT_THAT(data->features, ElementsAre("a", "k=x\ty", "k=z", "b"));
  // The means of what is there stand for a in the second row and b in the last.
  EXPECT_THAT(data->train.features, ElementsAre(1, 1, 0, 2, 2.5F, 0, 1, 3, 4, 0, 0, 2.5F));
  EXPECT_THAT(data->train.labels, ElementsAre(0U, 1U, 0U));
}

TEST_F(Csv, ForgetsTheCategoriesOfRowsThatAreSkipped) {
  DataOptions options = OfCsv("k,a,y\nred,1,no\nblue,,maybe\nred,,yes\ngreen,2,yes\n");
  options.features = {"k:category", "a"};
  options.when_missing = "skip";
  const auto data = ReadDataSet(options, Classifier(3, 2));
  ASSERT_THAT(data.status(), IsOk());
  EXPECT_THAT(data->features, ElementsAre("k=red", "k=green", "a"));
  EXPECT_THAT(data->classes, ElementsAre("no", "yes"));
  EXPECT_THAT(data->train.labels, ElementsAre(0U, 1U));
}

TEST_F(Csv, ReadsAFieldOverSeveralLines) {
  DataOptions options = OfCsv("k,y\n\"one\ntwo\",0\nthree,1\n");
  options.features = {"k:category"};
  const auto data = ReadDataSet(options, Classifier(2, 2));
  ASSERT_THAT(data.status(), IsOk());
  EXPECT_THAT(data->features, ElementsAre("k=one\ntwo", "k=three"));
}

TEST_F(Csv, NamesFileLineAndColumnOfABadNumber) {
  const auto data = ReadDataSet(OfCsv("a,b,y\n1,2,0\n1,2x,0\n"), Classifier(2, 2));
  EXPECT_THAT(data.status(), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(data.status().message(), HasSubstr("rows.csv:3:2: \"2x\" is no number"));
}

TEST_F(Csv, RefusesWhatIsNoNumber) {
  for (const std::string bad : {"1e99", "nan", "inf", "0x10", "1 2", "--1", "+-1", "1,0"}) {
    const auto data = ReadDataSet(OfCsv("a,y\n\"" + bad + "\",0\n"), Classifier(1, 2));
    EXPECT_THAT(data.status(), HasCode(Code::kInvalidArgument)) << bad;
    EXPECT_THAT(data.status().message(), HasSubstr("rows.csv:2:1")) << bad;
  }
}

TEST_F(Csv, NamesTheLineOfARowWithTooFewFields) {
  const auto data = ReadDataSet(OfCsv("a,b,y\n1,2,0\n1,2\n"), Classifier(2, 2));
  EXPECT_THAT(data.status().message(), HasSubstr("rows.csv:3: 2 fields in place of 3"));
}

TEST_F(Csv, RefusesAnOpenQuoteAndTextBehindAClosingOne) {
  const auto open = ReadDataSet(OfCsv("a,y\n\"1,0\n2,1\n"), Classifier(1, 2));
  EXPECT_THAT(open.status().message(), HasSubstr("rows.csv:2:1: a quote is opened"));
  const auto behind = ReadDataSet(OfCsv("a,y\n\"1\"2,0\n"), Classifier(1, 2));
  EXPECT_THAT(behind.status().message(), HasSubstr("rows.csv:2:1: text after a closing quote"));
}

TEST_F(Csv, ListsTheColumnsWhenOneIsNotThere) {
  DataOptions options = OfCsv("a,b,y\n1,2,0\n");
  options.features = {"c"};
  const auto data = ReadDataSet(options, Classifier(1, 2));
  EXPECT_THAT(data.status().message(), HasSubstr("has no column \"c\"; it has a, b, y"));
}

TEST_F(Csv, RefusesSkipsOrFillsMissingValues) {
  DataOptions options = OfCsv("a,b,y\n1,?,0\n3,4,1\n5,8,1\n");
  options.missing = {"?"};
  const auto refused = ReadDataSet(options, Classifier(2, 2));
  EXPECT_THAT(refused.status().message(), HasSubstr("rows.csv:2:2: no value of \"b\""));
  options.when_missing = "skip";
  const auto skipped = ReadDataSet(options, Classifier(2, 2));
  ASSERT_THAT(skipped.status(), IsOk());
  EXPECT_THAT(skipped->train.features, ElementsAre(3, 4, 5, 8));
  options.when_missing = "mean";
  const auto filled = ReadDataSet(options, Classifier(2, 2));
  ASSERT_THAT(filled.status(), IsOk());
  EXPECT_THAT(filled->train.features, ElementsAre(1, 6, 3, 4, 5, 8));
  options.labels = {"b"};
  const auto label = ReadDataSet(options, Classifier(2, 9));
  EXPECT_THAT(label.status().message(), HasSubstr("has no mean"));
}

TEST_F(Csv, NeverLooksAtIgnoredColumns) {
  DataOptions options = OfCsv("a,b,y\n1,?,0\n3,junk,1\n");
  options.ignore = {"b"};
  const auto data = ReadDataSet(options, Classifier(1, 2));
  ASSERT_THAT(data.status(), IsOk());
  EXPECT_THAT(data->train.features, ElementsAre(1, 3));
}

TEST_F(Csv, TakesNamesForAFileWithoutAHeader) {
  DataOptions options = OfCsv("1,2,0\n3,4,1\n");
  options.columns = {"a", "b", "y"};
  const auto data = ReadDataSet(options, Classifier(2, 2));
  ASSERT_THAT(data.status(), IsOk());
  EXPECT_THAT(data->train.features, ElementsAre(1, 2, 3, 4));
}

TEST_F(Csv, NumbersClassesInOrderUnlessTheyFit) {
  DataOptions options = OfCsv("a,y\n1,10\n2,9\n3,10\n4,100\n");
  const auto sorted = ReadDataSet(options, Classifier(1, 3));
  ASSERT_THAT(sorted.status(), IsOk());
  EXPECT_THAT(sorted->train.labels, ElementsAre(1, 0, 1, 2));
  EXPECT_THAT(sorted->classes, ElementsAre("9", "10", "100"));
  const auto kept = ReadDataSet(options, Classifier(1, 101));
  ASSERT_THAT(kept.status(), IsOk());
  EXPECT_THAT(kept->train.labels, ElementsAre(10, 9, 10, 100));
  const auto narrow = ReadDataSet(options, Classifier(1, 2));
  EXPECT_THAT(narrow.status().message(), HasSubstr("3 classes and the model tells 2 apart"));
}

TEST_F(Csv, MakesTwoClassesOfANumber) {
  DataOptions options = OfCsv("a,y\n1,0\n2,3\n3,0.5\n");
  options.labels = {"y>0.5"};
  const auto data = ReadDataSet(options, Classifier(1, 2));
  ASSERT_THAT(data.status(), IsOk());
  EXPECT_THAT(data->train.labels, ElementsAre(0, 1, 0));
}

TEST_F(Csv, TakesSeveralLabelsAsTargets) {
  DataOptions options = OfCsv("a,y,z\n1,0.5,-2\n2,3,4\n");
  options.labels = {"y", "z"};
  ModelSpec model = Classifier(1, 2);
  model.loss = Loss::kSquaredError;
  const auto data = ReadDataSet(options, model);
  ASSERT_THAT(data.status(), IsOk());
  EXPECT_THAT(data->train.targets, ElementsAre(0.5F, -2.0F, 3.0F, 4.0F));
  EXPECT_TRUE(data->train.labels.empty());
  options.labels = {"y"};
  options.ignore = {"z"};
  const auto few = ReadDataSet(options, model);
  EXPECT_THAT(few.status().message(), HasSubstr("1 numbers and the model has 2 outputs"));
}

TEST_F(Csv, StandardisesByTheExamplesThatAreNamed) {
  DataOptions options = OfCsv("a,k,y\n1,u,0\n3,v,0\n101,u,1\n");
  options.features = {"a", "k:category"};
  options.test_percent = 34;  // the last row
  options.standardise = "train";
  const auto train = ReadDataSet(options, Classifier(3, 2));
  ASSERT_THAT(train.status(), IsOk());
  EXPECT_THAT(train->train.features, ElementsAre(-1, 1, 0, 1, 0, 1));
  EXPECT_THAT(train->test.features, ElementsAre(99, 1, 0));
  options.standardise = "all";
  const auto all = ReadDataSet(options, Classifier(3, 2));
  ASSERT_THAT(all.status(), IsOk());
  EXPECT_NEAR(all->train.features[0] + all->train.features[3] + all->test.features[0], 0, 1e-5);
}

TEST_F(Csv, StandardisesEachClientByItsOwn) {
  DataOptions options = OfCsv("a,u,y\n1,p,0\n3,p,0\n10,q,1\n30,q,1\n");
  options.user = "u";
  options.partition = "column";
  options.standardise = "client";
  const auto data = ReadDataSet(options, Classifier(1, 2));
  ASSERT_THAT(data.status(), IsOk());
  EXPECT_THAT(data->train.features, ElementsAre(-1, 1, -1, 1));
}

TEST_F(Csv, GivesEachUserItsRowsAndHoldsBackTheLast) {
  DataOptions options =
      OfCsv("a,u,y\n1,p,0\n10,q,0\n2,p,0\n11,q,1\n3,p,1\n99,lone,1\n4,p,1\n5,p,1\n");
  options.user = "u";
  options.partition = "column";
  options.test_percent = 20;
  options.examples_min = 2;
  const auto data = ReadDataSet(options, Classifier(1, 2));
  ASSERT_THAT(data.status(), IsOk());
  EXPECT_THAT(data->clients, ElementsAre("p", "q"));
  EXPECT_THAT(data->train.features, ElementsAre(1, 2, 3, 4, 10, 11));
  EXPECT_THAT(data->test.features, ElementsAre(5));
  ASSERT_EQ(data->test_of.size(), 2U);
  EXPECT_EQ(data->test_of[0].count, 1U);
  EXPECT_EQ(data->test_of[1].count, 0U);
  EXPECT_EQ(data->train_of[1].begin, 4U);
  EXPECT_EQ(data->train_of[1].count, 2U);
}

TEST_F(Csv, KeepsWholeClientsForTesting) {
  std::string rows = "a,u,y\n";
  for (int i = 0; i < 60; ++i) {
    rows += std::to_string(i) + ",user" + std::to_string(i % 20) + ",0\n";
  }
  DataOptions options = OfCsv(rows);
  options.user = "u";
  options.partition = "column";
  options.test_clients_percent = 25;
  const auto data = ReadDataSet(options, Classifier(1, 2));
  ASSERT_THAT(data.status(), IsOk());
  EXPECT_EQ(data->clients.size(), 15U);
  EXPECT_EQ(data->test.count(), 15U);
  EXPECT_TRUE(data->test_of.empty());
  std::set<int> tested;
  for (const float a : data->test.features) tested.insert(static_cast<int>(a) % 20);
  EXPECT_EQ(tested.size(), 5U);
  for (const float a : data->train.features) EXPECT_EQ(tested.count(static_cast<int>(a) % 20), 0U);
  options.seed = 2;
  const auto other = ReadDataSet(options, Classifier(1, 2));
  ASSERT_THAT(other.status(), IsOk());
  EXPECT_NE(other->test.features, data->test.features);
}

TEST_F(Csv, MakesAClientOfEachFile) {
  DataOptions options;
  options.paths = {Write("north.csv", "a,y\n1,0\n2,1\n"), Write("south.csv", "y,a\n1,7\n")};
  options.labels = {"y"};
  options.partition = "file";
  options.test_paths = {Write("test.csv", "a,y\n9,0\n")};
  const auto data = ReadDataSet(options, Classifier(1, 2));
  ASSERT_THAT(data.status(), IsOk());
  EXPECT_THAT(data->clients, ElementsAre("north.csv", "south.csv"));
  EXPECT_THAT(data->train.features, ElementsAre(1, 2, 7));
  EXPECT_THAT(data->test.features, ElementsAre(9));
  EXPECT_TRUE(data->test_of.empty());
}

TEST_F(Csv, ReadsGzipAndSaysWhenItIsCutShort) {
  const std::string path = (root_ / "rows.csv.gz").string();
  gzFile file = gzopen(path.c_str(), "wb");
  std::string text = "a,y\n";
  for (int i = 0; i < 5'000; ++i) text += std::to_string(i * 7919 % 10'007) + ",1\n";
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
  DataOptions options;
  options.paths = {path};
  options.labels = {"y"};
  options.clients = 3;
  const auto data = ReadDataSet(options, Classifier(1, 2));
  ASSERT_THAT(data.status(), IsOk());
  EXPECT_EQ(data->train.count() + data->test.count(), 5'000U);
  fs::resize_file(path, fs::file_size(path) / 2);
  EXPECT_THAT(ReadDataSet(options, Classifier(1, 2)).status(), HasCode(Code::kDataLoss));
}

TEST_F(Csv, SaysWhenDataAndModelDisagree) {
  const auto data = ReadDataSet(OfCsv("a,b,y\n1,2,0\n"), Classifier(3, 2));
  EXPECT_THAT(data.status().message(), HasSubstr("the data has 2 features"));
}

TEST_F(Csv, TakesNoFileForAnError) {
  DataOptions options = OfCsv("a,y\n");
  EXPECT_THAT(ReadDataSet(options, Classifier(1, 2)).status(), HasCode(Code::kInvalidArgument));
  options.paths = {(root_ / "absent.csv").string()};
  EXPECT_THAT(ReadDataSet(options, Classifier(1, 2)).status(), HasCode(Code::kNotFound));
}

TEST_F(Idx, ReadsTrainAndTestPairsOfAFolder) {
  const Bytes images = {0, 255, 51, 0, 102, 0};
  const Bytes labels = {2, 0, 1};
  const std::vector<uint32_t> image_shape = {3, 1, 2};
  const std::vector<uint32_t> label_shape = {3};
  for (const std::string prefix : {"train10k-", "t10k-"}) {
    const std::string base = (root_ / prefix).string();
    ASSERT_THAT(client::WriteIdx(base + "images-idx3-ubyte", image_shape, images), IsOk());
    ASSERT_THAT(client::WriteIdx(base + "labels-idx1-ubyte", label_shape, labels), IsOk());
  }
  DataOptions options;
  options.paths = {root_.string()};
  options.clients = 2;
  options.examples_max = 2;
  const auto data = ReadDataSet(options, Classifier(2, 3));
  ASSERT_THAT(data.status(), IsOk());
  EXPECT_EQ(data->train.count(), 2U);
  EXPECT_THAT(data->test.features, ElementsAre(0, 1, 0.2F, 0, 0.4F, 0));
  EXPECT_THAT(data->test.labels, ElementsAre(2, 0, 1));
  EXPECT_TRUE(data->test_of.empty());
  const auto narrow = ReadDataSet(options, Classifier(2, 2));
  EXPECT_THAT(narrow.status().message(), HasSubstr("label 2 of example 1"));
}

std::vector<uint32_t> LabelsOf(uint32_t examples, uint32_t classes) {
  std::vector<uint32_t> labels;
  for (uint32_t i = 0; i < examples; ++i) labels.push_back(i * 7 % classes);
  return labels;
}

TEST_F(PartitionOf, ShardsGivesEveryExampleOnceAndFewClassesToEach) {
  const std::vector<uint32_t> labels = LabelsOf(1'000, 10);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto rng = cli::NewPartitionRng(seed);
    const cli::Partition partition = cli::DealShards(labels, 50, 2, *rng);
    std::set<uint32_t> seen;
    for (const cli::Indices& own : partition) {
      EXPECT_EQ(own.size(), 20U);
      std::set<uint32_t> classes;
      for (const uint32_t index : own) {
        EXPECT_TRUE(seen.insert(index).second);
        classes.insert(labels[index]);
      }
      // 100 examples a class and 10 a shard: no shard has two classes.
      EXPECT_LE(classes.size(), 2U);
    }
    EXPECT_EQ(seen.size(), labels.size());
  }
}

TEST_F(PartitionOf, FollowsTheSeed) {
  const std::vector<uint32_t> labels = LabelsOf(300, 3);
  const auto deal = [&labels](uint64_t seed) {
    const auto rng = cli::NewPartitionRng(seed);
    return cli::DealShards(labels, 10, 3, *rng);
  };
  EXPECT_EQ(deal(1), deal(1));
  EXPECT_NE(deal(1), deal(2));
}

TEST_F(PartitionOf, NeverLosesARowOfTheData) {
  std::string rows = "a,y\n";
  for (int i = 0; i < 200; ++i) rows += std::to_string(i) + "," + std::to_string(i % 4) + "\n";
  for (const std::string kind : {"iid", "shards", "dirichlet"}) {
    DataOptions options = OfCsv(rows);
    options.partition = kind;
    options.clients = 20;
    options.test_percent = 20;
    options.examples_min = 2;
    const auto data = ReadDataSet(options, Classifier(1, 4));
    ASSERT_THAT(data.status(), IsOk());
    std::vector<float> all = data->train.features;
    all.insert(all.end(), data->test.features.begin(), data->test.features.end());
    std::sort(all.begin(), all.end());
    ASSERT_EQ(all.size(), 200U) << kind;
    for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i], static_cast<float>(i)) << kind;
    // A label still goes with its row.
    for (size_t i = 0; i < data->train.count(); ++i) {
      EXPECT_EQ(data->train.labels[i], static_cast<uint32_t>(data->train.features[i]) % 4);
    }
    uint32_t at = 0;
    for (const Rows& own : data->train_of) {
      EXPECT_EQ(own.begin, at);
      EXPECT_GE(own.count, 1U);
      at += own.count;
    }
    EXPECT_EQ(at, data->train.count());
  }
}

TEST_F(PartitionOf, IsPrintedWithCountsOfEachClass) {
  DataOptions options = OfCsv("a,u,y\n1,p,0\n10,q,0\n2,p,1\n11,q,1\n3,p,1\n4,r,0\n");
  options.user = "u";
  options.partition = "column";
  const auto data = ReadDataSet(options, Classifier(1, 2));
  ASSERT_THAT(data.status(), IsOk());
  EXPECT_EQ(PartitionTable(*data, 10),
            "3 clients, 6 examples to train on, 0 to test on, 1 features, 2 classes\n"
            " client   train    test      0      1\n"
            "      p       3       -      1      2\n"
            "      q       2       -      1      1\n"
            "      r       1       -      1      0\n");
  EXPECT_THAT(PartitionTable(*data, 1), HasSubstr("      p       3       -      1      2\n  ...\n"
                                                  "      r"));
}

TEST_F(PartitionOf, RefusesOptionsThatItWouldNotHeed) {
  DataOptions options = OfCsv("a,y\n1,0\n2,1\n");
  options.test_clients_percent = 50;
  for (const std::string partition : {"iid", "shards", "dirichlet"}) {
    options.partition = partition;
    EXPECT_THAT(ReadDataSet(options, Classifier(1, 2)).status(),
                HasCodeAndText(Code::kInvalidArgument, "--test-clients"))
        << partition;
  }
  DataOptions text;
  text.paths = {Write("roles.jsonl", "{\"speeches\": \"abc\"}\n")};
  text.text = "speeches";
  text.partition = "file";
  EXPECT_THAT(ReadDataSet(text, Speaker(2, 4)).status(),
              HasCodeAndText(Code::kInvalidArgument, "--partition file"));
}

TEST_F(PartitionOf, RefusesWhatCannotBeDealt) {
  const std::string rows = "a,y\n1,0\n2,1\n3,0\n";
  DataOptions options = OfCsv(rows);
  options.clients = 4;
  EXPECT_THAT(ReadDataSet(options, Classifier(1, 2)).status().message(),
              HasSubstr("too few for 4 clients"));
  options = OfCsv(rows);
  options.partition = "column";
  EXPECT_THAT(ReadDataSet(options, Classifier(1, 2)).status().message(), HasSubstr("--user"));
  options.partition = "rings";
  EXPECT_THAT(ReadDataSet(options, Classifier(1, 2)).status().message(),
              HasSubstr("no partition \"rings\""));
  options = OfCsv(rows);
  options.test_percent = 20;
  EXPECT_THAT(ReadDataSet(options, Classifier(1, 2)).status().message(), HasSubstr("--test"));
}

}  // namespace
}  // namespace chorus
