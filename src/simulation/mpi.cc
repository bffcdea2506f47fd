// Processes that mpirun started, over MPI: the only place that knows of it. Errors of MPI itself
// end all processes of the run, as is its default.
#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "chorus/simulation.h"

#ifdef CHORUS_WITH_MPI
#include <mpi.h>
#endif

namespace chorus {
namespace {

// What the launchers in use set for the processes that they start: Open MPI, those of the PMI
// interface (MPICH, Intel), and PMIx.
bool StartedByMpi() {
  const char* const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"};
  return std::any_of(std::begin(names), std::end(names),
                     [](const char* name) { return std::getenv(name) != nullptr; });
}

#ifdef CHORUS_WITH_MPI

// An MPI count is an int, so that more goes in pieces.
constexpr uint64_t kPieceBytesMax = uint64_t{1} << 30U;
constexpr int kTag = 1;

class MpiCluster final : public Cluster {
 public:
  MpiCluster() {
    // Only the thread that made the cluster speaks to it.
    int provided = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
  }
  ~MpiCluster() override { MPI_Finalize(); }
  MpiCluster(const MpiCluster&) = delete;
  MpiCluster& operator=(const MpiCluster&) = delete;

  uint32_t rank() const override { return static_cast<uint32_t>(rank_); }
  uint32_t size() const override { return static_cast<uint32_t>(size_); }

  Result<Bytes> Broadcast(BytesView bytes) override {
    uint64_t length = bytes.size();
    MPI_Bcast(&length, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
    Bytes all(length);
    if (rank_ == 0) std::copy(bytes.begin(), bytes.end(), all.begin());
    for (uint64_t begin = 0; begin < length; begin += kPieceBytesMax) {
      MPI_Bcast(all.data() + begin, Piece(length - begin), MPI_BYTE, 0, MPI_COMM_WORLD);
    }
    return all;
  }

  Result<std::vector<Bytes>> Gather(BytesView bytes) override {
    const uint64_t length = bytes.size();
    if (rank_ > 0) {
      MPI_Send(&length, 1, MPI_UINT64_T, 0, kTag, MPI_COMM_WORLD);
      for (uint64_t begin = 0; begin < length; begin += kPieceBytesMax) {
        MPI_Send(bytes.data() + begin, Piece(length - begin), MPI_BYTE, 0, kTag, MPI_COMM_WORLD);
      }
      return std::vector<Bytes>{};
    }
    std::vector<Bytes> all(static_cast<size_t>(size_));
    all.front().assign(bytes.begin(), bytes.end());
    for (int from = 1; from < size_; ++from) all[static_cast<size_t>(from)] = Receive(from);
    return all;
  }

 private:
  static int Piece(uint64_t left) { return static_cast<int>(std::min(left, kPieceBytesMax)); }

  static Bytes Receive(int from) {
    uint64_t length = 0;
    MPI_Recv(&length, 1, MPI_UINT64_T, from, kTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    Bytes bytes(length);
    for (uint64_t begin = 0; begin < length; begin += kPieceBytesMax) {
      MPI_Recv(bytes.data() + begin, Piece(length - begin), MPI_BYTE, from, kTag, MPI_COMM_WORLD,
               MPI_STATUS_IGNORE);
    }
    return bytes;
  }

  int rank_ = 0;
  int size_ = 1;
};

std::unique_ptr<Cluster> NewMpiCluster() { return std::make_unique<MpiCluster>(); }

#endif

}  // namespace

Result<std::unique_ptr<Cluster>> JoinMpiCluster() {
  if (!StartedByMpi()) return std::unique_ptr<Cluster>();
#ifdef CHORUS_WITH_MPI
  return NewMpiCluster();
#else
  return Status(Code::kUnimplemented,
                "mpirun started this process, but Chorus was built without MPI; build it with "
                "-DCHORUS_WITH_MPI=ON, or run it without mpirun");
#endif
}

}  // namespace chorus
