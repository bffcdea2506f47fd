// In place of grpc_transport.cc where the library is built without gRPC.
#include "client/grpc_transport.h"

namespace chorus::client {
namespace {

class NoTransport final : public Transport {
 public:
  Result<Bytes> Call(std::string_view, BytesView, std::chrono::milliseconds) override {
    return Status(Code::kUnimplemented,
                  "this library was built without gRPC: start the client over a transport of the "
                  "host's");
  }
  void Interrupt() override {}
};

}  // namespace

std::unique_ptr<Transport> NewGrpcTransport(GrpcTransportOptions) {
  return std::make_unique<NoTransport>();
}

}  // namespace chorus::client
