#include "client/grpc_transport.h"

#include <grpc/support/time.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "client/servers.h"

namespace chorus::client {
namespace {

constexpr size_t kReasonBytesMax = 500;  // of a peer's words

// Home routers forget an idle connection after a minute or more; the server permits this rate.
constexpr int kKeepaliveMs = 60'000;
constexpr int kKeepaliveTimeoutMs = 20'000;
// The session above waits between attempts itself, so gRPC's own waits are short.
constexpr int kReconnectFirstMs = 100;
constexpr int kReconnectMaxMs = 5'000;
// What gRPC calls its smallest backoff is really how long one attempt to connect may take.
constexpr int kConnectTimeoutMs = 10'000;
// One failure may be a stutter, and going on to another server costs the round in flight.
constexpr uint32_t kFailuresAtOne = 2;

grpc::ChannelArguments ArgumentsOfChannel() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(static_cast<int>(limits::kMessageBytesMax));
  arguments.SetMaxSendMessageSize(static_cast<int>(limits::kMessageBytesMax));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kReconnectFirstMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kReconnectMaxMs);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kConnectTimeoutMs);
  // One call is one request: what is done again, the session decides.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  // A name server has no say in how calls are made.
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  // A small compressed message could grow beyond every bound, and Chorus compresses nothing.
  arguments.SetInt(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  // Each client has a connection of its own, whatever else in the process calls the same server.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return arguments;
}

// The peer's words end up in logs and on screens: printable ASCII, bounded.
std::string CleanReason(const std::string& text) {
  std::string clean = text.substr(0, kReasonBytesMax);
  for (char& c : clean) {
    if (c < 0x20 || c > 0x7E) c = '?';
  }
  return clean;
}

Status StatusOf(const grpc::Status& status) {
  const int number = status.error_code();
  const bool known = number > 0 && number <= static_cast<int>(Code::kUnauthenticated);
  Code code = known ? static_cast<Code>(number) : Code::kUnknown;
  // Proxies reset a stream with CANCELLED when they lose the server. Here kCancelled says that we
  // wanted to stop, and nobody else can say so.
  if (code == Code::kCancelled) code = Code::kUnavailable;
  return Status(code, CleanReason(status.error_message()));
}

// What the server says to wait before the next try, as gRPC's own retries would read it [gRFC A6];
// 0 when it says nothing that makes sense.
std::chrono::milliseconds RetryAfterIn(const grpc::ClientContext& context) {
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto found = trailers.find(limits::kRetryAfterKey.data());
  if (found == trailers.end()) return std::chrono::milliseconds{0};
  const char* const begin = found->second.data();
  const char* const end = begin + found->second.size();
  int64_t wait = 0;
  const std::from_chars_result read = std::from_chars(begin, end, wait);
  if (read.ec != std::errc() || read.ptr != end) return std::chrono::milliseconds{0};
  return std::clamp(std::chrono::milliseconds{wait}, std::chrono::milliseconds{0},
                    std::chrono::milliseconds{limits::kStayAwayMax});
}

Result<Bytes> BytesOf(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  if (!buffer.Dump(&slices).ok()) return DataLoss("the answer cannot be read");
  Bytes bytes;
  bytes.reserve(buffer.Length());
  for (const grpc::Slice& slice : slices) bytes.insert(bytes.end(), slice.begin(), slice.end());
  return bytes;
}

class GrpcTransport final : public Transport {
 public:
  explicit GrpcTransport(GrpcTransportOptions options) : options_(std::move(options)) {
    // Of a list that makes no sense the whole is the address, and gRPC says what is wrong with it.
    const Result<std::vector<std::string>> servers = ServersOf(options_.server);
    servers_ = servers.ok() ? SpreadOver(*servers, options_.spread) : std::vector{options_.server};
    options_.spread = {};
    stub_.emplace(Connect(options_, servers_.front()));
  }

