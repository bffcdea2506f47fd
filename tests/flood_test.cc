// The real service under those who mean it no good: connections that say nothing or trickle, floods
// of connections, calls and check-ins, messages beyond every size; and mutual TLS.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "chorus/coordinator.h"
#include "client/grpc_transport.h"
#include "coordinator/listener.h"
#include "coordinator/service.h"
#include "coordinator/sockets.h"
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

constexpr milliseconds kPatience{20'000};  // what needs this long has failed
// It binds the handshakes of honest calls too, on a machine that is busy with the rest.
constexpr milliseconds kHandshake{3'000};

std::string AddressOf(int port) { return "127.0.0.1:" + std::to_string(port); }

// A bare connection to a port of this machine.
class Connection {
 public:
  explicit Connection(int port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    open_ = ::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~Connection() { ::close(socket_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  bool open() const { return open_; }
  // False once the other side has hung up.
  bool Send(std::string_view bytes) const {
    return ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
  }
  // Whether the other side hangs up within the test's patience, whatever it says before.
  bool EndsInTime() const {
    char bytes[4'096];
    while (true) {
      pollfd wanted{.fd = socket_, .events = POLLIN, .revents = 0};
      if (::poll(&wanted, 1, static_cast<int>(kPatience.count())) != 1) return false;
      if (::recv(socket_, bytes, sizeof(bytes), 0) <= 0) return true;
    }
  }

 private:
  int socket_;
  bool open_ = false;
};

using Connections = std::vector<std::unique_ptr<Connection>>;

Connections Open(int port, size_t count) {
  Connections connections;
  for (size_t i = 0; i < count; ++i) {
    connections.push_back(std::make_unique<Connection>(port));
    EXPECT_TRUE(connections.back()->open()) << i;
  }
  return connections;
}

// An authority of TLS with a server and what the tests need of it.
struct Tls {
  Tls() {
    const int64_t now = NewSystemClock()->UnixSeconds();
    authority = *crypto::MakeTlsAuthority("authority", now - 60, now + 3'600);
    server = *crypto::MakeTlsServer(authority, {"127.0.0.1"}, now - 60, now + 3'600);
    client = *crypto::MakeTlsClient(authority, "client", now - 60, now + 3'600);
    expired = *crypto::MakeTlsClient(authority, "client", now - 3'600, now - 60);
    const auto stranger = *crypto::MakeTlsAuthority("stranger", now - 60, now + 3'600);
    foreign = *crypto::MakeTlsClient(stranger, "client", now - 60, now + 3'600);
  }
  ServiceOptions Options() const {
    ServiceOptions options;
    options.listen = "127.0.0.1:0";
    options.tls_certificate_pem = server.certificate_pem;
    options.tls_key_pem = server.key_pem;
    options.handshake_timeout = kHandshake;
    return options;
  }
  Result<Bytes> Call(int port, const crypto::TlsIdentity& shown = {}) const {
    return client::NewGrpcTransport({.server = AddressOf(port),
                                     .tls_roots_pem = authority.certificate_pem,
                                     .tls_certificate_pem = shown.certificate_pem,
                                     .tls_key_pem = shown.key_pem})
        ->Call(wire::kNext, {}, kPatience);
  }

  crypto::TlsIdentity authority;
  crypto::TlsIdentity server;
  crypto::TlsIdentity client;
  crypto::TlsIdentity expired;
  crypto::TlsIdentity foreign;
};

void Agree(std::string_view, const Body&, const Reply& reply) { reply(Bytes{1}); }

std::unique_ptr<Service> Serve(const ServiceOptions& options) {
  Result<std::unique_ptr<Service>> service = Service::Start(options, Agree);
  EXPECT_THAT(service, IsOk());
  return service.ok() ? *std::move(service) : nullptr;
}

TEST(SlowLoris, IsCutOffAndHurtsNobodyOverTls) {
  const Tls tls;
  const std::unique_ptr<Service> service = Serve(tls.Options());
  const Connections silent = Open(service->port(), 100);
  const Connections trickling = Open(service->port(), 20);
  // The head of a ClientHello that promises 512 bytes.
  const std::string hello("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
  for (size_t i = 0; i < hello.size(); ++i) {
    for (const auto& connection : trickling) (void)connection->Send(hello.substr(i, 1));
  }
  EXPECT_THAT(tls.Call(service->port()), IsOk());
  for (const auto& connection : silent) EXPECT_TRUE(connection->EndsInTime());
  for (const auto& connection : trickling) EXPECT_TRUE(connection->EndsInTime());
  EXPECT_THAT(tls.Call(service->port()), IsOk());
}

TEST(SlowLoris, IsCutOffInTheMiddleOfHttp2) {
  ServiceOptions options;
  options.listen = "127.0.0.1:0";
  options.plaintext = true;
  options.handshake_timeout = kHandshake;
  const std::unique_ptr<Service> service = Serve(options);
  const std::string preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  // All at once, so that their time passes once.
  std::vector<std::pair<size_t, Connections>> half_open;
  for (const size_t sent : {size_t{0}, size_t{3}, preface.size()}) {
    half_open.emplace_back(sent, Open(service->port(), 50));
    for (const auto& connection : half_open.back().second) {
      EXPECT_TRUE(connection->Send(preface.substr(0, sent)));
    }
  }
  for (const auto& [sent, connections] : half_open) {
    for (const auto& connection : connections) EXPECT_TRUE(connection->EndsInTime()) << sent;
  }
  // What is no HTTP/2 at all is cut off at once.
  const Connections nonsense = Open(service->port(), 50);
  for (const auto& connection : nonsense) {
    EXPECT_TRUE(connection->Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n" + std::string(50'000, 'x')));
    EXPECT_TRUE(connection->EndsInTime());
  }
}

TEST(Flood, OfConnectionsThatComeAndGoHurtsNobody) {
  const Tls tls;
  const std::unique_ptr<Service> service = Serve(tls.Options());
  for (int wave = 0; wave < 10; ++wave) {
    (void)Open(service->port(), 100);
    EXPECT_THAT(tls.Call(service->port()), IsOk()) << wave;
  }
}

// As many descriptors as the process has are taken, half of them by the server's side of the
// connections, so that not even one more could be accepted.
TEST(Flood, OfMoreConnectionsThanDescriptorsHurtsNobodyOnceItIsOver) {
  const Tls tls;
  const std::unique_ptr<Service> service = Serve(tls.Options());
  EXPECT_THAT(tls.Call(service->port()), IsOk());
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = ::dup(0);
  ASSERT_GE(next, 0);
  ::close(next);
  rlimit few = before;
  few.rlim_cur = static_cast<rlim_t>(next) + 200;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  size_t opened = 0;
  {
    Connections connections;
    do {
      connections.push_back(std::make_unique<Connection>(service->port()));
      ++opened;
    } while (connections.back()->open() && opened < 400);
    EXPECT_FALSE(connections.back()->open());
  }
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_GT(opened, 50U);
  EXPECT_THAT(tls.Call(service->port()), IsOk());
}

// A connection of this machine from that address, as its server's side sees it.
class Accepted {
 public:
  explicit Accepted(uint32_t from) {
    auto listening = coordinator::ListenOn("0.0.0.0:0", {.whose = "the test"});
    EXPECT_THAT(listening, IsOk());
    client_ = coordinator::Socket(::socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(from);
    const auto* const at = reinterpret_cast<const sockaddr*>(&address);
    EXPECT_EQ(::bind(client_.get(), at, sizeof(address)), 0);
    address.sin_port = htons(static_cast<uint16_t>(listening->front().port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(client_.get(), at, sizeof(address)), 0);
    server_ = coordinator::Socket(::accept(listening->front().socket.get(), nullptr, nullptr));
    EXPECT_TRUE(server_.open());
  }
  int socket() const { return server_.get(); }

 private:
  coordinator::Socket client_;
  coordinator::Socket server_;
};

TEST(ConnectionRoom, LeavesDescriptorsForWhatIsNoConnection) {
  coordinator::ConnectionRoom room;
  const Accepted connection(INADDR_LOOPBACK);
  const auto descriptor = static_cast<size_t>(connection.socket());
  EXPECT_EQ(coordinator::ConnectionsMax(100), 75U);
  EXPECT_EQ(coordinator::ConnectionsMax(100'000), 99'800U);
  EXPECT_TRUE(room.Admits(connection.socket(), 100'000));
  EXPECT_FALSE(room.Admits(connection.socket(), descriptor));
}

TEST(ConnectionRoom, GivesNoAddressMoreThanHalfOnceItGetsNarrow) {
  coordinator::ConnectionRoom room;
  std::vector<Accepted> greedy;
  for (int i = 0; i < 20; ++i) greedy.emplace_back(INADDR_LOOPBACK);
  // So many that the last ones lie above three quarters of what there is room for.
  const size_t descriptors_max = static_cast<size_t>(greedy.back().socket()) * 5 / 3;
  const auto admitted = [&](const std::vector<Accepted>& connections) {
    return std::count_if(connections.begin(), connections.end(), [&](const Accepted& one) {
      return room.Admits(one.socket(), descriptors_max);
    });
  };
  const auto first = admitted(greedy);
  EXPECT_GT(first, 5);
  EXPECT_LT(first, 20);
  // Another address gets in all the same; and who has hung up counts no more.
  std::vector<Accepted> others;
  for (int i = 0; i < 3; ++i) others.emplace_back(INADDR_LOOPBACK + 1);
  EXPECT_EQ(admitted(others), 3);
  greedy.clear();
  others.clear();
  std::vector<Accepted> later;
  later.emplace_back(INADDR_LOOPBACK);
  EXPECT_EQ(admitted(later), 1);
}

TEST(MutualTls, OpensToCertificatesOfTheAuthorityOnly) {
  const Tls tls;
  ServiceOptions options = tls.Options();
  options.client_ca_pem = tls.authority.certificate_pem;
  const std::unique_ptr<Service> service = Serve(options);
  EXPECT_THAT(tls.Call(service->port(), tls.client), IsOk());
  EXPECT_THAT(tls.Call(service->port()), HasCode(Code::kUnavailable));
  EXPECT_THAT(tls.Call(service->port(), tls.foreign), HasCode(Code::kUnavailable));
  EXPECT_THAT(tls.Call(service->port(), tls.expired), HasCode(Code::kUnavailable));
  EXPECT_THAT(tls.Call(service->port(), tls.server), HasCode(Code::kUnavailable));  // its purpose
  // A file that was cut off must not turn off what it is for.
  options.client_ca_pem = "\n";
  EXPECT_THAT(Service::Start(options, Agree), HasCodeAndText(Code::kInvalidArgument, "client_ca"));
  options.client_ca_pem = "no certificate";
  EXPECT_THAT(Service::Start(options, Agree), HasCodeAndText(Code::kInvalidArgument, "client_ca"));
  options.client_ca_pem = tls.authority.certificate_pem;
  options.plaintext = true;
  options.tls_certificate_pem.clear();
  options.tls_key_pem.clear();
  EXPECT_THAT(Service::Start(options, Agree), HasCode(Code::kInvalidArgument));
}

TEST(Transport, HangsUpAndComesBack) {
  const Tls tls;
  const std::unique_ptr<Service> service = Serve(tls.Options());
  const std::unique_ptr<Transport> transport = client::NewGrpcTransport(
      {.server = AddressOf(service->port()), .tls_roots_pem = tls.authority.certificate_pem});
  EXPECT_THAT(transport->Call(wire::kNext, {}, kPatience), IsOk());
  transport->HangUp();
  transport->HangUp();
  EXPECT_THAT(transport->Call(wire::kNext, {}, kPatience), IsOk());
}

// What HTTP/2 sends of a call without a body, on a stream of its own: its headers, uncompressed.
std::string CallOf(uint32_t stream, std::string_view method) {
  const auto frame = [stream](char type, char flags, const std::string& body) {
    std::string all = {0,
                       static_cast<char>(body.size() >> 8U),
                       static_cast<char>(body.size()),
                       type,
                       flags,
                       0,
                       0,
                       0,
                       static_cast<char>(stream)};
    return all + body;
  };
  std::string headers;
  const auto add = [&headers](std::string_view name, std::string_view value) {
    headers += '\0';
    headers += static_cast<char>(name.size());
    headers += name;
    headers += static_cast<char>(value.size());
    headers += value;
  };
  add(":method", "POST");
  add(":scheme", "http");
  add(":path", "/chorus.v1.Coordinator/" + std::string(method));
  add(":authority", "coordinator");
  add("te", "trailers");
  add("content-type", "application/grpc");
  return frame(1, 4, headers) + frame(0, 1, std::string(5, '\0'));
}

TEST(Unread, RepliesAreBoundedAndOnesOfSessionsApart) {
  constexpr size_t kReplyBytes = size_t{1} << 20U;
  constexpr uint32_t kCalls = 8;
  ServiceOptions options;
  options.listen = "127.0.0.1:0";
  options.plaintext = true;
  std::atomic<size_t> answered = 0;
  const std::unique_ptr<Service> service =
      *Service::Start(options, [&answered](std::string_view, const Body&, const Reply& reply) {
        reply(Bytes(kReplyBytes));
        ++answered;
      });
  const std::unique_ptr<Transport> honest = client::NewGrpcTransport(
      {.server = AddressOf(service->port()), .tls_roots_pem = {}, .plaintext = true});
  EXPECT_THAT(honest->Call(wire::kGetStatus, {}, kPatience), IsOk());
  // Connections whose windows are of no byte: they ask and read nothing.
  Connections greedy = Open(service->port(), limits::kUnreadOpenBytesMax / kReplyBytes / kCalls);
  const std::string settings("\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0", 15);
  for (const auto& connection : greedy) {
    std::string all = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings;
    for (uint32_t i = 0; i < kCalls; ++i) all += CallOf(2 * i + 1, wire::kGetStatus);
    EXPECT_TRUE(connection->Send(all));
  }
  const auto until = [](const auto& done) {
    for (int i = 0; i < 2'000 && !done(); ++i) std::this_thread::sleep_for(milliseconds(10));
    return done();
  };
  ASSERT_TRUE(until([&] { return answered == 1 + kCalls * greedy.size(); })) << answered;
  const Result<Bytes> refused = honest->Call(wire::kGetStatus, {}, kPatience);
  EXPECT_THAT(refused, HasCodeAndText(Code::kResourceExhausted, "wait to be read"));
  EXPECT_GT(refused.status().retry_after(), milliseconds(0));
  EXPECT_THAT(honest->Call(wire::kDownload, {}, kPatience), IsOk());
  greedy.clear();
  EXPECT_TRUE(until([&] { return honest->Call(wire::kGetStatus, {}, kPatience).ok(); }));
}

// --- a coordinator -------------------------------------------------------------------------------

class Besieged : public testing::Test {
 protected:
  void Start(const AdmissionOptions& admission) {
    CoordinatorOptions options;
    options.listen = "127.0.0.1:0";
    options.plaintext = true;
    options.signing_seed = SecretBytes(Bytes(32, 1));
    HostedTask& hosted = options.tasks.emplace_back();
    hosted.task.name = "besieged";
    hosted.task.model = {.inputs = 2, .layers = {LayerSpec{.units = 2}}};
    hosted.task.protocol = Protocol::kPlain;
    hosted.initial_weights = Weights{1, 2, 3, 4, 5, 6};
    options.admission = admission;
    options.own_thread = own_thread_;
    auto started = Coordinator::Start(std::move(options), *store_, *verifier_, *clock_, *log_);
    ASSERT_THAT(started, IsOk());
    coordinator_ = *std::move(started);
  }
  std::unique_ptr<Transport> Connect() const {
    return client::NewGrpcTransport(
        {.server = AddressOf(coordinator_->port()), .tls_roots_pem = {}, .plaintext = true});
  }
  static Result<wire::SessionToken> CheckIn(Transport& transport, uint8_t name) {
    CHORUS_TRY_ASSIGN(const Bytes given, transport.Call(wire::kChallenge, {}, kPatience));
    CHORUS_TRY_ASSIGN(const auto challenge, wire::Decode<wire::ChallengeReply>(given));
    const Bytes seed(32, name);
    trust::Certificate certificate{.not_after = int64_t{1} << 40U};
    certificate.subject = crypto::Ed25519Public(seed);
    wire::CheckInRequest request;
    request.challenge = challenge.challenge;
    request.identity = certificate.subject;
    request.evidence = trust::IssueCertificate(certificate, Bytes(32, 2));
    request.signature = crypto::Ed25519Sign(
        seed, crypto::LabeledHash("CHORUS1/check-in",
                                  {crypto::Ed25519Public(Bytes(32, 1)), request.challenge,
                                   request.identity, crypto::Sha256(request.evidence)}));
    CHORUS_TRY_ASSIGN(const Bytes opened,
                      transport.Call(wire::kCheckIn, wire::Encode(request), kPatience));
    CHORUS_TRY_ASSIGN(const auto reply, wire::Decode<wire::CheckInReply>(opened));
    return reply.session;
  }
  // Every call that names this session, with a chunk of so many bytes.
  static std::vector<std::pair<std::string_view, Bytes>> CallsOf(const wire::SessionToken& session,
                                                                 size_t chunk_bytes) {
    wire::UploadRequest upload;
    upload.session = session;
    upload.total_bytes = chunk_bytes;
    upload.data.resize(chunk_bytes);
    return {
        {wire::kUpload, wire::Encode(upload)},
        {wire::kNext, wire::Encode(wire::NextRequest{.session = session})},
        {wire::kDownload, wire::Encode(wire::DownloadRequest{.session = session, .sha256 = {}})}};
  }

  const std::unique_ptr<Clock> clock_ = NewSystemClock();
  const std::unique_ptr<LogSink> log_ = NewStderrLogSink(LogLevel::kWarn);
  const std::unique_ptr<Store> store_ = NewMemoryStore();
  const std::unique_ptr<IdentityVerifier> verifier_ =
      trust::NewCertificateVerifier(crypto::Ed25519Public(Bytes(32, 2)), *clock_);
  bool own_thread_ = true;
  std::unique_ptr<Coordinator> coordinator_;
};

TEST_F(Besieged, TellsAnAddressThatAsksTooOftenWhenToComeBack) {
  AdmissionOptions admission;
  admission.address = {.per_second = 0.1, .burst = 20};
  Start(admission);
  const std::unique_ptr<Transport> transport = Connect();
  for (int i = 0; i < 20; ++i) {
    EXPECT_THAT(transport->Call(wire::kChallenge, {}, kPatience), IsOk()) << i;
  }
  const Result<Bytes> refused = transport->Call(wire::kChallenge, {}, kPatience);
  EXPECT_THAT(refused, HasCodeAndText(Code::kResourceExhausted, "address"));
  EXPECT_GT(refused.status().retry_after(), milliseconds(1'000));
  EXPECT_LE(refused.status().retry_after(), milliseconds(10'000));
  // Another connection from there makes no difference; calls of a session are not counted.
  EXPECT_THAT(Connect()->Call(wire::kGetStatus, {}, kPatience), HasCode(Code::kResourceExhausted));
  EXPECT_THAT(transport->Call(wire::kNext, wire::Encode(wire::NextRequest{}), kPatience),
              HasCode(Code::kUnauthenticated));
}

TEST_F(Besieged, CountsAStatusAsManyCalls) {
  AdmissionOptions admission;
  admission.address = {.per_second = 0.1, .burst = 25};
  Start(admission);
  const std::unique_ptr<Transport> transport = Connect();
  EXPECT_THAT(transport->Call(wire::kGetStatus, {}, kPatience), IsOk());
  EXPECT_THAT(transport->Call(wire::kGetStatus, {}, kPatience), IsOk());
  for (const std::string_view costly : {wire::kGetStatus, wire::kGetAudit, wire::kControl}) {
    EXPECT_THAT(transport->Call(costly, {}, kPatience),
                HasCodeAndText(Code::kResourceExhausted, "address"));
  }
  EXPECT_THAT(transport->Call(wire::kChallenge, {}, kPatience), IsOk());
}

// Nobody serves the queue here but while clients check in: what is answered was never in it.
TEST_F(Besieged, RefusesWhatNamesNoOpenSessionBeforeItIsQueued) {
  own_thread_ = false;
  Start({.identity = {}, .subject = {}, .address = {}});
  const std::unique_ptr<Transport> transport = Connect();
  const auto check_in = [&] {
    std::atomic<bool> done = false;
    std::thread ticking([&] {
      while (!done) EXPECT_THAT(coordinator_->Tick(milliseconds(1)), IsOk());
    });
    Result<wire::SessionToken> session = CheckIn(*transport, 10);
    done = true;
    ticking.join();
    EXPECT_THAT(session, IsOk());
    return session.ok() ? *session : wire::SessionToken{};
  };
  const wire::SessionToken replaced = check_in();
  const wire::SessionToken open = check_in();
  wire::SessionToken guessed = open;  // its number is no secret
  guessed.back() ^= 1;
  for (const wire::SessionToken& session : {replaced, guessed}) {
    for (const auto& [method, request] : CallsOf(session, 10'000)) {
      EXPECT_THAT(transport->Call(method, request, kPatience),
                  HasCodeAndText(Code::kUnauthenticated, "check in again"))
          << method;
    }
  }
  for (const std::string_view method : {wire::kUpload, wire::kNext, wire::kDownload}) {
    EXPECT_THAT(transport->Call(method, Bytes(10'000, 0xFF), kPatience),
                HasCode(Code::kInvalidArgument))
        << method;
  }
  for (const auto& [method, request] : CallsOf(open, 10'000)) {
    EXPECT_THAT(transport->Call(method, request, milliseconds(50)),
                HasCode(Code::kDeadlineExceeded))
        << method;
  }
}

TEST_F(Besieged, LetsHonestClientsInDuringAFlood) {
  constexpr size_t kInFlight = 256;
  Start({.identity = {}, .subject = {}, .address = {}});
  std::vector<std::pair<std::string_view, Bytes>> calls =
      CallsOf(wire::SessionToken{1}, size_t{256} << 10U);
  calls.emplace_back(wire::kCheckIn, Bytes(10'000, 0xFF));
  calls.emplace_back(wire::kUpload, Bytes(10'000, 0xFF));
  calls.emplace_back(wire::kChallenge, Bytes());
  std::atomic<bool> over = false;
  std::atomic<size_t> sent = 0;
  std::vector<std::thread> hostile;
  for (size_t i = 0; i < kInFlight; ++i) {
    hostile.emplace_back([&, i] {
      const std::unique_ptr<Transport> transport = Connect();
      for (size_t call = i; !over; ++call, ++sent) {
        const auto& [method, request] = calls[call % calls.size()];
        (void)transport->Call(method, request, kPatience);
      }
    });
  }
  const std::unique_ptr<Transport> transport = Connect();
  // Until they have met enough of the flood, however the threads are scheduled.
  int honest = 0;
  for (const Time end = clock_->Now() + 3 * kPatience;
       (honest < 20 || sent <= kInFlight) && clock_->Now() < end; ++honest) {
    const auto session = CheckIn(*transport, static_cast<uint8_t>(10 + honest % 200));
    EXPECT_THAT(session, IsOk());
    if (!session.ok()) break;
    // There is no such model, which only whoever is let in gets told.
    const wire::DownloadRequest asked{.session = *session, .sha256 = {}};
    EXPECT_THAT(transport->Call(wire::kDownload, wire::Encode(asked), kPatience),
                HasCode(Code::kNotFound));
  }
  over = true;
  for (std::thread& thread : hostile) thread.join();
  EXPECT_GE(honest, 20);
  EXPECT_GT(sent, kInFlight);
}

}  // namespace
}  // namespace chorus
