#include "coordinator/service.h"

#include <grpc/support/time.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/server_builder_option.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/support/server_interceptor.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "chorus/v1/service.grpc.pb.h"
#include "coordinator/listener.h"
#include "wire/wire.h"

namespace chorus::coordinator {
namespace {

constexpr size_t kReasonBytesMax = 500;           // of a status: it travels in a header
constexpr size_t kSmallRequestBytesMax = 16'384;  // of every call but these two
constexpr size_t kControlBytesMax = limits::kTaskBytesMax + kSmallRequestBytesMax;
// When a reply is asked for again that found no room among those not read yet.
constexpr std::chrono::milliseconds kUnreadWait{500};
constexpr int kShutdownMs = 500;  // for answers under way; then the connections are cut

static_assert(limits::kEvidenceBytesMax + 1'024 < kSmallRequestBytesMax, "a check-in is small");

// Clients ping once a minute against forgetful routers; whoever pings much faster is cut off. A
// client that vanished without a word is noticed by our own pings.
constexpr int kPingIntervalMsMin = 20'000;
constexpr int kKeepaliveMs = 60'000;
constexpr int kKeepaliveTimeoutMs = 20'000;
// A client makes one call at a time, and one more while a parked one ends.
constexpr int kCallsAtATimeMax = 8;
// Names and values of a call's headers; Chorus sends none but gRPC's own.
constexpr int kHeaderBytesMax = 4'096;
// A connection keeps room for as much as it reads at once. gRPC 1.51 heeds this in a process with
// GRPC_EXPERIMENTS=-tcp_read_chunks only: see chorus/coordinator.h.
constexpr int kReadBytesMax = 64 << 10;
// A shorter request is copied out of gRPC's buffers; a longer one is used where it lies.
constexpr size_t kInPlaceBytesMin = size_t{64} << 10U;
// A piece keeps all of the buffer that it was read into: one of so many bytes under TLS, and of
// kReadBytesMax without.
constexpr size_t kTlsBufferBytes = 8'192;
// How many times its own bytes a request that is used where it lies may keep.
constexpr size_t kKeptTimesMax = 2;
// What gRPC may hold in buffers: beyond it connections are refused and calls ended. Answers on
// their way in lie in them until they are summed.
constexpr size_t kBuffersBytesMax =
    kKeptTimesMax * limits::kUploadsInFlightBytesMax + (size_t{4} << 30U);

// A connection without a call for so long is of nobody, or of a client that trains: one that waits
// has a call parked.
constexpr int kIdleMs = 5 * 60'000;
// A call whose request never ends holds at most a message; with its connection it ends after so
// long at the latest. Clients notice nothing: what is under way may finish, and then they connect
// anew.
constexpr int kConnectionAgeMs = 2 * 3'600'000;
constexpr int kConnectionGraceMs = 2 * 60'000;

// Bytes of replies that gRPC holds for callers who have not read them. A caller that reads nothing
// keeps its replies for as long as its connection lives. Thread-safe.
class Unread {
 public:
  explicit Unread(size_t bytes_max) : bytes_max_(bytes_max) {}
  bool Add(size_t bytes) {
    if (bytes_.fetch_add(bytes) + bytes <= bytes_max_) return true;
    bytes_.fetch_sub(bytes);
    return false;
  }
  void Remove(size_t bytes) { bytes_.fetch_sub(bytes); }

 private:
  const size_t bytes_max_;
  std::atomic<size_t> bytes_{0};
};

using SharedUnread = std::shared_ptr<Unread>;  // NOLINT(tidy): replies outlive their service.

// A reply while gRPC holds it. It takes the bytes over as they are, so that a chunk is not copied
// on the coordinator's thread, and frees them once they are sent or nobody can read them any more.
class SentReply {
 public:
  // kResourceExhausted: it is long, and too many bytes wait to be read.
  static Result<grpc::Slice> SliceOf(Bytes bytes, const SharedUnread& unread) {
    const size_t counted = bytes.size() > limits::kUncountedReplyBytesMax ? bytes.size() : 0;
    if (counted > 0 && !unread->Add(counted)) {
      return ResourceExhausted("too many replies wait to be read by their callers: try later")
          .RetryAfter(kUnreadWait);
    }
    auto owned = std::make_unique<SentReply>(std::move(bytes), counted, unread);
    grpc::Slice slice(
        owned->bytes_.data(), owned->bytes_.size(),
        [](void* reply) { delete static_cast<SentReply*>(reply); }, owned.get());
    static_cast<void>(owned.release());
    return slice;
  }

  SentReply(Bytes bytes, size_t counted, SharedUnread unread)
      : bytes_(std::move(bytes)), counted_(counted), unread_(std::move(unread)) {}
  ~SentReply() { unread_->Remove(counted_); }
  SentReply(const SentReply&) = delete;
  SentReply& operator=(const SentReply&) = delete;

 private:
  Bytes bytes_;
  const size_t counted_;  // of them, as unread
  const SharedUnread unread_;
};

// One rpc, which is answered once: at the latest as this goes. All that it points to is gRPC's, and
// there until then. A client that gives up does not shorten it: the reply that is on its way (at
// the latest when the parked call has waited long enough) finishes a call whose caller is gone as
// it finishes any other, and gRPC drops what it says.
class Call {
 public:
  Call(grpc::CallbackServerContext& context, grpc::ByteBuffer* response, SharedUnread unread)
      : context_(context),
        // gRPC wakes a thread of its own at the end of a call with any reactor but this.
        reactor_(context.DefaultReactor()),
        response_(response),
        unread_(std::move(unread)) {}
  ~Call() { Answer(Unavailable("the coordinator is stopping: try again later")); }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // For gRPC, before the call is answered.
  grpc::ServerUnaryReactor* reactor() { return reactor_; }

  void Answer(Result<Bytes> result) {
    grpc::ServerUnaryReactor* const reactor = std::exchange(reactor_, nullptr);
    if (reactor != nullptr) reactor->Finish(Put(std::move(result)));
  }

 private:
  grpc::Status Put(Result<Bytes> result) {
    if (!result.ok()) return StatusOf(result.status());
    const Result<grpc::Slice> slice = SentReply::SliceOf(*std::move(result), unread_);
    if (!slice.ok()) return StatusOf(slice.status());
    *response_ = grpc::ByteBuffer(&*slice, 1);
    return grpc::Status::OK;
  }
  grpc::Status StatusOf(const Status& status) {
    if (status.retry_after() > std::chrono::milliseconds{0}) {
      context_.AddTrailingMetadata(std::string(limits::kRetryAfterKey),
                                   std::to_string(status.retry_after().count()));
    }
    return {static_cast<grpc::StatusCode>(status.code()),
            status.message().substr(0, kReasonBytesMax)};
  }

  grpc::CallbackServerContext& context_;
  grpc::ServerUnaryReactor* reactor_;  // null once it was answered
  grpc::ByteBuffer* response_;
  const SharedUnread unread_;
};

using RawService =
    v1::Coordinator::WithRawCallbackMethod_Challenge<v1::Coordinator::WithRawCallbackMethod_CheckIn<
        v1::Coordinator::WithRawCallbackMethod_Next<v1::Coordinator::WithRawCallbackMethod_Download<
            v1::Coordinator::WithRawCallbackMethod_Upload<
                v1::Coordinator::WithRawCallbackMethod_GetStatus<
                    v1::Coordinator::WithRawCallbackMethod_Control<
                        v1::Coordinator::WithRawCallbackMethod_GetAudit<
                            v1::Coordinator::Service>>>>>>>>;

using Gate = decltype(ServiceOptions::gate);

// The host of "ipv4:192.0.2.1:5000" or "ipv6:%5B2001:db8::1%5D:5000", as gRPC writes a peer. Of an
// IPv6 address the first half: whoever has one has all of a network of that size, as many as they
// like [RFC 4291, 2.5.4].
std::string AddressIn(std::string_view peer) {
  std::string_view host = peer.substr(0, peer.rfind(':'));
  if (!host.starts_with("ipv6:")) return std::string(host);
  constexpr int kNetworkGroups = 4;
  size_t end = 0;
  int colons = 0;
  const size_t begin = std::string_view("ipv6:").size();
  for (end = begin; end < host.size(); ++end) {
    if (host[end] != ':') continue;
    // "::" leaves out groups of zeros; what is left of it is the network, or part of it.
    if (++colons == kNetworkGroups || host.substr(end).starts_with("::")) break;
  }
  return std::string(host.substr(0, end));
}

class Slices final : public Body::Memory {
 public:
  explicit Slices(std::vector<grpc::Slice> slices) : slices_(std::move(slices)) {}
  std::vector<BytesView> Views() const {
    std::vector<BytesView> views;
    views.reserve(slices_.size());
    for (const grpc::Slice& slice : slices_) views.emplace_back(slice.begin(), slice.size());
    return views;
  }

 private:
  const std::vector<grpc::Slice> slices_;
};

// In how many buffers of that size the pieces can lie, at most: those of one come one after the
// other.
size_t BuffersOf(Pieces pieces, size_t buffer_bytes) {
  size_t buffers = 0;
  uintptr_t first = 0;  // of the bytes in the last one
  for (const BytesView piece : pieces) {
    const auto begin = reinterpret_cast<uintptr_t>(piece.data());
    if (buffers > 0 && begin >= first && begin - first + piece.size() <= buffer_bytes) continue;
    ++buffers;
    first = begin;
  }
  return buffers;
}

// gRPC would keep the request until its answer, which may be long in coming, or many that wait; the
// body keeps what of it is not copied.
Body BodyOf(std::vector<grpc::Slice> slices, size_t size, size_t buffer_bytes) {
  auto memory = std::make_unique<Slices>(std::move(slices));
  std::vector<BytesView> pieces = memory->Views();
  if (size < kInPlaceBytesMin ||
      BuffersOf(pieces, buffer_bytes) * buffer_bytes > kKeptTimesMax * size) {
    return Join(pieces);
  }
  return {std::move(pieces), std::move(memory)};
}

class Calls final : public RawService {
 public:
  Calls(RequestSink sink, Gate gate, size_t buffer_bytes)
      : sink_(std::move(sink)), gate_(std::move(gate)), buffer_bytes_(buffer_bytes) {}

 private:
  using Context = grpc::CallbackServerContext;
  using Buffer = grpc::ByteBuffer;

  grpc::ServerUnaryReactor* Challenge(Context* context, const Buffer* in, Buffer* out) override {
    return Receive(*context, wire::kChallenge, kSmallRequestBytesMax, *in, out);
  }
  grpc::ServerUnaryReactor* CheckIn(Context* context, const Buffer* in, Buffer* out) override {
    return Receive(*context, wire::kCheckIn, kSmallRequestBytesMax, *in, out);
  }
  grpc::ServerUnaryReactor* Next(Context* context, const Buffer* in, Buffer* out) override {
    return Receive(*context, wire::kNext, kSmallRequestBytesMax, *in, out);
  }
  grpc::ServerUnaryReactor* Download(Context* context, const Buffer* in, Buffer* out) override {
    return Receive(*context, wire::kDownload, kSmallRequestBytesMax, *in, out);
  }
  grpc::ServerUnaryReactor* Upload(Context* context, const Buffer* in, Buffer* out) override {
    return Receive(*context, wire::kUpload, limits::kMessageBytesMax, *in, out);
  }
  grpc::ServerUnaryReactor* GetStatus(Context* context, const Buffer* in, Buffer* out) override {
    return Receive(*context, wire::kGetStatus, kSmallRequestBytesMax, *in, out);
  }
  grpc::ServerUnaryReactor* Control(Context* context, const Buffer* in, Buffer* out) override {
    return Receive(*context, wire::kControl, kControlBytesMax, *in, out);
  }
  grpc::ServerUnaryReactor* GetAudit(Context* context, const Buffer* in, Buffer* out) override {
    return Receive(*context, wire::kGetAudit, kSmallRequestBytesMax, *in, out);
  }

  // The call cannot end, and so stays valid, before gRPC has been given it as this returns: a
  // Finish until then waits for that.
  grpc::ServerUnaryReactor* Receive(Context& context, std::string_view method, size_t size_max,
                                    const Buffer& request, Buffer* response) {
    // std::function copies what it holds, and the last copy answers.
    const auto call = std::make_shared<Call>(  // NOLINT(tidy): shared by copies.
        context, response, wire::IsOfSession(method) ? unread_ : unread_open_);
    grpc::ServerUnaryReactor* const reactor = call->reactor();
    if (gate_ != nullptr) {
      if (Status status = gate_(method, AddressIn(context.peer())); !status.ok()) {
        call->Answer(std::move(status));
        return reactor;
      }
    }
    std::vector<grpc::Slice> slices;
    if (request.Length() > size_max) {
      call->Answer(InvalidArgument("the request has too many bytes for its method"));
    } else if (!request.Dump(&slices).ok()) {
      call->Answer(InvalidArgument("the request cannot be read"));
    } else {
      Body body = BodyOf(std::move(slices), request.Length(), buffer_bytes_);
      const_cast<Buffer&>(request).Clear();
      sink_(method, std::move(body),
            [call](Result<Bytes> result) { call->Answer(std::move(result)); });
    }
    return reactor;
  }

  const RequestSink sink_;
  const Gate gate_;
  const size_t buffer_bytes_;
  static SharedUnread NewUnread(size_t bytes_max) {
    return std::make_shared<Unread>(bytes_max);  // NOLINT(tidy): likewise.
  }
  // Apart, so that who has no session keeps nobody's reply back.
  const SharedUnread unread_ = NewUnread(limits::kUnreadBytesMax);
  const SharedUnread unread_open_ = NewUnread(limits::kUnreadOpenBytesMax);
};

// Ends the streams of gRPC's own services that are too many, of all and of one address. A health
// check that is not a stream is always answered.
class ForeignStreams final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* call) override {
    const bool foreign = std::string_view(call->method()).starts_with("/grpc.");
    const bool unary = call->type() == grpc::experimental::ServerRpcInfo::Type::UNARY;
    return foreign && !unary ? new Stream(*call, *this) : nullptr;
  }

