#include "coordinator/service.h"

#include <grpc/support/time.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>

#include <utility>
#include <vector>

#include "base/limits.h"
#include "chorus/v1/service.grpc.pb.h"
#include "wire/wire.h"

namespace chorus::coordinator {
namespace {

constexpr size_t kReasonBytesMax = 500;           // of a status: it travels in a header
constexpr size_t kSmallRequestBytesMax = 16'384;  // of every call but Upload
// What gRPC may hold in buffers: beyond it connections are refused and calls ended.
constexpr size_t kBuffersBytesMax = size_t{4} << 30U;
constexpr int kShutdownMs = 500;  // for answers under way; then the connections are cut

static_assert(limits::kEvidenceBytesMax + 1'024 < kSmallRequestBytesMax, "a check-in is small");

// Clients ping once a minute against forgetful routers; whoever pings much faster is cut off. A
// client that vanished without a word is noticed by our own pings.
constexpr int kPingIntervalMsMin = 20'000;
constexpr int kKeepaliveMs = 60'000;
constexpr int kKeepaliveTimeoutMs = 20'000;

// One rpc. Its life is gRPC's: it ends in OnDone, which comes after Finish and never before. A
// client that gives up does not shorten it, so OnCancel has nothing to do: the reply that is on its
// way (at the latest when the parked call has waited long enough) finishes a call whose caller is
// gone as it finishes any other, and gRPC drops what it says.
class Call final : public grpc::ServerUnaryReactor {
 public:
  explicit Call(grpc::ByteBuffer* response) : response_(response) {}

  void Answer(Result<Bytes> result) {
    if (!result.ok()) {
      const Status& status = result.status();
      Finish(grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                          status.message().substr(0, kReasonBytesMax)));
      return;
    }
    // gRPC takes the bytes over as they are; a chunk is not copied on the coordinator's thread.
    auto owned = std::make_unique<Bytes>(*std::move(result));
    grpc::Slice slice(
        owned->data(), owned->size(), [](void* bytes) { delete static_cast<Bytes*>(bytes); },
        owned.get());
    static_cast<void>(owned.release());
    *response_ = grpc::ByteBuffer(&slice, 1);
    Finish(grpc::Status::OK);
  }

  void OnDone() override { delete this; }

 private:
  grpc::ByteBuffer* response_;  // gRPC's, until OnDone
};

// Answers its call once.
class Once {
 public:
  explicit Once(Call* call) : call_(call) {}
  Once(const Once&) = delete;
  Once& operator=(const Once&) = delete;
  ~Once() { Answer(Unavailable("the coordinator is stopping: try again later")); }
  void Answer(Result<Bytes> result) {
    if (Call* call = std::exchange(call_, nullptr)) call->Answer(std::move(result));
  }

 private:
  Call* call_;
};

using RawService =
    v1::Coordinator::WithRawCallbackMethod_Challenge<v1::Coordinator::WithRawCallbackMethod_CheckIn<
        v1::Coordinator::WithRawCallbackMethod_Next<v1::Coordinator::WithRawCallbackMethod_Download<
            v1::Coordinator::WithRawCallbackMethod_Upload<
                v1::Coordinator::WithRawCallbackMethod_GetStatus<v1::Coordinator::Service>>>>>>;

class Calls final : public RawService {
 public:
  explicit Calls(RequestSink sink) : sink_(std::move(sink)) {}

 private:
  using Context = grpc::CallbackServerContext;
  using Buffer = grpc::ByteBuffer;

  grpc::ServerUnaryReactor* Challenge(Context*, const Buffer* in, Buffer* out) override {
    return Receive(wire::kChallenge, kSmallRequestBytesMax, *in, out);
  }
  grpc::ServerUnaryReactor* CheckIn(Context*, const Buffer* in, Buffer* out) override {
    return Receive(wire::kCheckIn, kSmallRequestBytesMax, *in, out);
  }
  grpc::ServerUnaryReactor* Next(Context*, const Buffer* in, Buffer* out) override {
    return Receive(wire::kNext, kSmallRequestBytesMax, *in, out);
  }
  grpc::ServerUnaryReactor* Download(Context*, const Buffer* in, Buffer* out) override {
    return Receive(wire::kDownload, kSmallRequestBytesMax, *in, out);
  }
  grpc::ServerUnaryReactor* Upload(Context*, const Buffer* in, Buffer* out) override {
    return Receive(wire::kUpload, limits::kMessageBytesMax, *in, out);
  }
  grpc::ServerUnaryReactor* GetStatus(Context*, const Buffer* in, Buffer* out) override {
    return Receive(wire::kGetStatus, kSmallRequestBytesMax, *in, out);
  }

