// Writes valid inputs for the decoders, from which the fuzzer starts: make_corpus FOLDER makes
// FOLDER/TARGET/seed-NAME. The targets that run whole sessions need none: their empty input is a
// valid session.
#include <zlib.h>

#include <iostream>

#include "base/codec.h"
#include "client/example_store.h"
#include "client/ledger.h"
#include "fuzz.h"
#include "prekey_cohort.h"
#include "trust/trust.h"
#include "wire/wire.h"

namespace chorus::fuzz {
namespace {

class Corpus {
 public:
  explicit Corpus(std::string folder) : folder_(std::move(folder)) {}

  // An input: what chooses the case, then the message.
  void Add(const std::string& target, const std::string& name, BytesView choice,
           BytesView message) const {
    std::filesystem::create_directories(folder_ + "/" + target);
    Writer input;
    input.Raw(choice).Raw(message);
    WriteFile(folder_ + "/" + target + "/seed-" + name, input.view());
  }

 private:
  std::string folder_;
};

// What chooses a decoder of decode_secagg: a roster of five, packed vectors of so many bytes.
void AddMessage(const Corpus& corpus, uint8_t decoder, const std::string& name, BytesView message) {
  const uint8_t dim_and_bits[] = {19, 0, 8};
  Writer choice;
  choice.U8(decoder).U16(5).U8(static_cast<uint8_t>(math::PackedBytes(8, 21))).Raw(dim_and_bits);
  corpus.Add("decode_secagg", name, choice.view(), message);
}

// What only larger graphs send, in small: the receiver chose two of its four peers, and was chosen
// by one of those and one other.
void AddLargeGraphs(const Corpus& corpus, const aggregation::RosterAndPeers& roster) {
  using namespace aggregation;
  std::vector<Bytes> records(roster.n);
  std::vector<Index> peers;
  for (const Peer& peer : roster.peers) {
    records[peer.index] = EncodePeer(peer);
    peers.push_back(peer.index);
  }
  const std::vector<Index> out = {peers[0], peers[1]};
  const std::vector<Index> in = {peers[1], peers[2]};
  Require(DecodePeers(EncodePeers(out, in, records), roster.n).ok(), "these are peers");
  AddMessage(corpus, 10, "roster-alone", EncodeRosterOnly(roster));
  AddMessage(corpus, 11, "ring", EncodeRing(roster, out, records));
  AddMessage(corpus, 12, "choice", Encode(Choose{.sid = {1}, .holders = out}));
  AddMessage(corpus, 13, "peers", EncodePeers(out, in, records));
  AddMessage(corpus, 2, "shares-and-hellos",
             Encode(Shares{.sealed = {{0, {}}, {2, {}}}, .hellos = {{4, {}}}}));
  std::vector<Delivery> entries(2);
  entries[1].from = 3;
  entries[0].hello.emplace();
  entries[1].hello.emplace();
  entries.push_back({.from = 4});
  AddMessage(corpus, 15, "hellos", EncodeDeliver(entries));
  AddMessage(corpus, 16, "signed-roster", EncodeRing(roster, in, records));
}

// All messages of one small session, of which some members made pre-keys and one is lost after it
// dealt shares.
void AddSession(const Corpus& corpus) {
  using namespace aggregation;
  PreKeyCohort cohort =
      PreKeyCohort::With(3, {.clients = 5, .dim = 8, .bits = 21, .minimum = 3}, 2);
  cohort.DropOut(3, 2);
  constexpr size_t kShown = 1;  // a client without pre-keys
  const uint8_t of_question[] = {0, 1, 5, 6, 7};
  const uint8_t of_answer[] = {0, 2, 3, 4, 8};
  cohort.on_question = [&](Where where, Bytes& message) {
    if (where.client != kShown) return true;
    if (where.step == 1) AddLargeGraphs(corpus, *DecodeRoster(message, 5));
    if (where.step != 0) {
      AddMessage(corpus, of_question[where.step], "question-" + std::to_string(where.step),
                 message);
      return true;
    }
    const BytesView params = BytesView(message).first(kSessionParamsBytes);
    const uint8_t expected[] = {0, 0, 0};
    const uint8_t renamed[] = {1, 0, 0};
    corpus.Add("decode_params", "offer", expected, params);
    corpus.Add("decode_params", "offer-of-ours", renamed, params);
    return true;
  };
  cohort.on_answer = [&](Where where, Bytes& message) {
    if (where.client != kShown) return true;
    AddMessage(corpus, of_answer[where.step], "answer-" + std::to_string(where.step), message);
    return true;
  };
  Require(cohort.Run().ok(), "the session ends with a sum");
  AddMessage(corpus, 14, "pre-keys", cohort.prekeys[0].record);
  RingVector vector = math::ZeroVector(8, 21);
  for (uint64_t j = 0; j < 8; ++j) math::SetSigned(vector, j, 1 - static_cast<int64_t>(j));
  AddMessage(corpus, 9, "packed", math::Pack(vector, 21));
  AddMessage(corpus, 9, "share", Bytes(math::kShareBytes, 1));
}

void AddCertificate(const Corpus& corpus) {
  const SecretBytes issuer = Key("issuer");
  const trust::Certificate certificate{.serial = 1,
                                       .weight = 1,
                                       .not_before = 0,
                                       .not_after = 4'000'000'000,
                                       .subject = crypto::Ed25519Public(Key("subject").Reveal()),
                                       .issuer = {}};
  const Bytes bytes = trust::IssueCertificate(certificate, issuer.Reveal());
  corpus.Add("decode_certificate", "issued", Bytes{0}, bytes);
  corpus.Add("decode_certificate", "signed-again", Bytes{1}, bytes);
}

TaskSpec SmallTask() {
  TaskSpec task;
  task.name = "task";
  task.model.inputs = 4;
  task.model.layers = {{.units = 2, .activation = Activation::kNone}};
  return task;
}

constexpr std::string_view kTaskText = R"(name: "task"
protocol: PROTOCOL_SECAGG
model { inputs: 4 layers { units: 2 } loss: LOSS_CROSS_ENTROPY }
rounds: 3
)";
constexpr std::string_view kPolicyText = "allow_plain: true\ncohort_min: 3\n";

void AddWire(const Corpus& corpus) {
  const auto add = [&](uint8_t kind, const std::string& name, BytesView message) {
    corpus.Add("decode_wire", name, Bytes{kind}, message);
  };
  const Bytes task = wire::EncodeTask(SmallTask());
  add(0, "task", task);
  add(1, "task-text", ViewOf(kTaskText));
  add(2, "policy-text", ViewOf(kPolicyText));
  add(3, "challenge-request", wire::Encode(wire::ChallengeRequest{}));
  add(4, "challenge-reply", wire::Encode(wire::ChallengeReply{.challenge = {1}}));
  add(5, "check-in-request", wire::Encode(wire::CheckInRequest{.evidence = Bytes(160, 2)}));
  add(6, "check-in-reply", wire::Encode(wire::CheckInReply{.session = {3}}));
  add(7, "next-request", wire::Encode(wire::NextRequest{.session = {3}, .done = 4}));
  add(8, "wait", wire::Encode(wire::NextReply{4, wire::Wait{.retry_ms = 500}}));
  add(8, "invitation",
      wire::Encode(wire::NextReply{5, wire::Invitation{.round = 1, .task = task}}));
  add(8, "question",
      wire::Encode(wire::NextReply{6, wire::Question{.total_bytes = 9, .data = Bytes(9, 5)}}));
  add(8, "round-over",
      wire::Encode(wire::NextReply{7, wire::RoundOver{.round = 1, .counted = true}}));
  add(9, "download-request", wire::Encode(wire::DownloadRequest{.offset = 8}));
  add(10, "download-reply",
      wire::Encode(wire::DownloadReply{.data = Bytes(9, 5), .total_bytes = 9}));
  add(11, "upload-request",
      wire::Encode(wire::UploadRequest{.sequence = 6, .total_bytes = 9, .data = Bytes(9, 5)}));
  add(12, "upload-reply", wire::Encode(wire::UploadReply{.received = 9}));
  add(13, "status-request", wire::Encode(wire::StatusRequest{.round_count = 2}));
  wire::StatusReply status;
  status.rounds = {RoundReport{.round = 1, .dropouts = {1, 0}, .loss = 0.5}};
  add(14, "status-reply", wire::Encode(status));
}

Bytes Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

Bytes Compressed(const Bytes& bytes) {
  const std::string path = Folder() + "/compressed";
  const gzFile file = gzopen(path.c_str(), "wb");
  Require(gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size())) > 0, "zlib writes");
  Require(gzclose(file) == Z_OK, "zlib closes");
  return Read(path);
}

