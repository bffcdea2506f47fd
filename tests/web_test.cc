// The web listener against well-behaved and hostile peers, and gRPC's health and reflection of a
// real coordinator.
#include <arpa/inet.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "chorus/coordinator.h"
#include "coordinator/web.h"
#include "coordinator/web_pages.h"
#include "crypto/crypto.h"
#include "matchers.h"
#include "trust/trust.h"

namespace chorus::coordinator {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr int kPatienceMs = 20'000;

// A connection to a port of this machine. Reads until the peer closes.
class Peer {
 public:
  explicit Peer(int port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~Peer() { ::close(socket_); }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  bool Send(std::string_view text) const {
    return ::send(socket_, text.data(), text.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(text.size());
  }
  // All until the end; none when the peer did not close in time.
  std::optional<std::string> Rest(int patience_ms = kPatienceMs) const {
    std::string all;
    char part[4'096];
    while (true) {
      pollfd event{.fd = socket_, .events = POLLIN, .revents = 0};
      if (::poll(&event, 1, patience_ms) <= 0) return std::nullopt;
      const ssize_t got = ::recv(socket_, part, sizeof(part), 0);
      if (got <= 0) return all;
      all.append(part, static_cast<size_t>(got));
    }
  }

 private:
  int socket_;
  bool connected_ = false;
};

std::string Ask(int port, std::string_view request) {
  const Peer peer(port);
  if (!peer.Send(request)) return "not sent";
  return peer.Rest().value_or("not closed");
}

std::string Get(int port, const std::string& path, const std::string& host = "localhost") {
  return Ask(port, "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n");
}

std::unique_ptr<Web> Serve(double connection_seconds = 10) {
  Result<std::unique_ptr<Web>> web = Web::Start(
      {.listen = ":0", .connection_seconds = connection_seconds}, [](std::string_view path) {
        return AnswerWeb(
            path, {.metrics = [] { return std::string("m 1\n"); },
                   .status_json = []() -> Result<std::string> { return Unavailable("not yet"); },
                   .healthy = [] { return true; }});
      });
  EXPECT_THAT(web, IsOk());
  return web.ok() ? *std::move(web) : nullptr;
}

TEST(Web, ServesThePageItsPartsAndTheMetrics) {
  const std::unique_ptr<Web> web = Serve();
  EXPECT_THAT(Get(web->port(), "/"),
              AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("text/html"), HasSubstr("<!doctype")));
  EXPECT_THAT(Get(web->port(), "/page.js?x=1"), HasSubstr("text/javascript"));
  EXPECT_THAT(Get(web->port(), "/page.css"), HasSubstr("text/css"));
  EXPECT_THAT(Get(web->port(), "/icon.svg"), HasSubstr("image/svg+xml"));
  EXPECT_THAT(Get(web->port(), "/metrics"),
              AllOf(HasSubstr("text/plain; version=0.0.4"), testing::EndsWith("\r\n\r\nm 1\n")));
  EXPECT_THAT(Get(web->port(), "/healthz"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(Get(web->port(), "/status.json"),
              AllOf(StartsWith("HTTP/1.1 503"), HasSubstr("not yet")));
  EXPECT_THAT(Get(web->port(), "/../etc/passwd"), StartsWith("HTTP/1.1 404"));
}

TEST(Web, LetsAPageDoNothingButShowItself) {
  const std::unique_ptr<Web> web = Serve();
  for (const char* path : {"/", "/status.json", "/nothing"}) {
    EXPECT_THAT(Get(web->port(), path),
                AllOf(HasSubstr("Content-Security-Policy: default-src 'none'; script-src 'self'"),
                      HasSubstr("X-Content-Type-Options: nosniff"),
                      HasSubstr("Cache-Control: no-store"), Not(HasSubstr("Set-Cookie")),
                      Not(HasSubstr("Access-Control-Allow")), Not(HasSubstr("unsafe"))));
  }
}

TEST(Web, NamesNoOtherHostInItsPages) {
  for (const WebAsset& asset : WebAssets()) {
    std::string text(asset.content);
    // The name of a vocabulary, which nobody fetches.
    const std::string vocabulary = "http://www.w3.org/2000/svg";
    for (size_t at; (at = text.find(vocabulary)) != std::string::npos;) {
      text.erase(at, vocabulary.size());
    }
    EXPECT_THAT(text, AllOf(Not(HasSubstr("http:")), Not(HasSubstr("https:")),
                            Not(HasSubstr("src=\"//")), Not(HasSubstr("innerHTML"))))
        << asset.path;
  }
}

TEST(Web, AnswersOnlyGetAndHead) {
  const std::unique_ptr<Web> web = Serve();
  const std::string head = Ask(web->port(), "HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_THAT(head, AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("Content-Length: 4"),
                          testing::EndsWith("\r\n\r\n")));
  for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "NONSENSE"}) {
    EXPECT_THAT(Ask(web->port(), std::string(method) +
                                     " / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"),
                AllOf(StartsWith("HTTP/1.1 405"), HasSubstr("Allow: GET, HEAD")));
  }
}

TEST(Web, RefusesWhoWasLedHereByAnotherName) {
  const std::unique_ptr<Web> web = Serve();
  EXPECT_THAT(Get(web->port(), "/status.json", "evil.example"), StartsWith("HTTP/1.1 421"));
  EXPECT_THAT(Get(web->port(), "/", "127.0.0.1.evil.example:80"), StartsWith("HTTP/1.1 421"));
  EXPECT_THAT(Get(web->port(), "/", "127.0.0.1:9447"), StartsWith("HTTP/1.1 200"));
  for (const char* host : {"localhost", "localhost:1", "127.0.0.1", "127.1.2.3:80", "[::1]:9447"}) {
    EXPECT_TRUE(IsLoopbackHost(host)) << host;
  }
  for (const char* host :
       {"", "localhost.evil", "10.0.0.1", "127.0.0.1.evil", "[::2]", "[::1].x"}) {
    EXPECT_FALSE(IsLoopbackHost(host)) << host;
  }
}

TEST(Web, BoundsHeadersAndReadsNoBody) {
  const std::unique_ptr<Web> web = Serve();
  const std::string long_header(limits::kWebRequestBytesMax * 2, 'x');
  EXPECT_THAT(Ask(web->port(), "GET / HTTP/1.1\r\nHost: localhost\r\nX: " + long_header),
              Not(HasSubstr(" 200 ")));
  EXPECT_THAT(Ask(web->port(), "GET /" + long_header), Not(HasSubstr(" 200 ")));
  EXPECT_THAT(Ask(web->port(),
                  "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\nabc"),
              StartsWith("HTTP/1.1 405"));
  EXPECT_THAT(Get(web->port(), "/healthz"), StartsWith("HTTP/1.1 200"));
}

// A byte now and then keeps libmicrohttpd's own timeout from passing.
TEST(Web, CutsWhoSendsSlowly) {
  const std::unique_ptr<Web> web = Serve(/*connection_seconds=*/1);
  const std::unique_ptr<Clock> clock = NewSystemClock();
  const Peer peer(web->port());
  ASSERT_TRUE(peer.Send("GET / HTTP/1.1\r\n"));
  const Time began = clock->Now();
  bool cut = false;
  while (!cut && clock->Now() - began < Time(kPatienceMs)) {
    cut = !peer.Send("x") || peer.Rest(/*patience_ms=*/100).has_value();
  }
  EXPECT_TRUE(cut);
}

TEST(Web, ServesOthersOnceAFloodOfIdleOnesIsCut) {
  const std::unique_ptr<Web> web = Serve(/*connection_seconds=*/1);
  std::vector<std::unique_ptr<Peer>> flood;
  for (size_t i = 0; i < 2 * limits::kWebConnectionsMax; ++i) {
    flood.push_back(std::make_unique<Peer>(web->port()));
  }
  std::string answer;
  for (int i = 0; i < 20 && !answer.starts_with("HTTP/1.1 200"); ++i) {
    answer = Get(web->port(), "/healthz");
  }
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200"));
}

TEST(Web, RefusesAddressesThatAreNone) {
  const auto start = [](const std::string& listen) {
    return Web::Start({.listen = listen}, [](std::string_view) { return WebReply(); });
  };
  for (const char* address : {"host:", "127.0.0.1:70000", "127.0.0.1:x", ":-1", "a:b:c"}) {
    EXPECT_THAT(start(address), HasCode(Code::kInvalidArgument)) << address;
  }
  EXPECT_THAT(start("203.0.113.1:0"), HasCode(Code::kUnavailable));
  const std::unique_ptr<Web> first = Serve();
  EXPECT_THAT(start(std::to_string(first->port())), HasCodeAndText(Code::kUnavailable, "in use"));
}

// --- health and reflection -----------------------------------------------------------------------

// One call of a service that Chorus has no generated code for: bytes of protobuf both ways.
Result<std::string> CallUnary(int port, const std::string& method, const std::string& request) {
  const auto channel =
      grpc::CreateChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials());
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(kPatienceMs));
  const grpc::Slice slice(request);
  const grpc::ByteBuffer sent(&slice, 1);
  grpc::ByteBuffer received;
  std::promise<grpc::Status> done;
  stub.UnaryCall(&context, method, {}, &sent, &received,
                 [&done](grpc::Status status) { done.set_value(std::move(status)); });
  const grpc::Status status = done.get_future().get();
  if (!status.ok()) return Status(static_cast<Code>(status.error_code()), status.error_message());
  std::vector<grpc::Slice> slices;
  if (!received.Dump(&slices).ok()) return Internal("unreadable");
  std::string bytes;
  for (const grpc::Slice& part : slices) {
    bytes.append(reinterpret_cast<const char*>(part.begin()), part.size());
  }
  return bytes;
}

