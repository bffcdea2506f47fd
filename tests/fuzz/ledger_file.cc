// The ledger's file after an accident or by a hostile hand: it opens or says why not, and what it
// allowed once it never allows again, also after it is closed and opened.
#include "base/codec.h"
#include "client/ledger.h"
#include "fuzz.h"

namespace chorus::client {
namespace {

using fuzz::Require;

constexpr size_t kChecksumBytes = 16;

// A file as the ledger writes it, its checksums true, of records that the fuzzer chose.
Bytes FileOf(fuzz::Choices& choices, uint32_t records) {
  Bytes file = std::move(Writer().Raw(std::string_view("CHORUSLG")).U32(1).U32(0)).Take();
  Digest chain = crypto::Sha256(file);
  for (uint32_t i = 0; i < records; ++i) {
    // Few tasks, rounds, models and days, so that records are about each other.
    const uint8_t kind = static_cast<uint8_t>(1 + choices.Below(2) + choices.Below(17) / 16);
    TaskId task{};
    task[0] = static_cast<uint8_t>(choices.Below(2));
    Digest model{};
    const uint8_t a_model = choices.Byte();
    if (kind == 2 || a_model >= 250) model[0] = a_model;
    const uint64_t day = kind == 1 || a_model >= 250 ? choices.Number() : 0;
    Writer record;
    record.U8(kind).Raw(task).U64(choices.Below(4)).Raw(model).U64(day);
    crypto::Sha256Stream stream;
    stream.Update(BytesView(chain).first(kChecksumBytes));
    stream.Update(record.view());
    chain = stream.Finish();
    record.Raw(BytesView(chain).first(kChecksumBytes));
    file.insert(file.end(), record.view().begin(), record.view().end());
  }
  return file;
}

// Uses an open ledger, then looks whether it remembers.
void Use(const std::string& folder, fuzz::Choices& choices) {
  const TaskId task{};
  const Digest model{static_cast<uint8_t>(choices.Below(3))};
  const uint64_t round = choices.Below(6);
  const int64_t day = static_cast<int64_t>(choices.Number());
  Result<std::unique_ptr<Ledger>> ledger = Ledger::Open(folder);
  Require(ledger.ok(), "what opened opens again");
  const Status attempted = (*ledger)->NoteAttempt(task, round, day);
  Require(attempted.ok() || attempted.code() == Code::kPermissionDenied, "attempts are counted");
  const bool permitted = (*ledger)->PermitUpload(task, round, model, 3).ok();
  const bool uploaded = (*ledger)->NoteUpload(task, round, model, 3).ok();
  Require(permitted == uploaded, "what is permitted can be noted, and nothing else");
  Require(!(*ledger)->PermitUpload(task, round, model, 3).ok() || !uploaded, "one upload a round");
  *ledger = nullptr;
  ledger = Ledger::Open(folder);
  Require(ledger.ok(), "what was written opens");
  if (!uploaded) return;
  Require(!(*ledger)->PermitUpload(task, round, Digest{9}, 0).ok(), "uploads are remembered");
  Require(!(*ledger)->NoteAttempt(task, round, day).ok(), "no attempt after an upload");
}

}  // namespace

void Open(BytesView input) {
  static const std::string folder = [] {
    std::string made = fuzz::Folder() + "/ledger";
    std::filesystem::create_directory(made);
    return made;
  }();
  fuzz::Choices choices(input);
  const uint8_t how = choices.Byte();
  fuzz::Choices use(choices.Take(12));
  Bytes file;
  if (how % 4 == 3) {
    const BytesView raw = choices.Rest();
    file.assign(raw.begin(), raw.end());
  } else {
    file = FileOf(choices, how / 4U % 16);
    for (uint32_t i = 0; i < how % 4U; ++i) fuzz::Mutate(choices, file);
  }
  fuzz::WriteFile(folder + "/ledger", file);
  const Status opened = internal::StatusOf(Ledger::Open(folder));
  Require(opened.ok() || opened.code() == Code::kDataLoss,
          "a damaged ledger is said to be damaged");
  if (opened.ok()) Use(folder, use);
}

}  // namespace chorus::client

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  chorus::client::Open({data, size});
  return 0;
}