 private:
  // Lives as long as its call.
  class Stream final : public grpc::experimental::Interceptor {
   public:
    Stream(grpc::experimental::ServerRpcInfo& call, ForeignStreams& all) : call_(call), all_(all) {}
    ~Stream() override {
      if (address_) all_.Leave(*address_);
    }
    void Intercept(grpc::experimental::InterceptorBatchMethods* batch) override {
      using grpc::experimental::InterceptionHookPoints;
      if (batch->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_INITIAL_METADATA)) {
        std::string address = AddressIn(call_.server_context()->peer());
        if (all_.Enter(address)) {
          address_ = std::move(address);
        } else {
          call_.server_context()->TryCancel();
        }
      }
      batch->Proceed();
    }

   private:
    grpc::experimental::ServerRpcInfo& call_;
    ForeignStreams& all_;
    std::optional<std::string> address_;  // once it was let in
  };

  bool Enter(const std::string& address) {
    const std::lock_guard lock(mutex_);
    if (open_ >= limits::kForeignStreamsMax) return false;
    size_t& of_address = of_[address];
    if (of_address >= limits::kForeignStreamsOfAddressMax) return false;
    ++of_address;
    ++open_;
    return true;
  }
  void Leave(const std::string& address) {
    const std::lock_guard lock(mutex_);
    --open_;
    const auto found = of_.find(address);
    if (--found->second == 0) of_.erase(found);
  }