// HealthCheckRequest{service = 1} and HealthCheckResponse{status = 1}: 1 is SERVING, 2 is not.
// https://github.com/grpc/grpc/blob/master/src/proto/grpc/health/v1/health.proto
const std::string kServing("\x08\x01", 2);
const std::string kNotServing("\x08\x02", 2);
Result<std::string> Health(int port, const std::string& service) {
  std::string request;
  if (!service.empty()) {
    request += '\x0A';
    request += static_cast<char>(service.size());
    request += service;
  }
  return CallUnary(port, "/grpc.health.v1.Health/Check", request);
}

// A caller of health's Watch who stays.
class Watcher {
 public:
  explicit Watcher(const std::shared_ptr<grpc::Channel>& channel) {
    context_.set_deadline(std::chrono::system_clock::now() +
                          std::chrono::milliseconds(kPatienceMs));
    call_ =
        grpc::GenericStub(channel).PrepareCall(&context_, "/grpc.health.v1.Health/Watch", &queue_);
    call_->StartCall(nullptr);
    if (!Done()) return;
    call_->WriteLast(grpc::ByteBuffer(nullptr, 0), {}, nullptr);
    if (!Done()) return;
    grpc::ByteBuffer health;
    call_->Read(&health, nullptr);
    told_ = Done();
  }
  ~Watcher() {
    context_.TryCancel();
    (void)Finish();
    queue_.Shutdown();
    while (queue_.Next(&tag_, &ok_)) {
    }
  }
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  bool told() const { return told_; }  // what the health is
  grpc::StatusCode Finish() {
    if (finished_) return status_.error_code();
    finished_ = true;
    call_->Finish(&status_, nullptr);
    (void)Done();
    return status_.error_code();
  }

