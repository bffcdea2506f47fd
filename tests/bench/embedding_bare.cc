// A gRPC TLS client with nothing of Chorus in it, beside which the client's memory and start are
// measured: embedding_bare HOST:PORT TLS_ROOTS. Makes one call, prints what it took, and what is
// resident a little later.
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <string>

#include "embedding_process.h"

namespace {

// Challenge, whose request is empty: what the client's first call is.
bool CallOnce(grpc::GenericStub& stub) {
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  // A buffer of nothing at all is none.
  const grpc::Slice empty;
  const grpc::ByteBuffer request(&empty, 1);
  const auto call =
      stub.PrepareUnaryCall(&context, "/chorus.v1.Coordinator/Challenge", request, &queue);
  call->StartCall();
  grpc::ByteBuffer reply;
  grpc::Status status;
  call->Finish(&reply, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  if (!queue.Next(&tag, &ok)) return false;
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.error_message().c_str());
  return status.ok();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  std::ifstream file(argv[2]);
  const std::string roots{std::istreambuf_iterator<char>(file), {}};
  const double begin = chorus::bench::WallSeconds();
  grpc::GenericStub stub(
      grpc::CreateChannel(argv[1], grpc::SslCredentials({roots, std::string(), std::string()})));
  if (!CallOnce(stub)) return 1;
  std::printf("start_ms %.3f\n", 1e3 * (chorus::bench::WallSeconds() - begin));
  usleep(chorus::bench::kSettleUs);
  std::printf("resident_kb %ld\n", chorus::bench::StatusKb("VmRSS"));
  return 0;
}
