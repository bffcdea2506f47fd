// Files as the tool keeps them: whole, written atomically, secrets readable by their owner alone.
// Every failure names the file and what to do.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "chorus/bytes.h"
#include "chorus/status.h"

namespace chorus::cli {

inline constexpr size_t kTextBytesMax = size_t{1} << 20U;  // of a task, policy, key or certificate

// The file's content. kNotFound, kPermissionDenied, kUnavailable with the reason;
// kResourceExhausted when it is longer than `bytes_max`.
Result<Bytes> ReadFile(const std::string& path, size_t bytes_max);
Result<std::string> ReadText(const std::string& path);
// A file of 64 hexadecimal digits: an Ed25519 seed. kDataLoss when it holds anything else.
Result<SecretBytes> ReadSeed(const std::string& path);
Result<PublicKey> ReadPublicKey(const std::string& path);

enum class Access { kPublic, kSecret };  // mode 0644 or 0600
enum class Existing { kRefuse, kReplace };
struct WriteOptions {
  Access access = Access::kPublic;
  Existing existing = Existing::kRefuse;
};
// Writes `content` so that `path` holds all of it or is as before, whatever happens meanwhile.
// kAlreadyExists: it is there and may not be replaced; kResourceExhausted: the disk is full.
Status WriteFile(const std::string& path, BytesView content, WriteOptions options);
// The seed as hexadecimal text, secret.
Status WriteSeed(const std::string& path, BytesView seed);
Status WritePublicKey(const std::string& path, const PublicKey& key);

// Makes the folder and those above it. Ok when it is there already.
Status MakeFolder(const std::string& path, Access access);
bool Exists(const std::string& path);

}  // namespace chorus::cli