  // The call cannot end, and so stays valid, before gRPC has been given it as this returns: a
  // Finish until then waits for that.
  grpc::ServerUnaryReactor* Receive(std::string_view method, size_t size_max, const Buffer& request,
                                    Buffer* response) {
    Call* const call = new Call(response);
    std::vector<grpc::Slice> slices;
    if (request.Length() > size_max) {
      call->Answer(InvalidArgument("the request has too many bytes for its method"));
    } else if (!request.Dump(&slices).ok()) {
      call->Answer(InvalidArgument("the request cannot be read"));
    } else {
      Bytes bytes;
      bytes.reserve(request.Length());
      for (const grpc::Slice& slice : slices) bytes.insert(bytes.end(), slice.begin(), slice.end());
      // std::function copies what it holds, and the last copy answers.
      auto once = std::make_shared<Once>(call);  // NOLINT(tidy): shared by copies.
      sink_(method, std::move(bytes),
            [once](Result<Bytes> result) { once->Answer(std::move(result)); });
    }
    return call;
  }

  const RequestSink sink_;
};

void Configure(grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(limits::kMessageBytesMax));
  builder.SetMaxSendMessageSize(static_cast<int>(limits::kMessageBytesMax));
  // Without this a second server could share the port and take half of the clients.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // A small compressed message could grow beyond every bound, and Chorus compresses nothing.
  builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kPingIntervalMsMin);
  // Only reflection is synchronous.
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 1);
  builder.SetResourceQuota(grpc::ResourceQuota("chorus").Resize(kBuffersBytesMax));
}

// Null when the address cannot be had, or the credentials are no good.
std::unique_ptr<grpc::Server> Listen(
    const std::string& address,
    const std::shared_ptr<grpc::ServerCredentials>& credentials,  // NOLINT(tidy): gRPC's own type.
    Calls& calls, int& port) {
  grpc::ServerBuilder builder;
  Configure(builder);
  builder.AddListeningPort(address, credentials, &port);
  builder.RegisterService(&calls);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  return port > 0 ? std::move(server) : nullptr;
}

class GrpcService final : public Service {
 public:
  explicit GrpcService(RequestSink sink) : calls_(std::move(sink)) {}

  ~GrpcService() override {
    if (server_ == nullptr) return;
    server_->Shutdown(gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                                   gpr_time_from_millis(kShutdownMs, GPR_TIMESPAN)));
  }

  Status Start(const ServiceOptions& options) {
    // Both of these hold for every gRPC server that this process builds from now on.
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    if (options.plaintext) {
      server_ = Listen(options.listen, grpc::InsecureServerCredentials(), calls_, port_);
    } else {
      grpc::SslServerCredentialsOptions tls;
      tls.pem_key_cert_pairs.push_back(
          {.private_key = options.tls_key_pem, .cert_chain = options.tls_certificate_pem});
      server_ = Listen(options.listen, grpc::SslServerCredentials(tls), calls_, port_);
    }
    if (server_ != nullptr) return OkStatus();
    // gRPC does not say which of the two was wrong; whether the address is free tells.
    int free_port = 0;
    Calls nothing([](std::string_view, const Bytes&, const Reply&) {});
    if (!options.plaintext &&
        Listen(options.listen, grpc::InsecureServerCredentials(), nothing, free_port) != nullptr)
      return InvalidArgument(
          "tls_certificate_pem and tls_key_pem are not a certificate chain and its key in PEM");
    return Unavailable("cannot listen on " + options.listen +
                       ": the port is in use, or the address is not of this machine");
  }

  int port() const override { return port_; }

 private:
  Calls calls_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

}  // namespace

Status CheckServiceOptions(const ServiceOptions& options) {
  const bool certificate = !options.tls_certificate_pem.empty();
  const bool key = !options.tls_key_pem.empty();
  if (options.listen.empty()) return InvalidArgument("listen is empty: give host:port");
  if (options.plaintext && (certificate || key))
    return InvalidArgument("plaintext excludes tls_certificate_pem and tls_key_pem: choose");
  if (!options.plaintext && !(certificate && key))
    return InvalidArgument(
        "tls_certificate_pem and tls_key_pem are both needed, or plaintext = true");
  return OkStatus();
}

Result<std::unique_ptr<Service>> Service::Start(const ServiceOptions& options, RequestSink sink) {
  CHORUS_TRY(CheckServiceOptions(options));
  auto service = std::make_unique<GrpcService>(std::move(sink));
  CHORUS_TRY(service->Start(options));
  return std::unique_ptr<Service>(std::move(service));
}

}  // namespace chorus::coordinator
