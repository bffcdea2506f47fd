// Data for a simulation: one set of examples from CSV, IDX or JSON lines, dealt out to clients.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "chorus/client.h"
#include "chorus/model.h"
#include "chorus/simulation.h"
#include "chorus/status.h"
#include "cli/partition.h"

namespace CLI {
class App;
}

namespace chorus::cli {

struct DataOptions {
  // A folder of IDX files, or any number of .csv or .jsonl files, plain or .gz.
  std::vector<std::string> paths;
  std::vector<std::string> test_paths;  // of the same kind, for a test set apart from the clients
  uint32_t test_percent = 20;  // without test_paths: the last so many of each client's examples
  // Not 0: the test set is so many percent of the natural clients, drawn by seed: of people whom
  // the model never met. In place of test_percent.
  uint32_t test_clients_percent = 0;
  uint64_t examples_max = 0;  // not 0: only the first so many of `paths`

  // Columns of CSV, fields of JSON lines.
  std::string separator = ",";        // one character, or "tab"
  std::vector<std::string> columns;   // names, for CSV without a header row
  std::vector<std::string> features;  // NAME or NAME:category; empty: all but the others
  std::vector<std::string> ignore;    // columns that are no features
  std::vector<std::string> labels;    // NAME or NAME>NUMBER; several: targets
  std::string user;                   // of kColumn
  std::vector<std::string> missing;   // marks of a missing value, besides nothing at all
  // refuse: an error; skip: without the row; mean: of a number the mean over the examples to train
  // on, of a category none of them.
  std::string when_missing = "refuse";
  // Numbers by their mean and deviation over: none, train (the training examples of all clients),
  // all (every example), client (each client's own training examples: nothing leaves it).
  std::string standardise = "none";

  // Text of JSON lines, for next-token models.
  std::string text;        // the field: a string or an array of strings, which are joined by lines
  std::string vocabulary;  // file of UTF-8 text whose characters are the tokens; empty: the data's

  std::string partition = "iid";  // iid, shards, dirichlet, column or file
  uint32_t clients = 100;         // of the kinds that are not natural
  uint32_t shards = 2;            // of each client
  double alpha = 0.5;             // of Dirichlet: the smaller, the more uneven
  uint32_t examples_min = 1;      // to train on: natural clients with fewer are left out
  uint64_t seed = 1;
};

// Adds the options above to a command, with their help.
void AddDataOptions(CLI::App& command, DataOptions& options);

// Examples grouped by client, so that a client's are neighbours and nobody need copy them.
struct DataSet {
  Examples train;
  Examples test;
  std::vector<Rows> train_of;         // [clients] rows of `train`
  std::vector<Rows> test_of;          // [clients] rows of `test`; empty when the set is apart
  std::vector<std::string> clients;   // [clients] names
  std::vector<std::string> features;  // [inputs] names, or none
  std::vector<std::string> classes;   // [labels] names: labels as the data has them
  // Of text: the tokens, one UTF-8 character each; the last one stands for any other.
  std::vector<std::string> vocabulary;
};

// Reads, converts and deals out. Labels become classes for kCrossEntropy and for
// kBinaryCrossEntropy of one output, numbers otherwise; classes that are the whole numbers below
// the model's outputs stay as they are, others are numbered in order. `model` may be empty (of an
// analytics task): then there are features alone unless labels are named.
// Errors say file, line and column, and what to do. kInvalidArgument: options or values;
// kNotFound, kPermissionDenied, kUnavailable, kDataLoss: files; kResourceExhausted: more values
// than limits' kExamplesBytesMax.
Result<DataSet> ReadDataSet(const DataOptions& options, const ModelSpec& model);

// Whose examples are whose in `data`, which must outlive the result.
Population PopulationOf(const DataSet& data);

// The partition as text: totals, then one line a client, for the first `lines_max` of them and the
// last, with its count of each class.
std::string PartitionTable(const DataSet& data, uint32_t lines_max);

}  // namespace chorus::cli