 private:
  bool Done() { return queue_.Next(&tag_, &ok_) && ok_; }

  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  void* tag_ = nullptr;
  bool ok_ = false;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
  bool told_ = false;
  bool finished_ = false;
  grpc::Status status_;
};

// Fails while told to.
class BreakableStore final : public Store {
 public:
  Status RunTransaction(std::string_view name,
                        const std::function<Status(Transaction&)>& function) override {
    if (broken.load()) return ResourceExhausted("the disk is full");
    return inner_->RunTransaction(name, function);
  }
  bool shared() const override { return false; }
  std::atomic<bool> broken{false};

 private:
  const std::unique_ptr<Store> inner_ = NewMemoryStore();
};

class RealCoordinator : public testing::Test {
 protected:
  std::unique_ptr<Coordinator> Start(bool reflection) {
    CoordinatorOptions options;
    options.listen = "127.0.0.1:0";
    options.plaintext = true;
    options.signing_seed = SecretBytes(Bytes(32, 1));
    HostedTask& hosted = options.tasks.emplace_back();
    hosted.task.name = "seen";
    hosted.task.model = {.inputs = 2, .layers = {LayerSpec{.units = 2}}};
    hosted.task.protocol = Protocol::kPlain;
    options.web_listen = "0";
    options.reflection = reflection;
    Result<std::unique_ptr<Coordinator>> started =
        Coordinator::Start(std::move(options), store_, *verifier_, *clock_, *log_);
    EXPECT_THAT(started, IsOk());
    return started.ok() ? *std::move(started) : nullptr;
  }
  // Asks until the answer is the one wanted, as a load balancer does.
  bool Becomes(int port, const std::string& wanted) {
    const Time began = clock_->Now();
    while (clock_->Now() - began < Time(kPatienceMs)) {
      const Result<std::string> health = Health(port, "");
      if (health.ok() && *health == wanted) return true;
      ::poll(nullptr, 0, 50);
    }
    return false;
  }

  BreakableStore store_;
  const std::unique_ptr<Clock> clock_ = NewSystemClock();
  const std::unique_ptr<LogSink> log_ = NewStderrLogSink(LogLevel::kError);
  const std::unique_ptr<IdentityVerifier> verifier_ =
      trust::NewCertificateVerifier(crypto::Ed25519Public(Bytes(32, 2)), *clock_);
};

TEST_F(RealCoordinator, IsServingByNameAndAsAWhole) {
  const std::unique_ptr<Coordinator> coordinator = Start(false);
  EXPECT_THAT(Health(coordinator->port(), ""), HoldsValue(kServing));
  EXPECT_THAT(Health(coordinator->port(), "chorus.v1.Coordinator"), HoldsValue(kServing));
  EXPECT_THAT(Health(coordinator->port(), "chorus.v1.Nonsense"), HasCode(Code::kNotFound));
}

