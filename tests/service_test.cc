// Over loopback gRPC: what the transport and the service promise each other, and a coordinator
// behind them.
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "chorus/coordinator.h"
#include "client/grpc_transport.h"
#include "coordinator/service.h"
#include "crypto/crypto.h"
#include "matchers.h"
#include "trust/trust.h"
#include "wire/wire.h"

namespace chorus {
namespace {

using coordinator::Body;
using coordinator::Reply;
using coordinator::Service;
using coordinator::ServiceOptions;
using std::chrono::milliseconds;

constexpr milliseconds kPatience{20'000};  // a call that needs this long has failed

std::string AddressOf(int port) { return "127.0.0.1:" + std::to_string(port); }

std::unique_ptr<Transport> PlainTransport(int port) {
  return client::NewGrpcTransport(
      {.server = AddressOf(port), .tls_roots_pem = {}, .plaintext = true});
}

ServiceOptions PlainService(int port = 0) {
  ServiceOptions options;
  options.listen = AddressOf(port);
  options.plaintext = true;
  return options;
}

std::unique_ptr<Service> Serve(const ServiceOptions& options, coordinator::RequestSink sink) {
  Result<std::unique_ptr<Service>> service = Service::Start(options, std::move(sink));
  EXPECT_THAT(service, IsOk());
  return service.ok() ? *std::move(service) : nullptr;
}

// What is answered: the method's name and the request.
Bytes EchoOf(std::string_view method, BytesView request) {
  Bytes answer(method.begin(), method.end());
  answer.insert(answer.end(), request.begin(), request.end());
  return answer;
}
void Echo(std::string_view method, Body request, const Reply& reply) {
  reply(EchoOf(method, request.Whole()));
}

// Holds every reply until the test gives it.
class Parking {
 public:
  coordinator::RequestSink sink() {
    return [this](std::string_view, const Body&, Reply reply) {
      const std::lock_guard lock(mutex_);
      replies_.push_back(std::move(reply));
      arrived_.notify_all();
    };
  }
  Reply Take() {
    std::unique_lock lock(mutex_);
    if (!arrived_.wait_for(lock, kPatience, [this] { return !replies_.empty(); })) {
      ADD_FAILURE() << "no call arrived";
      return [](const Result<Bytes>&) {};
    }
    Reply reply = std::move(replies_.back());
    replies_.pop_back();
    return reply;
  }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<Reply> replies_;
};

TEST(Service, PassesBytesThroughUntouched) {
  const std::unique_ptr<Service> service = Serve(PlainService(), Echo);
  const std::unique_ptr<Transport> transport = PlainTransport(service->port());
  Bytes chunk(limits::kChunkBytesMax + 1'000);
  crypto::NewSeededRng(Bytes(32, 1))->Fill(chunk);
  EXPECT_THAT(transport->Call(wire::kUpload, chunk, kPatience),
              HoldsValue(EchoOf(wire::kUpload, chunk)));
  const std::string_view methods[] = {wire::kChallenge, wire::kCheckIn, wire::kNext,
                                      wire::kDownload,  wire::kUpload,  wire::kGetStatus};
  for (const std::string_view method : methods) {
    // 0xFF is no protobuf: nothing on the way may look inside.
    const Bytes request = {0xFF, 0x00, 0xFF};
    EXPECT_THAT(transport->Call(method, request, kPatience), HoldsValue(EchoOf(method, request)));
    EXPECT_THAT(transport->Call(method, {}, kPatience), HoldsValue(EchoOf(method, {})));
  }
}

// What is long comes as it was received, and is there for as long as somebody has it.
TEST(Service, KeepsLongRequestsInPiecesBeyondTheirCalls) {
  Bytes chunk(limits::kChunkBytesMax);
  crypto::NewSeededRng(Bytes(32, 2))->Fill(chunk);
  std::vector<Body> kept;
  std::unique_ptr<Service> service =
      Serve(PlainService(), [&kept](std::string_view, Body request, const Reply& reply) {
        kept.push_back(std::move(request));
        reply(Bytes{1});
      });
  for (int i = 0; i < 3; ++i) {
    const std::unique_ptr<Transport> transport = PlainTransport(service->port());
    ASSERT_THAT(transport->Call(wire::kUpload, chunk, kPatience), HoldsValue(Bytes{1}));
    ASSERT_THAT(transport->Call(wire::kUpload, Bytes(100, 3), kPatience), HoldsValue(Bytes{1}));
  }
  service.reset();
  ASSERT_EQ(kept.size(), 6U);
  for (size_t i = 0; i < kept.size(); i += 2) {
    EXPECT_GT(kept[i].pieces().size(), 1U);
    EXPECT_EQ(Join(kept[i].pieces()), chunk);
    EXPECT_EQ(kept[i + 1].pieces().size(), 1U);
  }
}

TEST(Service, BoundsRequests) {
  const std::unique_ptr<Service> service = Serve(PlainService(), Echo);
  const std::unique_ptr<Transport> transport = PlainTransport(service->port());
  EXPECT_THAT(transport->Call(wire::kNext, Bytes(16'384), kPatience), IsOk());
  EXPECT_THAT(transport->Call(wire::kNext, Bytes(16'385), kPatience),
              HasCode(Code::kInvalidArgument));
  EXPECT_THAT(transport->Call(wire::kUpload, Bytes(limits::kMessageBytesMax + 1), kPatience),
              HasCode(Code::kInvalidArgument));
  EXPECT_THAT(transport->Call("Nonsense", {}, kPatience), HasCode(Code::kUnimplemented));
}

TEST(Transport, BoundsAnswers) {
  const std::unique_ptr<Service> service =
      Serve(PlainService(), [](std::string_view, const Body&, const Reply& reply) {
        reply(Bytes(limits::kMessageBytesMax + 1));
      });
  EXPECT_THAT(PlainTransport(service->port())->Call(wire::kNext, {}, kPatience),
              HasCode(Code::kResourceExhausted));
}

TEST(Transport, CarriesEveryStatus) {
  const std::unique_ptr<Service> service =
      Serve(PlainService(), [](std::string_view, Body request, const Reply& reply) {
        reply(Status(static_cast<Code>(request.Whole()[0]), "no\n" + std::string(10'000, 'x')));
      });
  const std::unique_ptr<Transport> transport = PlainTransport(service->port());
  for (uint8_t code = 1; code <= 16; ++code) {
    const Result<Bytes> answer = transport->Call(wire::kNext, Bytes{code}, kPatience);
    // Only Interrupt cancels.
    const Code expected =
        code == static_cast<uint8_t>(Code::kCancelled) ? Code::kUnavailable : Code{code};
    EXPECT_THAT(answer, HasCodeAndText(expected, "no?xxx"));
    EXPECT_EQ(answer.status().message().size(), 500U);
  }
}

TEST(Transport, WaitsForAParkedCall) {
  Parking parking;
  const std::unique_ptr<Service> service = Serve(PlainService(), parking.sink());
  std::thread later([&parking] {
    const Reply reply = parking.Take();
    reply(Bytes{7});
    reply(Bytes{8});  // only the first answer counts
  });
  EXPECT_THAT(PlainTransport(service->port())->Call(wire::kNext, {}, kPatience),
              HoldsValue(Bytes{7}));
  later.join();
}

TEST(Transport, GivesUpAtTheDeadlineAndTheLateReplyIsHarmless) {
  Parking parking;
  const std::unique_ptr<Service> service = Serve(
      PlainService(), [park = parking.sink()](std::string_view method, Body body, Reply reply) {
        if (method == wire::kChallenge) return reply(Bytes{1});
        park(method, std::move(body), std::move(reply));
      });
  const std::unique_ptr<Transport> transport = PlainTransport(service->port());
  // Connected by now, so that what is short below is the wait for the answer alone.
  ASSERT_THAT(transport->Call(wire::kChallenge, {}, kPatience), IsOk());
  for (int i = 0; i < 4; ++i) {
    EXPECT_THAT(transport->Call(wire::kNext, {}, milliseconds(2'000)),
                HasCode(Code::kDeadlineExceeded));
    const Reply late = parking.Take();
    if (i % 2 == 0) late(Bytes{1});  // the others are dropped unanswered
  }
}

TEST(Transport, StopsAtOnceWhenInterruptedAndForEver) {
  Parking parking;
  const std::unique_ptr<Service> service = Serve(PlainService(), parking.sink());
  const std::unique_ptr<Clock> clock = NewSystemClock();
  const std::unique_ptr<Transport> transport = PlainTransport(service->port());
  std::optional<Reply> parked;
  std::thread interrupter([&] {
    parked = parking.Take();
    transport->Interrupt();
  });
  const Time before = clock->Now();
  EXPECT_THAT(transport->Call(wire::kNext, {}, kPatience), HasCode(Code::kCancelled));
  EXPECT_LT(clock->Now() - before, kPatience / 4);
  interrupter.join();
  EXPECT_THAT(transport->Call(wire::kNext, {}, kPatience), HasCode(Code::kCancelled));
  parked.reset();
}

TEST(Transport, ComesBackWhenTheServerDoes) {
  std::unique_ptr<Service> service = Serve(PlainService(), Echo);
  const int port = service->port();
  const std::unique_ptr<Transport> transport = PlainTransport(port);
  EXPECT_THAT(transport->Call(wire::kNext, {}, kPatience), IsOk());
  service.reset();
  EXPECT_THAT(transport->Call(wire::kNext, {}, kPatience), HasCode(Code::kUnavailable));
  service = Serve(PlainService(port), Echo);
  ASSERT_NE(service, nullptr);
  Status last;
  for (int i = 0; i < 200; ++i) {
    last = internal::StatusOf(transport->Call(wire::kNext, {}, kPatience));
    if (last.ok()) break;
    std::this_thread::sleep_for(milliseconds(50));
  }
  EXPECT_THAT(last, IsOk());
}

TEST(Service, AnswersForWhoeverDropsAReply) {
  const std::unique_ptr<Service> service =
      Serve(PlainService(), [](std::string_view, const Body&, const Reply&) {});
  EXPECT_THAT(PlainTransport(service->port())->Call(wire::kNext, {}, kPatience),
              HasCodeAndText(Code::kUnavailable, "stopping"));
}

TEST(Service, RefusesAPortInUseByName) {
  const std::unique_ptr<Service> first = Serve(PlainService(), Echo);
  const std::string address = AddressOf(first->port());
  EXPECT_THAT(Service::Start(PlainService(first->port()), Echo),
              HasCodeAndText(Code::kUnavailable, address));
  ServiceOptions elsewhere = PlainService();
  elsewhere.listen = "203.0.113.1:1";  // an address for documentation is nobody's
  EXPECT_THAT(Service::Start(elsewhere, Echo), HasCode(Code::kUnavailable));
}

TEST(Service, WantsExactlyOneOfTlsAndPlaintext) {
  const auto start = [](std::string certificate, std::string key, bool plaintext) {
    return Service::Start({.listen = "127.0.0.1:0",
                           .tls_certificate_pem = std::move(certificate),
                           .tls_key_pem = std::move(key),
                           .plaintext = plaintext},
                          Echo);
  };
  EXPECT_THAT(start("", "", false), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(start("c", "", false), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(start("", "k", false), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(start("c", "k", true), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(start("not a", "certificate", false),
              HasCodeAndText(Code::kInvalidArgument, "not a certificate chain"));
  EXPECT_THAT(start("", "", true), IsOk());
}

TEST(Service, SpeaksTlsToWhoTrustsItsAuthority) {
  const int64_t now = NewSystemClock()->UnixSeconds();
  const auto authority = crypto::MakeTlsAuthority("authority", now - 60, now + 3'600);
  const auto stranger = crypto::MakeTlsAuthority("stranger", now - 60, now + 3'600);
  ASSERT_THAT(authority, IsOk());
  ASSERT_THAT(stranger, IsOk());
  const auto server = crypto::MakeTlsServer(*authority, {"127.0.0.1"}, now - 60, now + 3'600);
  const auto misnamed = crypto::MakeTlsServer(*authority, {"game.example"}, now - 60, now + 3'600);
  ASSERT_THAT(server, IsOk());
  ASSERT_THAT(misnamed, IsOk());
  const auto call = [](const crypto::TlsIdentity& shown, const std::string& roots, bool plaintext) {
    const std::unique_ptr<Service> service = Serve({.listen = "127.0.0.1:0",
                                                    .tls_certificate_pem = shown.certificate_pem,
                                                    .tls_key_pem = shown.key_pem,
                                                    .plaintext = false},
                                                   Echo);
    return client::NewGrpcTransport({.server = AddressOf(service->port()),
                                     .tls_roots_pem = roots,
                                     .plaintext = plaintext})
        ->Call(wire::kNext, {}, kPatience);
  };
  EXPECT_THAT(call(*server, authority->certificate_pem, false), IsOk());
  EXPECT_THAT(call(*server, stranger->certificate_pem, false), HasCode(Code::kUnavailable));
  EXPECT_THAT(call(*misnamed, authority->certificate_pem, false), HasCode(Code::kUnavailable));
  EXPECT_THAT(call(*server, "", true), HasCode(Code::kUnavailable));
}

// --- a coordinator -------------------------------------------------------------------------------

class CoordinatorOverGrpc : public testing::Test {
 protected:
  CoordinatorOptions Options(int port = 0) const {
    CoordinatorOptions options;
    options.listen = AddressOf(port);
    options.plaintext = true;
    options.signing_seed = SecretBytes(Bytes(32, 1));
    TaskSpec task;
    task.name = "smoke";
    task.model = {.inputs = 2, .layers = {LayerSpec{.units = 2}}};
    task.protocol = Protocol::kPlain;
    options.tasks.push_back({.task = task, .initial_weights = Weights{1, 2, 3, 4, 5, 6}});
    return options;
  }
  Result<std::unique_ptr<Coordinator>> Start(CoordinatorOptions options) {
    return Coordinator::Start(std::move(options), *store_, *verifier_, *clock_, *log_);
  }

  const std::unique_ptr<Clock> clock_ = NewSystemClock();
  const std::unique_ptr<LogSink> log_ = NewStderrLogSink(LogLevel::kWarn);
  const std::unique_ptr<Store> store_ = NewMemoryStore();
  const std::unique_ptr<IdentityVerifier> verifier_ =
      trust::NewCertificateVerifier(crypto::Ed25519Public(Bytes(32, 2)), *clock_);
};

TEST_F(CoordinatorOverGrpc, AnswersItsCallers) {
  const Result<std::unique_ptr<Coordinator>> coordinator = Start(Options());
  ASSERT_THAT(coordinator, IsOk());
  EXPECT_EQ((*coordinator)->CurrentWeights("smoke"), (Weights{1, 2, 3, 4, 5, 6}));
  const std::unique_ptr<Transport> transport = PlainTransport((*coordinator)->port());
  const Result<Bytes> status =
      transport->Call(wire::kGetStatus, wire::Encode(wire::StatusRequest{}), kPatience);
  ASSERT_THAT(status, IsOk());
  EXPECT_EQ(wire::Decode<wire::StatusReply>(*status)->task, "smoke");
  EXPECT_THAT(transport->Call(wire::kChallenge, {}, kPatience), IsOk());
  EXPECT_THAT(transport->Call(wire::kNext, wire::Encode(wire::NextRequest{}), kPatience),
              HasCode(Code::kUnauthenticated));
  EXPECT_THAT(transport->Call(wire::kUpload, Bytes(1'000, 0xFF), kPatience),
              HasCode(Code::kInvalidArgument));
}

TEST_F(CoordinatorOverGrpc, RefusesAPortInUseAndBadOptions) {
  const Result<std::unique_ptr<Coordinator>> coordinator = Start(Options());
  ASSERT_THAT(coordinator, IsOk());
  EXPECT_THAT(Start(Options((*coordinator)->port())),
              HasCodeAndText(Code::kUnavailable, AddressOf((*coordinator)->port())));
  CoordinatorOptions no_tls = Options();
  no_tls.plaintext = false;
  EXPECT_THAT(Start(std::move(no_tls)), HasCode(Code::kInvalidArgument));
  CoordinatorOptions short_seed = Options();
  short_seed.signing_seed = SecretBytes(16);
  EXPECT_THAT(Start(std::move(short_seed)), HasCode(Code::kInvalidArgument));
}

}  // namespace
}  // namespace chorus
