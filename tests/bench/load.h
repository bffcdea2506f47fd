// The parts that the processes of the load benchmark play: one server at a time, and processes of
// thousands of clients each. Every process is this program, told its part on its command line; it
// does what each line of its standard input says and answers with one line.
#pragma once

#include <sys/resource.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "chorus/bytes.h"
#include "crypto/crypto.h"

namespace chorus::bench {

// NAME=VALUE words, in the order of their names.
using Words = std::map<std::string, std::string>;

Words ParseWords(const std::string& line);
uint64_t NumberIn(const Words& words, const std::string& name);

// What all processes of one measurement know: made once into a folder, from fixed seeds.
struct Scene {
  std::string folder;
  bool tls = true;
  std::string address;  // of the server, for clients

  std::string Read(const std::string& name) const;
};

inline constexpr uint8_t kCoordinatorSeed = 1;
inline constexpr uint8_t kIssuerSeed = 2;
inline constexpr char kLoginHeader[] = R"({"alg":"ES256"})";

inline Bytes IdentitySeed(uint64_t client) {
  const BytesView number(reinterpret_cast<const uint8_t*>(&client), sizeof(client));
  const Digest digest = crypto::LabeledHash("CHORUS1/load", {number});
  return Bytes(digest.begin(), digest.end());
}

// As many descriptors as the system lets this process have.
inline void RaiseDescriptorLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

// The parts. Each reads commands until its input ends; 0 when all went well.
int PlayBareServer(const Scene& scene);
int PlayCoordinator(const Scene& scene, const Words& options);
int PlayClients(const Scene& scene, const Words& options);

// Reads the next line of standard input; false at its end.
bool NextCommand(std::string& line);
void Answer(const std::string& line);

}  // namespace chorus::bench
