// The work behind `chorus split`: one labelled data set becomes the data folders of many clients,
// as in experiments on how unevenly data is spread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "chorus/status.h"

namespace chorus::cli {

struct SplitOptions {
  std::string images_path;  // IDX of unsigned bytes, or the same compressed with gzip
  std::string labels_path;
  uint32_t clients = 0;
  double dirichlet_alpha = 0;  // 0: IID, equal shares; else the smaller, the more uneven [HQB19]
  uint64_t seed = 0;
  std::string out_folder;      // must be empty or absent
  uint32_t examples_min = 10;  // of every client; 0: a client may have none
};

struct SplitReport {
  uint32_t classes = 0;                       // the largest label plus one
  std::vector<std::vector<uint32_t>> counts;  // [clients × classes] examples
};

// Called after each client's folder is written.
using SplitProgress = std::function<void(uint32_t written, uint32_t clients)>;

// Gives every example to exactly one client and writes
// OUT/client-000/{images-idx3-ubyte,labels-idx1-ubyte} and so on (the rank is the images' own). For
// each class, the clients' proportions are one draw from Dirichlet(alpha) [HQB19, section 3]; then
// clients below examples_min are given examples of the richest. One seed gives the same split on
// every machine whose libm rounds log, exp, sqrt and cos alike. After a failure nothing that it
// wrote is left.
// kInvalidArgument: an option, named, or files that do not belong together; kFailedPrecondition:
// out_folder is not empty; kResourceExhausted: the disk is full; and the errors of client::ReadIdx.
Result<SplitReport> SplitDataset(const SplitOptions& options, const SplitProgress& progress);

// The folder's name of client `index` among `clients`: "client-007".
std::string ClientName(uint32_t index, uint32_t clients);

// The report as text: a heading, then one line a client with its total and its count of each class.
std::string SplitTable(const SplitReport& report);

}  // namespace chorus::cli