  Result<Bytes> Call(std::string_view method, BytesView request,
                     std::chrono::milliseconds deadline) override {
    if (request.size() > limits::kMessageBytesMax)
      return InvalidArgument("a request has at most " + std::to_string(limits::kMessageBytesMax) +
                             " bytes");
    const std::string path = "/chorus.v1.Coordinator/" + std::string(method);
    // A copy, because gRPC may still hold the bytes of a call that was given up.
    const grpc::Slice slice(request.data(), request.size());
    const grpc::ByteBuffer message(&slice, 1);
    grpc::ByteBuffer answer;
    grpc::Status status;
    grpc::ClientContext context;
    context.set_deadline(
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                     gpr_time_from_millis(std::clamp<int64_t>(deadline.count(), 0, kDeadlineMsMax),
                                          GPR_TIMESPAN)));

    std::unique_lock lock(mutex_);
    if (interrupted_) return Interrupted();
    context_ = &context;
    done_ = false;
    lock.unlock();
    if (!stub_) stub_.emplace(Connect(options_, servers_[at_]));
    stub_->UnaryCall(&context, path, grpc::StubOptions(), &message, &answer,
                     [this, &status](grpc::Status outcome) {
                       const std::lock_guard hold(mutex_);
                       status = std::move(outcome);
                       done_ = true;
                       changed_.notify_one();
                     });
    // gRPC always completes a call that has a deadline, and at once after TryCancel.
    lock.lock();
    changed_.wait(lock, [this] { return done_; });
    context_ = nullptr;
    if (interrupted_) return Interrupted();
    lock.unlock();
    if (status.ok()) {
      failures_ = 0;
      return BytesOf(answer);
    }
    const Status failed = StatusOf(status).RetryAfter(RetryAfterIn(context));
    GoOn(failed.code());
    return failed;
  }

  void Interrupt() override {
    const std::lock_guard lock(mutex_);
    interrupted_ = true;
    if (context_ != nullptr) context_->TryCancel();
  }

  void HangUp() override { stub_.reset(); }

 private:
  static constexpr int64_t kDeadlineMsMax = 24 * 3'600 * 1'000;

  static Status Interrupted() { return Cancelled("the transport was told to stop"); }

  // To the next server where this one does not answer.
  void GoOn(Code code) {
    const bool silent = code == Code::kUnavailable || code == Code::kDeadlineExceeded;
    failures_ = silent ? failures_ + 1 : 0;
    if (failures_ < kFailuresAtOne || servers_.size() == 1) return;
    failures_ = 0;
    at_ = (at_ + 1) % servers_.size();
    stub_.emplace(Connect(options_, servers_[at_]));
  }

  static std::shared_ptr<grpc::Channel> Connect(  // NOLINT(tidy): gRPC hands channels out shared.
      const GrpcTransportOptions& options, const std::string& server) {
    grpc::SslCredentialsOptions tls;
    tls.pem_root_certs = options.tls_roots_pem;
    tls.pem_cert_chain = options.tls_certificate_pem;
    tls.pem_private_key = options.tls_key_pem;
    return grpc::CreateCustomChannel(
        server, options.plaintext ? grpc::InsecureChannelCredentials() : grpc::SslCredentials(tls),
        ArgumentsOfChannel());
  }

  GrpcTransportOptions options_;
  std::vector<std::string> servers_;  // in the order in which they are called
  size_t at_ = 0;
  uint32_t failures_ = 0;                  // in a row, at this one
  std::optional<grpc::GenericStub> stub_;  // none while hung up
  std::mutex mutex_;
  std::condition_variable changed_;
  grpc::ClientContext* context_ = nullptr;  // of the call under way
  bool done_ = false;
  bool interrupted_ = false;
};

}  // namespace

std::unique_ptr<Transport> NewGrpcTransport(GrpcTransportOptions options) {
  return std::make_unique<GrpcTransport>(std::move(options));
}

}  // namespace chorus::client
