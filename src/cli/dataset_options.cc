// The options of a data set, for every command that reads one.
#include <CLI/CLI.hpp>

#include "cli/dataset.h"

namespace chorus::cli {
namespace {

void AddSources(CLI::App& command, DataOptions& options) {
  command
      .add_option("--data", options.paths,
                  "A folder of IDX files, or .csv or .jsonl files, each plain or .gz.")
      ->required();
  command.add_option("--test", options.test_paths, "The same for testing, apart from all clients.");
  command
      .add_option("--test-percent", options.test_percent,
                  "Without a test set: the last so many percent of each client's examples.")
      ->capture_default_str();
  command.add_option("--test-clients", options.test_clients_percent,
                     "So many percent of the natural clients are for testing alone.");
  command.add_option("--examples", options.examples_max, "Only the first so many of --data.");
}

void AddColumns(CLI::App& command, DataOptions& options) {
  command.add_option("--separator", options.separator, "Between the fields of CSV, or tab.")
      ->capture_default_str();
  command.add_option("--columns", options.columns, "Names for CSV without a header row.")
      ->delimiter(',');
  command
      .add_option("--features", options.features,
                  "Columns to learn from, NAME or NAME:category; without it all others.")
      ->delimiter(',');
  command.add_option("--ignore", options.ignore, "Columns that are no features.")->delimiter(',');
  command
      .add_option("--label", options.labels,
                  "Column to learn; NAME>NUMBER makes two classes of it; several: numbers.")
      ->delimiter(',');
  command.add_option("--user", options.user, "Column that tells whose a row is.");
  command.add_option("--missing", options.missing, "What stands for a missing value, such as ?.")
      ->delimiter(',');
  command
      .add_option("--when-missing", options.when_missing,
                  "refuse, skip (the row) or mean (over the training examples).")
      ->capture_default_str();
  command
      .add_option("--standardise", options.standardise,
                  "Numbers by mean and deviation of: none, train, all, or each client's own.")
      ->capture_default_str();
  command.add_option("--text", options.text, "Field of JSON lines with text, for next tokens.");
  command.add_option("--vocabulary", options.vocabulary,
                     "File whose characters are the tokens; without it those of the data.");
}

}  // namespace

void AddDataOptions(CLI::App& command, DataOptions& options) {
  AddSources(command, options);
  AddColumns(command, options);
  command
      .add_option("--partition", options.partition,
                  "iid, shards, dirichlet, column (--user) or file: whose examples are whose.")
      ->capture_default_str();
  command.add_option("--clients", options.clients, "How many, unless the partition is natural.")
      ->capture_default_str();
  command.add_option("--shards", options.shards, "Of each client, with --partition shards.")
      ->capture_default_str();
  command
      .add_option("--alpha", options.alpha,
                  "With --partition dirichlet: the smaller, the more uneven.")
      ->capture_default_str();
  command
      .add_option("--examples-min", options.examples_min,
                  "To train on, of every client; natural ones with fewer are left out.")
      ->capture_default_str();
}

}  // namespace chorus::cli
