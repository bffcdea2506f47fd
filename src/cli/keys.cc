// `chorus keys`: keys of an issuer, a coordinator, its clients and a committee in one folder, for a
// silo, a trial or a test. In earnest the issuer's key lives elsewhere than the coordinator's.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/hex.h"
#include "base/limits.h"
#include "cli/command.h"
#include "cli/files.h"
#include "crypto/crypto.h"
#include "trust/trust.h"

namespace chorus::cli {
namespace {

constexpr int64_t kDaySeconds = 86'400;
constexpr int64_t kBackdateSeconds = 3'600;  // a clock that is a little behind still accepts
constexpr uint32_t kDaysMax = 36'500;
constexpr uint32_t kClientsMax = 1'000'000;
constexpr uint64_t kFirstMemberSerial = uint64_t{1} << 32U;  // none of any client's

struct Validity {
  int64_t not_before = 0;
  int64_t not_after = 0;
};

Validity FromToday(uint32_t days) {
  const int64_t now = NewSystemClock()->UnixSeconds();
  return {.not_before = now - kBackdateSeconds, .not_after = now + days * kDaySeconds};
}

// Writes a fresh Ed25519 seed to `stem`.key and its public key to `stem`.pub.
Status MakeKeyPair(const std::string& stem, Rng& rng) {
  const SecretBytes seed = crypto::RandomSecret(rng, crypto::kKeyBytes);
  CHORUS_TRY(WriteSeed(stem + ".key", seed.Reveal()));
  return WritePublicKey(stem + ".pub", crypto::Ed25519Public(seed.Reveal()));
}

Status WriteTlsIdentity(const std::string& stem, const crypto::TlsIdentity& identity) {
  CHORUS_TRY(
      WriteFile(stem + ".key", ViewOf(identity.key_pem), WriteOptions{.access = Access::kSecret}));
  return WriteFile(stem + ".pem", ViewOf(identity.certificate_pem), WriteOptions{});
}

void WipeKey(crypto::TlsIdentity& identity) {
  Wipe({reinterpret_cast<uint8_t*>(identity.key_pem.data()), identity.key_pem.size()});
}

class KeysInit final : public Command {
 public:
  explicit KeysInit(CLI::App& keys)
      : app_(*keys.add_subcommand(
            "init", "Make the keys of an issuer and a coordinator, and a TLS certificate.")) {
    app_.add_option("--dir", dir_, "Folder for the keys; made when absent.")->required();
    app_.add_option("--host", hosts_,
                    "DNS name or IP address that clients connect to; may be repeated. Default: "
                    "localhost, 127.0.0.1 and ::1.");
    app_.add_option("--days", days_, "How long the TLS certificates are valid.")
        ->check(CLI::Range(1U, kDaysMax))
        ->capture_default_str();
  }
  CLI::App& app() override { return app_; }

  Status Run() override {
    // Looked at before the first is made, so that a refusal leaves nothing behind.
    for (const char* name :
         {"issuer.key", "issuer.pub", "coordinator.key", "coordinator.pub", "tls-authority.key",
          "tls-authority.pem", "tls-server.key", "tls-server.pem"}) {
      if (!Exists(dir_ + "/" + name)) continue;
      return AlreadyExists("\"" + dir_ + "\" holds " + name +
                           " already, and keys are not overwritten; name another folder");
    }
    CHORUS_TRY(MakeFolder(dir_, Access::kSecret));
    CHORUS_TRY(MakeTls());
    const std::unique_ptr<Rng> rng = crypto::NewSystemRng();
    CHORUS_TRY(MakeKeyPair(dir_ + "/issuer", *rng));
    CHORUS_TRY(MakeKeyPair(dir_ + "/coordinator", *rng));
    std::printf("keys of issuer and coordinator are in %s\n", dir_.c_str());
    return OkStatus();
  }

 private:
  Status MakeTls() {
    const Validity validity = FromToday(days_);
    CHORUS_TRY_ASSIGN(crypto::TlsIdentity authority,
                      crypto::MakeTlsAuthority("Chorus", validity.not_before, validity.not_after));
    CHORUS_TRY_ASSIGN(
        crypto::TlsIdentity server,
        crypto::MakeTlsServer(authority, hosts_, validity.not_before, validity.not_after));
    Status status = WriteTlsIdentity(dir_ + "/tls-authority", authority);
    if (status.ok()) status = WriteTlsIdentity(dir_ + "/tls-server", server);
    WipeKey(authority);
    WipeKey(server);
    return status;
  }

