#include "cli/door.h"

#include <CLI/CLI.hpp>
#include <utility>

#include "cli/files.h"

namespace chorus::cli {
namespace {

constexpr Time kLookEvery{5'000};

// An option that was given and says nothing, as of a variable that is not set, would turn off what
// it asks for.
CLI::Validator SaysSomething() {
  return CLI::Validator(
      [](std::string& text) { return text.empty() ? std::string("must not be empty") : ""; }, "");
}

Status About(const std::string& option, const Status& status) {
  return Status(status.code(), option + ": " + status.message());
}

}  // namespace

void DoorOptions::AddTo(CLI::App& app) {
  app.add_option("--client-ca", client_ca,
                 "PEM file of the authority whose certificates clients must show (mutual TLS).")
      ->check(SaysSomething());
  app.add_option("--jwks", jwks,
                 "JWK Set file of the game's login: each client must show a session token (JWT) "
                 "that one of its keys has signed. Read anew when it changes.")
      ->check(SaysSomething());
  app.add_option("--token-audience", token_audience, "What the tokens' \"aud\" must hold.");
  app.add_option("--token-issuer", token_issuer, "What the tokens' \"iss\" must be.");
  app.add_option("--address-rate", address_rate,
                 "Check-ins and other calls without a session a second from one address; 0: any "
                 "number, as behind a proxy.")
      ->capture_default_str();
  app.add_option("--connected-max", connected_max,
                 "Clients that wait connected between rounds; the others hang up until their turn. "
                 "0: all of them wait.")
      ->capture_default_str();
  app.add_option("--population", population,
                 "About how many clients there are: keeps their turns apart over a restart.");
}

Result<Door> Door::Open(const DoorOptions& options) {
  Door door;
  door.options_ = options;
  if (!options.client_ca.empty()) {
    CHORUS_TRY_ASSIGN(door.client_ca_pem_, ReadText(options.client_ca));
    if (door.client_ca_pem_.find("BEGIN CERTIFICATE") == std::string::npos) {
      return InvalidArgument("--client-ca " + options.client_ca + " holds no certificate in PEM");
    }
  }
  if (options.jwks.empty()) {
    if (options.token_audience.empty() && options.token_issuer.empty()) return door;
    return InvalidArgument("--token-audience and --token-issuer are for tokens: give --jwks too");
  }
  if (options.token_audience.empty() || options.token_issuer.empty()) {
    return InvalidArgument(
        "--jwks needs --token-audience and --token-issuer: a login's tokens for others are no "
        "tokens for this game");
  }
  CHORUS_TRY_ASSIGN(door.seen_, ReadText(options.jwks));
  Result<std::unique_ptr<JwtVerifier>> tokens = NewJwtVerifier(
      door.seen_, {.issuer = options.token_issuer, .audience = options.token_audience});
  if (!tokens.ok()) return About("--jwks", tokens.status());
  door.tokens_ = *std::move(tokens);
  return door;
}

void Door::GiveTo(CoordinatorOptions& options) const {
  options.client_ca_pem = client_ca_pem_;
  options.admission.tokens = tokens_.get();
  options.admission.address.per_second = options_.address_rate;
  options.pacing.connected_max = options_.connected_max;
  options.pacing.population = options_.population;
}

Status Door::Look(Time now) {
  if (tokens_ == nullptr || now < next_look_) return OkStatus();
  next_look_ = now + kLookEvery;
  Result<std::string> text = ReadText(options_.jwks);
  if (!text.ok()) return About("--jwks", text.status());
  if (*text == seen_) return OkStatus();
  seen_ = *std::move(text);
  const Status status = tokens_->SetKeys(seen_);
  return status.ok() ? status : About("--jwks, the keys before stay", status);
}

}  // namespace chorus::cli