TEST_F(RealCoordinator, IsNotServingWhileItsStoreFailsAndServesAgainByItself) {
  const std::unique_ptr<Coordinator> coordinator = Start(false);
  store_.broken.store(true);
  const std::string five_rounds("\x10\x05", 2);  // StatusRequest{round_count = 2}
  EXPECT_THAT(CallUnary(coordinator->port(), "/chorus.v1.Coordinator/GetStatus", five_rounds),
              HasCode(Code::kResourceExhausted));
  EXPECT_TRUE(Becomes(coordinator->port(), kNotServing));
  EXPECT_THAT(Health(coordinator->port(), "chorus.v1.Coordinator"), HoldsValue(kNotServing));
  EXPECT_THAT(Get(coordinator->web_port(), "/healthz"), StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(coordinator->Metrics(), HasSubstr("chorus_store_failing 1\n"));
  store_.broken.store(false);
  EXPECT_TRUE(Becomes(coordinator->port(), kServing));
  EXPECT_THAT(Get(coordinator->web_port(), "/healthz"), StartsWith("HTTP/1.1 200"));
}

// Whoever watches its health stays for as long as they like, and holds a call and a connection.
TEST_F(RealCoordinator, IsWatchedByManyOfAnAddressAtATimeAndNotByMore) {
  constexpr size_t kCallsOfAConnection = 8;
  const std::unique_ptr<Coordinator> coordinator = Start(false);
  grpc::ChannelArguments apart;
  apart.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const auto connect = [&] {
    return grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(coordinator->port()),
                                     grpc::InsecureChannelCredentials(), apart);
  };
  std::vector<std::unique_ptr<Watcher>> watchers;
  std::shared_ptr<grpc::Channel> channel;
  for (size_t i = 0; i < limits::kForeignStreamsOfAddressMax; ++i) {
    if (i % kCallsOfAConnection == 0) channel = connect();
    watchers.push_back(std::make_unique<Watcher>(channel));
    EXPECT_TRUE(watchers.back()->told()) << i;
  }
  channel = connect();
  Watcher one_more(channel);
  EXPECT_EQ(one_more.Finish(), grpc::StatusCode::CANCELLED);
  EXPECT_THAT(Health(coordinator->port(), ""), HoldsValue(kServing));
  // One leaves, which the server may hear a moment later.
  watchers.pop_back();
  const Time began = clock_->Now();
  bool told = false;
  while (!told && clock_->Now() - began < Time(kPatienceMs)) told = Watcher(channel).told();
  EXPECT_TRUE(told);
}

TEST_F(RealCoordinator, TellsItsSchemaOnlyWhenAsked) {
  const std::string method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
  const std::string list_services("\x3A\x01*", 3);  // ServerReflectionRequest{list_services = 7}
  const std::unique_ptr<Coordinator> open = Start(true);
  EXPECT_THAT(CallUnary(open->port(), method, list_services),
              HoldsValue(HasSubstr("chorus.v1.Coordinator")));
  // Also beside one in the same process that does.
  const std::unique_ptr<Coordinator> closed = Start(false);
  EXPECT_THAT(CallUnary(closed->port(), method, list_services), HasCode(Code::kUnimplemented));
}

TEST_F(RealCoordinator, CountsItsCallsAndNeverWhoMadeThem) {
  const std::unique_ptr<Coordinator> coordinator = Start(false);
  EXPECT_THAT(CallUnary(coordinator->port(), "/chorus.v1.Coordinator/Challenge", ""), IsOk());
  EXPECT_THAT(CallUnary(coordinator->port(), "/chorus.v1.Coordinator/Next", "\xFF"),
              HasCode(Code::kInvalidArgument));
  const std::string metrics = coordinator->Metrics();
  EXPECT_THAT(metrics, HasSubstr("_count{method=\"Challenge\",code=\"OK\"} 1\n"));
  EXPECT_THAT(metrics, HasSubstr("_count{method=\"Next\",code=\"INVALID_ARGUMENT\"} 1\n"));
  EXPECT_THAT(metrics, HasSubstr("chorus_task_rounds{task=\"seen\",state=\"wanted\"} 10\n"));
  EXPECT_THAT(metrics, HasSubstr("chorus_clients_checked_in{task=\"seen\"} 0\n"));
  EXPECT_THAT(metrics, Not(HasSubstr("127.0.0.1")));
  EXPECT_THAT(Get(coordinator->web_port(), "/metrics"), HasSubstr("chorus_build_info{version="));
}

}  // namespace
}  // namespace chorus::coordinator