  std::mutex mutex_;
  size_t open_ = 0;
  std::map<std::string, size_t> of_;  // an address
};

// What gRPC may hold: half of the machine's memory, and no more than it can have use for.
size_t BuffersBytesMax() {
  const auto pages = static_cast<uint64_t>(std::max(::sysconf(_SC_PHYS_PAGES), 0L));
  const auto page = static_cast<uint64_t>(std::max(::sysconf(_SC_PAGESIZE), 0L));
  const uint64_t half = pages * page / 2;
  return half == 0 ? kBuffersBytesMax : std::min<uint64_t>(kBuffersBytesMax, half);
}

void Configure(grpc::ServerBuilder& builder, const ServiceOptions& options) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(limits::kMessageBytesMax));
  builder.SetMaxSendMessageSize(static_cast<int>(limits::kMessageBytesMax));
  // A small compressed message could grow beyond every bound, and Chorus compresses nothing.
  builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kPingIntervalMsMin);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                             static_cast<int>(options.handshake_timeout.count()));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kCallsAtATimeMax);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kHeaderBytesMax);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kIdleMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, kConnectionAgeMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, kConnectionGraceMs);
  // Chunks in few frames and few reads.
  builder.AddChannelArgument(GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, kReadBytesMax);
  // Only reflection is synchronous.
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 1);
  builder.SetResourceQuota(grpc::ResourceQuota("chorus").Resize(BuffersBytesMax()));
}