  CLI::App& app_;
  std::string dir_;
  std::vector<std::string> hosts_ = {"localhost", "127.0.0.1", "::1"};
  uint32_t days_ = 365;
};

// Makes what one party, a client or a committee's member, gets: a folder with its identity and what
// it must know of the others.
class PartyMaker {
 public:
  // Of the folder that `keys init` made.
  // With `tls`, each party gets a certificate for mutual TLS besides.
  static Result<PartyMaker> Load(const std::string& dir, uint32_t days, bool tls) {
    PartyMaker maker;
    if (tls) {
      maker.authority_.emplace();
      CHORUS_TRY_ASSIGN(maker.authority_->certificate_pem, ReadText(dir + "/tls-authority.pem"));
      CHORUS_TRY_ASSIGN(maker.authority_->key_pem, ReadText(dir + "/tls-authority.key"));
    }
    CHORUS_TRY_ASSIGN(maker.issuer_, ReadSeed(dir + "/issuer.key"));
    for (const char* name : {"coordinator.pub", "issuer.pub", "tls-authority.pem"}) {
      CHORUS_TRY_ASSIGN(Bytes content, ReadFile(dir + "/" + name, kTextBytesMax));
      maker.shared_.push_back({name, std::move(content)});
    }
    maker.validity_ = FromToday(days);
    return maker;
  }

  // The identity's public key.
  Result<PublicKey> Make(const std::string& folder, uint64_t serial) {
    CHORUS_TRY(MakeFolder(folder, Access::kSecret));
    const SecretBytes seed = crypto::RandomSecret(*rng_, crypto::kKeyBytes);
    const PublicKey key = crypto::Ed25519Public(seed.Reveal());
    const trust::Certificate certificate = {.serial = serial,
                                            .not_before = validity_.not_before,
                                            .not_after = validity_.not_after,
                                            .subject = key};
    CHORUS_TRY(WriteSeed(folder + "/identity.key", seed.Reveal()));
    CHORUS_TRY(WriteFile(folder + "/certificate",
                         trust::IssueCertificate(certificate, issuer_.Reveal()), WriteOptions{}));
    for (const NamedContent& file : shared_) {
      CHORUS_TRY(WriteFile(folder + "/" + file.name, file.content, WriteOptions{}));
    }
    if (authority_.has_value()) {
      CHORUS_TRY_ASSIGN(
          crypto::TlsIdentity shown,
          crypto::MakeTlsClient(*authority_, "Chorus client " + std::to_string(serial),
                                validity_.not_before, validity_.not_after));
      const Status written = WriteTlsIdentity(folder + "/tls-client", shown);
      WipeKey(shown);
      CHORUS_TRY(written);
    }
    return key;
  }
  PartyMaker(PartyMaker&&) = default;
  PartyMaker& operator=(PartyMaker&&) = default;
  ~PartyMaker() {
    if (authority_.has_value()) WipeKey(*authority_);
  }

 private:
  PartyMaker() = default;

  struct NamedContent {
    std::string name;
    Bytes content;
  };

  SecretBytes issuer_;
  std::vector<NamedContent> shared_;
  Validity validity_;
  std::optional<crypto::TlsIdentity> authority_;
  std::unique_ptr<Rng> rng_ = crypto::NewSystemRng();
};

std::string Numbered(const std::string& stem, uint32_t number) {
  std::string digits = std::to_string(number);
  if (digits.size() < 3) digits.insert(0, 3 - digits.size(), '0');
  return stem + digits;
}

Status RefuseExisting(const std::string& folder, const char* advice) {
  if (!Exists(folder)) return OkStatus();
  return AlreadyExists("\"" + folder + "\" exists already, and keys are not overwritten; " +
                       advice);
}

class KeysClient final : public Command {
 public:
  explicit KeysClient(CLI::App& keys)
      : app_(*keys.add_subcommand(
            "client",
            "Make clients' identities: DIR/clients/client-000 and so on, each what one "
            "player's device gets.")) {
    app_.add_option("--dir", dir_, "The folder that `keys init` made.")->required();
    app_.add_option("--count", count_, "How many clients.")
        ->required()
        ->check(CLI::Range(1U, kClientsMax));
    app_.add_option("--first", first_, "Number of the first; it is its certificate's serial.")
        ->check(CLI::Range(0U, kClientsMax))
        ->capture_default_str();
    app_.add_option("--days", days_, "How long the certificates are valid.")
        ->check(CLI::Range(1U, kDaysMax))
        ->capture_default_str();
    app_.add_flag("--tls", tls_,
                  "Give each a TLS certificate too, for a coordinator with --client-ca.");
  }
  CLI::App& app() override { return app_; }

