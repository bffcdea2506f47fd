#include "simulation/workers.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include "base/codec.h"

namespace chorus::simulation {
namespace {

// What rank 0 asks of all, as the first byte of a command.
enum class Command : uint8_t { kBegin = 1, kDo = 2, kEnd = 3, kMeasure = 4, kFinish = 5 };

Writer Of(Command command) {
  Writer writer;
  writer.U8(static_cast<uint8_t>(command));
  return writer;
}

BytesView BytesOf(std::span<const float> weights) {
  return {reinterpret_cast<const uint8_t*>(weights.data()), weights.size_bytes()};
}

Weights WeightsOf(BytesView bytes) {
  Weights weights(bytes.size() / sizeof(float));
  if (!weights.empty()) std::memcpy(weights.data(), bytes.data(), weights.size() * sizeof(float));
  return weights;
}

Bytes EncodeJobs(std::span<const Job> jobs, Time now) {
  Writer writer = Of(Command::kDo);
  writer.U64(static_cast<uint64_t>(now.count())).U32(static_cast<uint32_t>(jobs.size()));
  for (const Job& job : jobs) {
    writer.U32(job.client).U64(job.round).U8(job.trains ? 1 : 0);
    writer.U64(job.question.size()).Raw(job.question);
  }
  return std::move(writer).Take();
}

std::vector<Job> DecodeJobs(Reader& in) {
  std::vector<Job> jobs(in.Count(/*entry_bytes_min=*/21));
  for (Job& job : jobs) {
    job.client = in.U32();
    job.round = in.U64();
    job.trains = in.U8() != 0;
    const BytesView question = in.Raw(in.U64());
    job.question.assign(question.begin(), question.end());
  }
  return jobs;
}

Bytes EncodeDone(std::span<const Done> all) {
  Writer writer;
  writer.U32(static_cast<uint32_t>(all.size()));
  for (const Done& done : all) {
    writer.U32(static_cast<uint32_t>(done.status.code()));
    writer.U64(done.status.message().size()).Raw(std::string_view(done.status.message()));
    writer.U64(std::bit_cast<uint64_t>(done.cpu_seconds));
    writer.U64(done.answer.size()).Raw(done.answer.Reveal());
  }
  return std::move(writer).Take();
}

Result<std::vector<Done>> DecodeDone(BytesView bytes) {
  Reader in(bytes);
  std::vector<Done> all(in.Count(/*entry_bytes_min=*/28));
  for (Done& done : all) {
    const auto code = static_cast<Code>(in.U32());
    const BytesView message = in.Raw(in.U64());
    done.status = Status(code, std::string(message.begin(), message.end()));
    done.cpu_seconds = std::bit_cast<double>(in.U64());
    const BytesView answer = in.Raw(in.U64());
    done.answer = SecretBytes(Bytes(answer.begin(), answer.end()));
  }
  CHORUS_TRY(in.Finish("what another process did"));
  return all;
}

Bytes EncodeMeasured(std::span<const ClientAccuracy> all) {
  Writer writer;
  writer.U32(static_cast<uint32_t>(all.size()));
  for (const ClientAccuracy& one : all) {
    writer.U32(one.client).U64(one.examples);
    writer.U64(std::bit_cast<uint64_t>(one.accuracy)).U64(std::bit_cast<uint64_t>(one.loss));
  }
  return std::move(writer).Take();
}

Result<std::vector<ClientAccuracy>> DecodeMeasured(BytesView bytes) {
  Reader in(bytes);
  std::vector<ClientAccuracy> all(in.Count(/*entry_bytes_min=*/28));
  for (ClientAccuracy& one : all) {
    one.client = in.U32();
    one.examples = in.U64();
    one.accuracy = std::bit_cast<double>(in.U64());
    one.loss = std::bit_cast<double>(in.U64());
  }
  CHORUS_TRY(in.Finish("what another process measured"));
  return all;
}

// What a process sends to rank 0: how it fared, and what it has when that was well. A failure is
// sent like anything else, since who waits for an answer that never comes waits for ever.
Bytes EncodeReply(const Result<Bytes>& result) {
  Writer writer;
  writer.U8(static_cast<uint8_t>(result.status().code()));
  if (result.ok()) return std::move(writer.Raw(*result)).Take();
  return std::move(writer.Raw(std::string_view(result.status().message()))).Take();
}

Result<Bytes> DecodeReply(BytesView reply) {
  Reader in(reply);
  const auto code = static_cast<Code>(in.U8());
  const BytesView rest = in.Raw(in.left());
  CHORUS_TRY(in.Finish("what another process says"));
  if (code == Code::kOk) return Bytes(rest.begin(), rest.end());
  return Status(code, std::string(rest.begin(), rest.end()));
}

// Rank 0's part of ShareVerdict.
Status VerdictOn(std::span<const Bytes> replies) {
  std::vector<Bytes> inputs;
  for (size_t rank = 0; rank < replies.size(); ++rank) {
    Result<Bytes> reply = DecodeReply(replies[rank]);
    if (!reply.ok()) {
      const std::string who = rank == 0 ? "" : "process " + std::to_string(rank) + ": ";
      return {reply.status().code(), who + reply.status().message()};
    }
    inputs.push_back(*std::move(reply));
    if (inputs.back() == inputs.front()) continue;
    return InvalidArgument("process " + std::to_string(rank) +
                           " has another task, seed or data than process 0; give all of them the"
                           " same options and the same files");
  }
  return OkStatus();
}

}  // namespace

Status ShareInputs(Cluster& cluster, const Result<Bytes>& inputs) {
  CHORUS_TRY_ASSIGN(const std::vector<Bytes> replies, cluster.Gather(EncodeReply(inputs)));
  Bytes verdict;
  if (cluster.rank() == 0) {
    const Status status = VerdictOn(replies);
    verdict = EncodeReply(status.ok() ? Result<Bytes>(Bytes{}) : Result<Bytes>(status));
  }
  CHORUS_TRY_ASSIGN(verdict, cluster.Broadcast(verdict));
  return DecodeReply(verdict).status();
}

Workers::Workers(Devices& devices, Cluster* cluster, uint32_t threads)
    : devices_(devices), cluster_(cluster), threads_(threads) {
  if (cluster != nullptr) part_ = {.index = cluster->rank(), .count = cluster->size()};
}

// Has every process perform `command`: what each of them gives back, by rank.
Result<std::vector<Bytes>> Workers::Call(BytesView command) {
  CHORUS_TRY(cluster_->Broadcast(command));
  CHORUS_TRY_ASSIGN(std::vector<Bytes> replies, cluster_->Gather(EncodeReply(Perform(command))));
  for (Bytes& reply : replies) {
    CHORUS_TRY_ASSIGN(reply, DecodeReply(reply));
  }
  return replies;
}

Result<Bytes> Workers::Perform(BytesView command) {
  Reader in(command);
  const auto which = static_cast<Command>(in.U8());
  if (which == Command::kBegin) {
    const uint64_t round = in.U64();
    const Digest hash = in.Array<sizeof(Digest)>();
    devices_.BeginRound(round, WeightsOf(in.Raw(in.left())), hash);
  } else if (which == Command::kEnd) {
    devices_.EndRound(in.U64());
  } else if (which == Command::kMeasure) {
    CHORUS_TRY_ASSIGN(const std::vector<ClientAccuracy> measured,
                      devices_.Measure(WeightsOf(in.Raw(in.left())), part_));
    return EncodeMeasured(measured);
  } else if (which == Command::kDo) {
    const Time now{static_cast<Time::rep>(in.U64())};
    std::vector<Job> jobs = DecodeJobs(in);
    CHORUS_TRY(in.Finish("work for devices"));
    std::erase_if(jobs, [this](const Job& job) { return !Mine(job.client); });
    return EncodeDone(devices_.Do(jobs, now));
  } else if (which != Command::kFinish) {
    return InvalidArgument("no such command between processes: are they of one version?");
  }
  return Bytes{};
}

Status Workers::BeginRound(uint64_t round, std::span<const float> published, const Digest& hash) {
  if (alone()) {
    devices_.BeginRound(round, Weights(published.begin(), published.end()), hash);
    return OkStatus();
  }
  return Call(Of(Command::kBegin).U64(round).Raw(hash).Raw(BytesOf(published)).view()).status();
}

Status Workers::EndRound(uint64_t round) {
  if (!alone()) return Call(Of(Command::kEnd).U64(round).view()).status();
  devices_.EndRound(round);
  return OkStatus();
}

Result<std::vector<Done>> Workers::Do(std::span<const Job> jobs, Time now) {
  if (alone()) return devices_.Do(jobs, now);
  CHORUS_TRY_ASSIGN(const std::vector<Bytes> parts, Call(EncodeJobs(jobs, now)));
  std::vector<std::vector<Done>> of_rank;
  for (const Bytes& part : parts) {
    CHORUS_TRY_ASSIGN(of_rank.emplace_back(), DecodeDone(part));
  }
  std::vector<size_t> next(of_rank.size());
  std::vector<Done> all;
  all.reserve(jobs.size());
  for (const Job& job : jobs) {
    const size_t rank = job.client % part_.count;
    if (rank >= of_rank.size() || next[rank] >= of_rank[rank].size()) {
      return Internal("another process did less than its work");
    }
    all.push_back(std::move(of_rank[rank][next[rank]++]));
  }
  return all;
}

Result<std::vector<ClientAccuracy>> Workers::Measure(std::span<const float> weights) {
  if (alone()) return devices_.Measure(weights, part_);
  CHORUS_TRY_ASSIGN(const std::vector<Bytes> parts,
                    Call(Of(Command::kMeasure).Raw(BytesOf(weights)).view()));
  std::vector<ClientAccuracy> all;
  for (const Bytes& part : parts) {
    CHORUS_TRY_ASSIGN(const std::vector<ClientAccuracy> measured, DecodeMeasured(part));
    all.insert(all.end(), measured.begin(), measured.end());
  }
  std::ranges::sort(all, {}, &ClientAccuracy::client);
  return all;
}

Status Workers::Finish() {
  if (alone()) return OkStatus();
  return Call(Of(Command::kFinish).view()).status();
}

Status Workers::Serve() {
  while (true) {
    CHORUS_TRY_ASSIGN(const Bytes command, cluster_->Broadcast({}));
    CHORUS_TRY(cluster_->Gather(EncodeReply(Perform(command))).status());
    if (!command.empty() && command.front() == static_cast<uint8_t>(Command::kFinish)) {
      return OkStatus();
    }
  }
}

}  // namespace chorus::simulation

namespace chorus {

Status ShareVerdict(Cluster* cluster, const Status& mine) {
  if (cluster == nullptr) return mine;
  return simulation::ShareInputs(*cluster, mine.ok() ? Result<Bytes>(Bytes{}) : mine);
}

}  // namespace chorus
