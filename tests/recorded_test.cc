// Clients of the first version of the wire, recorded once with every call they made and every reply
// they got: today's coordinator must still give them what they heard. A reply may say more than it
// did, never less and nothing else. The recordings in tests/vectors are never made again; a new
// kind of conversation gets a new one (set CHORUS_RECORD to the folder that it goes to).
#include <google/protobuf/message.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/hex.h"
#include "chorus/v1/service.pb.h"
#include "client_fakes.h"
#include "coordinator/core.h"
#include "coordinator/task_state.h"
#include "matchers.h"

namespace chorus {
namespace {

constexpr size_t kClients = 7;
constexpr int64_t kUnixSeconds = 1'700'000'000;

class RecordedClock final : public Clock {
 public:
  Time Now() const override { return now; }
  int64_t UnixSeconds() const override { return kUnixSeconds + now.count() / 1'000; }
  Time now{1'000};
};

// One line of a recording.
struct Line {
  enum class Kind { kAt, kCall, kReply };
  Kind kind = Kind::kAt;
  int64_t at = 0;           // kAt: milliseconds
  uint64_t call = 0;        // kCall, kReply: which, from 0
  std::string method = {};  // of the call
  Bytes bytes = {};         // of the request or the reply
  Code code = Code::kOk;
};

std::string After(const Bytes& bytes) { return bytes.empty() ? "" : " " + ToHex(bytes); }

std::string Write(const std::vector<Line>& lines) {
  std::ostringstream out;
  for (const Line& line : lines) {
    switch (line.kind) {
      case Line::Kind::kAt:
        out << "at " << line.at << "\n";
        break;
      case Line::Kind::kCall:
        out << "call " << line.call << " " << line.method << After(line.bytes) << "\n";
        break;
      case Line::Kind::kReply:
        out << "reply " << line.call << " " << static_cast<int>(line.code) << After(line.bytes)
            << "\n";
    }
  }
  return out.str();
}

std::vector<Line> Read(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.good()) << path;
  std::vector<Line> lines;
  std::string text;
  while (std::getline(file, text)) {
    if (text.empty() || text[0] == '#') continue;
    std::istringstream words(text);
    std::string kind;
    std::string hex;
    Line line;
    words >> kind;
    if (kind == "at") {
      words >> line.at;
    } else {
      line.kind = kind == "call" ? Line::Kind::kCall : Line::Kind::kReply;
      int code = 0;
      words >> line.call;
      if (line.kind == Line::Kind::kCall) {
        words >> line.method;
      } else {
        words >> code;
      }
      line.code = static_cast<Code>(code);
      words >> hex;
      line.bytes = *FromHex(hex);
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

TaskSpec RecordedTask(Protocol protocol) {
  TaskSpec task;
  task.name = "recorded";
  task.model = {.inputs = 3,
                .layers = {{.units = 4, .activation = Activation::kRelu}, {.units = 2}},
                .loss = Loss::kCrossEntropy};
  task.training = {.epochs = 1, .batch_size = 5, .learning_rate = 0.05F, .held_back_percent = 20};
  task.protocol = protocol;
  task.cohort = {.minimum = 6, .target = 7, .maximum = 7};
  task.secagg = {.gamma_ppm = 10'000, .delta_ppm = 100'000, .honest_min = 2};
  task.rounds = 2;
  return task;
}

// A coordinator whose chance and time are those of the recording.
struct RecordedCoordinator {
  explicit RecordedCoordinator(TaskSpec task) {
    Result<std::unique_ptr<coordinator::Core>> made =
        coordinator::Core::Create({.signing_seed = signing_seed.Reveal(),
                                   .task = std::move(task),
                                   .initial_weights = Weights(26, 0.125F),
                                   .experiment_seed = 7},
                                  *store, *verifier, clock, *rng, log);
    EXPECT_THAT(made, IsOk());
    if (made.ok()) core = *std::move(made);
  }
  void AdvanceTo(Time time) {
    while (core->NextTick() <= time) {
      clock.now = std::max(clock.now, core->NextTick());
      core->Tick();
    }
    clock.now = std::max(clock.now, time);
  }

  RecordedClock clock;
  client::QuietSink log;
  SecretBytes signing_seed = client::SeedOf(9);
  std::unique_ptr<IdentityVerifier> verifier =
      trust::NewCertificateVerifier(crypto::Ed25519Public(client::SeedOf(50).Reveal()), clock);
  std::unique_ptr<Rng> rng = crypto::NewSeededRng(client::SeedOf(8).Reveal());
  std::unique_ptr<Store> store = NewMemoryStore();
  std::unique_ptr<coordinator::Core> core;
};

// --- recording -----------------------------------------------------------------------------------

// A device that takes part, and its calls.
struct Device {
  Device(uint8_t number, const PublicKey& coordinator, const Clock& clock) {
    options.coordinator = coordinator;
    options.identity_seed = client::SeedOf(number);
    options.certificate = client::World::CertificateFor(number);
    options.state_dir = folder.path();
    options.policy.allow_plain = true;
    examples.inputs = 3;
    for (uint32_t i = 0; i < 20; ++i) {
      for (uint32_t k = 0; k < 3; ++k) {
        examples.features.push_back(static_cast<float>((i * 7 + k * 3 + number) % 11) / 11.0F);
      }
      examples.labels.push_back((i + number) % 2);
    }
    ledger = *client::Ledger::Open(folder.path());
    state = client::DeviceState::InFiles(folder.path());
    verifier =
        trust::NewCertificateVerifier(crypto::Ed25519Public(client::SeedOf(50).Reveal()), clock);
    rng = crypto::NewSeededRng(client::SeedOf(number).Reveal());
    session = client::Session::Create(
        {.options = &options,
         .examples = &examples,
         .state = state.get(),
         .verifier = verifier.get(),
         .clock = &clock,
         .rng = rng.get(),
         .log = &log,
         .ledger = ledger.get(),
         .cancel = &cancel,
         .experiment = client::ExperimentSeed{"recorded/" + std::to_string(number)}});
  }

  client::QuietSink log;
  Cancel cancel;
  client::TemporaryFolder folder;
  ClientOptions options;
  Examples examples;
  std::unique_ptr<IdentityVerifier> verifier;
  std::unique_ptr<Rng> rng;
  std::unique_ptr<client::Ledger> ledger;
  std::unique_ptr<client::DeviceState> state;
  std::unique_ptr<client::Session> session;
  std::optional<uint64_t> calling;  // the number of the call under way
  uint64_t uploads = 0;
  bool stopped = false;
};

// Runs the task with real clients, and writes down what they said and heard. The last of them says
// nothing any more after `uploads_max` uploads of the second round.
class Recording {
 public:
  explicit Recording(Protocol protocol) : server_(RecordedTask(protocol)) {
    const PublicKey key = crypto::Ed25519Public(server_.signing_seed.Reveal());
    for (size_t i = 0; i < kClients; ++i) {
      devices_.push_back(std::make_unique<Device>(uint8_t(100 + i), key, server_.clock));
    }
  }

  std::vector<Line> Run(uint64_t uploads_max) {
    lines_.push_back({.at = server_.clock.now.count()});
    for (int i = 0; i < 20'000; ++i) {
      bool moved = false;
      Time wake = Time::max();
      for (size_t d = 0; d < devices_.size(); ++d) {
        Device& device = *devices_[d];
        const bool gone = d + 1 == devices_.size() && device.uploads >= uploads_max;
        if (!device.stopped && !gone) moved = Step(device, wake) || moved;
      }
      if (moved) continue;
      const Time next = std::min(wake, server_.core->NextTick());
      if (next == Time::max() || AllStopped()) return std::exchange(lines_, {});
      server_.AdvanceTo(std::max(next, server_.clock.now + Time(1)));
      lines_.push_back({.at = server_.clock.now.count()});
      TakeReplies();
    }
    ADD_FAILURE() << "the task does not end";
    return {};
  }
  const RecordedCoordinator& server() const { return server_; }

 private:
  bool AllStopped() const {
    return std::all_of(devices_.begin(), devices_.end() - 1,
                       [](const auto& device) { return device->stopped; });
  }

  bool Step(Device& device, Time& wake) {
    if (device.calling) {
      const auto reply = replies_.find(*device.calling);
      if (reply == replies_.end()) return false;
      device.session->Deliver(reply->second);
      device.calling.reset();
      return true;
    }
    client::Action action = device.session->Next();
    if (auto* call = std::get_if<client::CallAction>(&action)) {
      Call(device, *call);
    } else if (const auto* wait = std::get_if<client::WaitAction>(&action)) {
      if (wait->until > server_.clock.now) {
        wake = std::min(wake, wait->until);
        return false;
      }
    } else if (std::holds_alternative<client::WorkAction>(action)) {
      device.session->Work();
    } else {
      device.stopped = true;
    }
    return true;
  }

  void Call(Device& device, client::CallAction& call) {
    const uint64_t number = calls_++;
    device.calling = number;
    if (call.method == wire::kUpload) ++device.uploads;
    lines_.push_back({.kind = Line::Kind::kCall,
                      .call = number,
                      .method = std::string(call.method),
                      .bytes = call.request});
    server_.core->Handle(call.method, call.request, [this, number](Result<Bytes> reply) {
      heard_.emplace_back(number, std::move(reply));
    });
    server_.AdvanceTo(server_.clock.now);
    TakeReplies();
  }

  void TakeReplies() {
    for (auto& [number, reply] : std::exchange(heard_, {})) {
      lines_.push_back({.kind = Line::Kind::kReply,
                        .call = number,
                        .bytes = reply.ok() ? *reply : Bytes(),
                        .code = reply.status().code()});
      replies_.emplace(number, std::move(reply));
    }
  }

  RecordedCoordinator server_;
  std::vector<std::unique_ptr<Device>> devices_;
  std::vector<Line> lines_;
  std::vector<std::pair<uint64_t, Result<Bytes>>> heard_;
  std::map<uint64_t, Result<Bytes>> replies_;
  uint64_t calls_ = 0;
};

// --- playing -------------------------------------------------------------------------------------

std::unique_ptr<google::protobuf::Message> NewReply(const std::string& method) {
  if (method == "Challenge") return std::make_unique<v1::ChallengeReply>();
  if (method == "CheckIn") return std::make_unique<v1::CheckInReply>();
  if (method == "Next") return std::make_unique<v1::NextReply>();
  if (method == "Download") return std::make_unique<v1::DownloadReply>();
  if (method == "Upload") return std::make_unique<v1::UploadReply>();
  return nullptr;
}

// Takes out of `said` what `expected` has no value for: a field of a later version.
void Forget(google::protobuf::Message& said, const google::protobuf::Message& expected) {
  const google::protobuf::Reflection& reflection = *said.GetReflection();
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  reflection.ListFields(said, &fields);
  for (const google::protobuf::FieldDescriptor* field : fields) {
    if (field->is_repeated()) continue;
    if (!reflection.HasField(expected, field)) {
      reflection.ClearField(&said, field);
    } else if (field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) {
      Forget(*reflection.MutableMessage(&said, field), reflection.GetMessage(expected, field));
    }
  }
}

void ExpectSame(const std::string& method, const Line& expected, const Result<Bytes>& reply) {
  ASSERT_EQ(reply.status().code(), expected.code) << reply.status().message();
  if (!reply.ok()) return;
  const std::unique_ptr<google::protobuf::Message> then = NewReply(method);
  const std::unique_ptr<google::protobuf::Message> now = NewReply(method);
  ASSERT_NE(then, nullptr) << method;
  ASSERT_TRUE(then->ParseFromArray(expected.bytes.data(), static_cast<int>(expected.bytes.size())));
  ASSERT_TRUE(now->ParseFromArray(reply->data(), static_cast<int>(reply->size())));
  Forget(*now, *then);
  EXPECT_EQ(now->ShortDebugString(), then->ShortDebugString()) << method;
}

// Says to a coordinator of today what was said, and compares what it answers.
void Play(Protocol protocol, const std::vector<Line>& lines) {
  RecordedCoordinator server(RecordedTask(protocol));
  std::map<uint64_t, std::string> methods;
  std::map<uint64_t, Result<Bytes>> replies;
  for (const Line& line : lines) {
    if (line.kind == Line::Kind::kAt) {
      server.AdvanceTo(Time(line.at));
    } else if (line.kind == Line::Kind::kCall) {
      methods[line.call] = line.method;
      server.core->Handle(line.method, line.bytes, [&, call = line.call](Result<Bytes> reply) {
        replies.emplace(call, std::move(reply));
      });
      server.AdvanceTo(server.clock.now);
    } else {
      const auto reply = replies.find(line.call);
      ASSERT_NE(reply, replies.end()) << "call " << line.call << " is not answered any more";
      SCOPED_TRACE("call " + std::to_string(line.call));
      ExpectSame(methods[line.call], line, reply->second);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
  std::vector<RoundReport> rounds;
  ASSERT_THAT(server.store->RunTransaction(
                  "read",
                  [&](Transaction& transaction) -> Status {
                    CHORUS_TRY_ASSIGN(rounds,
                                      transaction.Rounds(coordinator::TaskIdOf("recorded"), 1, 10));
                    return OkStatus();
                  }),
              IsOk());
  ASSERT_EQ(rounds.size(), 2U);
  EXPECT_EQ(rounds[0].contributors, 7U);
  EXPECT_EQ(rounds[1].contributors, 6U);
}

struct Kind {
  const char* file;
  Protocol protocol;
  // The last client's uploads until it falls silent, once its update of round 2 is due.
  uint64_t uploads;
};

class RecordedClients : public testing::TestWithParam<Kind> {};

TEST_P(RecordedClients, AreStillServed) {
  const Kind kind = GetParam();
  const std::string folder = CHORUS_SOURCE_DIR "/tests/vectors";
  const std::string path = folder + "/" + kind.file;
  if (const char* record = std::getenv("CHORUS_RECORD")) {
    std::ofstream(std::string(record) + "/" + kind.file)
        << Write(Recording(kind.protocol).Run(kind.uploads));
  }
  Play(kind.protocol, Read(path));
}

// What the recordings are made with still works, so that the next can be made.
TEST_P(RecordedClients, CanBeRecordedAndPlayed) {
  const Kind kind = GetParam();
  Play(kind.protocol, Recording(kind.protocol).Run(kind.uploads));
}

INSTANTIATE_TEST_SUITE_P(Version1, RecordedClients,
                         testing::Values(Kind{"recorded_v1_plain.txt", Protocol::kPlain, 3},
                                         Kind{"recorded_v1_secagg.txt", Protocol::kSecAgg, 7}),
                         [](const auto& kind) {
                           return kind.param.protocol == Protocol::kPlain ? "Plain" : "SecAgg";
                         });

}  // namespace
}  // namespace chorus