// gRPC's library of reflection registers itself for every server of the process it is linked into;
// this server has it only where it was asked for.
class Reflection final : public grpc::ServerBuilderOption {
 public:
  explicit Reflection(bool wanted) : wanted_(wanted) {}
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    auto reflection = std::make_unique<grpc::reflection::ProtoServerReflectionPlugin>();
    std::erase_if(*plugins, [&](const std::unique_ptr<grpc::ServerBuilderPlugin>& plugin) {
      return plugin->name() == reflection->name();
    });
    if (wanted_) plugins->push_back(std::move(reflection));
  }

 private:
  bool wanted_;
};

using Acceptor = grpc::experimental::ExternalConnectionAcceptor;

// Connections come to it by `acceptor`.
std::unique_ptr<grpc::Server> Serve(
    const ServiceOptions& options,
    const std::shared_ptr<grpc::ServerCredentials>& credentials,  // NOLINT(tidy): gRPC's own type.
    Calls& calls, std::unique_ptr<Acceptor>& acceptor) {
  grpc::ServerBuilder builder;
  Configure(builder, options);
  builder.SetOption(std::make_unique<Reflection>(options.reflection));
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(std::make_unique<ForeignStreams>());
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
  acceptor = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, credentials);
  builder.RegisterService(&calls);
  return builder.BuildAndStart();
}

