// Local examples from a data folder of IDX files, the format of MNIST and its kin: big-endian
// header (0, 0, element type, rank, then one u32 a dimension), then the elements. Only unsigned
// bytes are read and written (element type 8). A file may be gzip-compressed; no other mark is
// needed.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "chorus/bytes.h"
#include "chorus/client.h"
#include "chorus/model.h"
#include "chorus/status.h"

namespace chorus::client {

struct IdxFile {
  std::vector<uint32_t> dimensions;  // outermost first: [count × rows × columns] for images
  Bytes values;                      // as many as the product of the dimensions
};

// Every error names the file. kNotFound: absent; kPermissionDenied, kUnavailable: cannot be read;
// kInvalidArgument: not IDX of unsigned bytes; kResourceExhausted: with one float for each value it
// would exceed limits' kExamplesBytesMax; kDataLoss: cut short, longer than its header says, or
// damaged. Memory grows with what is read, not with what the header claims.
Result<IdxFile> ReadIdx(const std::string& path);

// Writes an uncompressed file, in place of an older one. kResourceExhausted: the disk is full;
// kPermissionDenied, kNotFound, kUnavailable: cannot be written; kInvalidArgument: `values` are not
// the product of the 1 to 8 `dimensions`. After a failed write the file is gone.
Status WriteIdx(const std::string& path, std::span<const uint32_t> dimensions, BytesView values);

// Reads the one pair of files images-idx<rank>-ubyte and labels-idx1-ubyte in `folder`, each with
// or without .gz, both with the same prefix: none, "train-" or "t10k-". Values are scaled to [0,
// 1]; everything beyond the first dimension of the images is one example's features. With
// `expected`, features and labels are checked against that model, which must use kCrossEntropy.
// Errors name the file: kNotFound: no folder, no pair; kInvalidArgument: several pairs, counts that
// differ, no examples, not what the model takes; and those of ReadIdx.
Result<Examples> LoadExamples(const std::string& folder, const ModelSpec* expected);

}  // namespace chorus::client