  Status Run() override {
    CHORUS_TRY_ASSIGN(PartyMaker maker, PartyMaker::Load(dir_, days_, tls_));
    for (uint32_t number = first_; number < first_ + count_; ++number) {
      CHORUS_TRY(RefuseExisting(FolderOf(number), "use --first to number new clients after it"));
    }
    for (uint32_t number = first_; number < first_ + count_; ++number) {
      CHORUS_TRY(maker.Make(FolderOf(number), number));
    }
    std::printf("%u clients are in %s/clients\n", count_, dir_.c_str());
    return OkStatus();
  }

 private:
  std::string FolderOf(uint32_t number) const {
    return Numbered(dir_ + "/clients/client-", number);
  }

  CLI::App& app_;
  std::string dir_;
  uint32_t count_ = 0;
  uint32_t first_ = 0;
  uint32_t days_ = 365;
  bool tls_ = false;
};

class KeysCommittee final : public Command {
 public:
  explicit KeysCommittee(CLI::App& keys)
      : app_(*keys.add_subcommand(
            "committee",
            "Make the identities of a committee's members: DIR/committee/member-001 and so on, "
            "each what one operator gets, and print how task and policy name them.")) {
    app_.add_option("--dir", dir_, "The folder that `keys init` made.")->required();
    app_.add_option("--members", members_, "How many members.")
        ->required()
        ->check(CLI::Range(1U, limits::kCommitteeMax));
    app_.add_option("--days", days_, "How long the certificates are valid.")
        ->check(CLI::Range(1U, kDaysMax))
        ->capture_default_str();
    app_.add_flag("--tls", tls_,
                  "Give each a TLS certificate too, for a coordinator with --client-ca.");
  }
  CLI::App& app() override { return app_; }

  Status Run() override {
    CHORUS_TRY_ASSIGN(PartyMaker maker, PartyMaker::Load(dir_, days_, tls_));
    const std::string parent = dir_ + "/committee";
    CHORUS_TRY(RefuseExisting(parent, "move it away to make another committee"));
    std::string task = "one_shot {\n";
    std::string policy;
    for (uint32_t member = 1; member <= members_; ++member) {
      const std::string folder = Numbered(parent + "/member-", member);
      CHORUS_TRY_ASSIGN(const PublicKey key, maker.Make(folder, kFirstMemberSerial + member));
      CHORUS_TRY(WritePublicKey(folder + "/identity.pub", key));
      task += "  members: \"" + ToHex(key) + "\"\n";
      policy += "committee: \"" + ToHex(key) + "\"\n";
    }
    std::printf("# of a task file\n%s}\n# of a policy file\n%s", task.c_str(), policy.c_str());
    return OkStatus();
  }

 private:
  CLI::App& app_;
  std::string dir_;
  uint32_t members_ = 0;
  uint32_t days_ = 365;
  bool tls_ = false;
};

class KeysOperator final : public Command {
 public:
  explicit KeysOperator(CLI::App& keys)
      : app_(*keys.add_subcommand(
            "operator",
            "Make the key of somebody who may pause, stop and roll back tasks over the network: "
            "STEM.key, which stays with the operator, and STEM.pub for `serve --operator`.")) {
    app_.add_option("--stem", stem_, "Path of the files without their endings.")->required();
  }
  CLI::App& app() override { return app_; }

  Status Run() override {
    CHORUS_TRY(RefuseExisting(stem_ + ".key", "name another"));
    CHORUS_TRY(RefuseExisting(stem_ + ".pub", "name another"));
    const std::unique_ptr<Rng> rng = crypto::NewSystemRng();
    CHORUS_TRY(MakeKeyPair(stem_, *rng));
    std::printf("the operator's key is in %s.key\n", stem_.c_str());
    return OkStatus();
  }

 private:
  CLI::App& app_;
  std::string stem_;
};

}  // namespace

std::unique_ptr<Command> NewKeysOperator(CLI::App& keys) {
  return std::make_unique<KeysOperator>(keys);
}
std::unique_ptr<Command> NewKeysInit(CLI::App& keys) { return std::make_unique<KeysInit>(keys); }
std::unique_ptr<Command> NewKeysClient(CLI::App& keys) {
  return std::make_unique<KeysClient>(keys);
}
std::unique_ptr<Command> NewKeysCommittee(CLI::App& keys) {
  return std::make_unique<KeysCommittee>(keys);
}

}  // namespace chorus::cli