std::shared_ptr<grpc::ServerCredentials> CredentialsOf(  // NOLINT(tidy): gRPC's own type.
    const ServiceOptions& options) {
  if (options.plaintext) return grpc::InsecureServerCredentials();
  grpc::SslServerCredentialsOptions tls(
      options.client_ca_pem.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                    : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  tls.pem_root_certs = options.client_ca_pem;
  tls.pem_key_cert_pairs.push_back(
      {.private_key = options.tls_key_pem, .cert_chain = options.tls_certificate_pem});
  return grpc::SslServerCredentials(tls);
}

// Whether gRPC can use them. A server that is handed its connections does not say so, as one with a
// port of its own does; this one has a name on this machine alone, for a moment.
bool AreUsable(
    const std::shared_ptr<grpc::ServerCredentials>& credentials) {  // NOLINT(tidy): gRPC's own.
  static std::atomic<uint64_t> tried{0};
  const std::string name = "unix-abstract:chorus-credentials-" + std::to_string(::getpid()) + "-" +
                           std::to_string(tried.fetch_add(1));
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(name, credentials, &port);
  return builder.BuildAndStart() != nullptr && port > 0;
}

class GrpcService final : public Service {
 public:
  GrpcService(RequestSink sink, const ServiceOptions& options)
      : calls_(std::move(sink), options.gate,
               options.plaintext ? size_t{kReadBytesMax} : kTlsBufferBytes) {}

  ~GrpcService() override {
    listener_.reset();
    if (server_ == nullptr) return;
    server_->Shutdown(gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                                   gpr_time_from_millis(kShutdownMs, GPR_TIMESPAN)));
  }

  Status Start(const ServiceOptions& options) {
    // This holds for every gRPC server that this process builds from now on.
    grpc::EnableDefaultHealthCheckService(true);
    CHORUS_TRY_ASSIGN(listener_, Listener::Open(options.listen));
    const auto credentials = CredentialsOf(options);
    if (!options.plaintext && !AreUsable(credentials))
      return InvalidArgument(
          "tls_certificate_pem and tls_key_pem are not a certificate chain and its key in PEM, or "
          "client_ca_pem is no certificate in PEM");
    server_ = Serve(options, credentials, calls_, acceptor_);
    if (server_ == nullptr) return Unavailable("gRPC's server does not start");
    SetServing(true);
    return listener_->Start([this](int socket) {
      Acceptor::NewConnectionParameters connection;
      connection.fd = socket;
      acceptor_->HandleNewConnection(&connection);
    });
  }

  int port() const override { return listener_->port(); }

  void SetServing(bool serving) override {
    grpc::HealthCheckServiceInterface* const health = server_->GetHealthCheckService();
    if (health == nullptr) return;
    health->SetServingStatus(serving);  // of those it knows by name, and of the server
    health->SetServingStatus(v1::Coordinator::service_full_name(), serving);
  }

 private:
  Calls calls_;
  std::unique_ptr<Acceptor> acceptor_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Listener> listener_;  // last: it hands connections to the others
};

}  // namespace

Status CheckServiceOptions(const ServiceOptions& options) {
  const bool certificate = !options.tls_certificate_pem.empty();
  const bool key = !options.tls_key_pem.empty();
  if (options.listen.empty()) return InvalidArgument("listen is empty: give host:port");
  if (options.plaintext && (certificate || key || !options.client_ca_pem.empty()))
    return InvalidArgument(
        "plaintext excludes tls_certificate_pem, tls_key_pem and client_ca_pem: choose");
  if (!options.client_ca_pem.empty() &&
      options.client_ca_pem.find("BEGIN CERTIFICATE") == std::string::npos)
    return InvalidArgument("client_ca_pem holds no certificate in PEM");
  if (!options.plaintext && !(certificate && key))
    return InvalidArgument(
        "tls_certificate_pem and tls_key_pem are both needed, or plaintext = true");
  return OkStatus();
}

Result<std::unique_ptr<Service>> Service::Start(const ServiceOptions& options, RequestSink sink) {
  CHORUS_TRY(CheckServiceOptions(options));
  auto service = std::make_unique<GrpcService>(std::move(sink), options);
  CHORUS_TRY(service->Start(options));
  return std::unique_ptr<Service>(std::move(service));
}

}  // namespace chorus::coordinator
