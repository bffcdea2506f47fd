// What `chorus serve` asks of who comes: certificates, session tokens, rates, and turns.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "chorus/coordinator.h"
#include "chorus/host.h"
#include "chorus/status.h"
#include "chorus/token.h"

namespace CLI {
class App;
}

namespace chorus::cli {

struct DoorOptions {
  std::string client_ca;
  std::string jwks;
  std::string token_audience;
  std::string token_issuer;
  double address_rate = AdmissionOptions().address.per_second;
  uint32_t connected_max = PacingOptions().connected_max;
  uint64_t population = 0;

  void AddTo(CLI::App& app);
};

// The files behind the options, read. Must outlive the coordinator that it is given to.
class Door {
 public:
  // kInvalidArgument, or the file's own error, with the option's name.
  static Result<Door> Open(const DoorOptions& options);
  void GiveTo(CoordinatorOptions& options) const;
  // Takes the JWK Set's keys anew when the file has changed and some seconds have passed since the
  // last look. A file that is no good leaves the keys as they are; the error is for the operator.
  Status Look(Time now);

 private:
  DoorOptions options_;
  std::string client_ca_pem_;
  std::unique_ptr<JwtVerifier> tokens_;
  std::string seen_;  // the file's text when it was looked at last
  Time next_look_{};
};

}  // namespace chorus::cli