void AddFiles(const Corpus& corpus) {
  const std::string path = Folder() + "/idx";
  const std::vector<uint32_t> image_shape = {3, 2, 2};
  Require(client::WriteIdx(path, image_shape, Bytes(12, 9)).ok(), "images are written");
  const Bytes images = Read(path);
  const std::vector<uint32_t> label_shape = {3};
  Require(client::WriteIdx(path, label_shape, Bytes{0, 1, 0}).ok(), "labels are written");
  const Bytes labels = Read(path);
  corpus.Add("decode_idx", "images", Bytes{0}, images);
  corpus.Add("decode_idx", "compressed", Bytes{0}, Compressed(images));
  // The rank 3 in the file's name; the model is expected; so many bytes of images.
  Writer pair;
  pair.U8(1 | 2 | 2 << 2).U16(static_cast<uint16_t>(images.size())).Raw(images);
  corpus.Add("decode_idx", "pair", pair.view(), labels);

  const std::string folder = Folder() + "/book";
  {
    const auto ledger = client::Ledger::Open(folder);
    Require(ledger.ok() && (*ledger)->NoteAttempt({}, 1, 20'000).ok() &&
                (*ledger)->NoteUpload({}, 1, {1}, 3).ok(),
            "the ledger notes");
  }
  corpus.Add("ledger_file", "whole", Bytes{3}, Read(folder + "/ledger"));
}

}  // namespace
}  // namespace chorus::fuzz

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: make_corpus FOLDER\n";
    return 2;
  }
  const chorus::fuzz::Corpus corpus(argv[1]);
  chorus::fuzz::AddSession(corpus);
  chorus::fuzz::AddCertificate(corpus);
  chorus::fuzz::AddWire(corpus);
  chorus::fuzz::AddFiles(corpus);
  return 0;
}
