// Random sequences of operations have the same answers in every store.
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "base/random.h"
#include "store_cases.h"
#include "store_kinds.h"

namespace chorus {
namespace {

// Answers as text, so that all of them can be compared in one way.
class Answers {
 public:
  void Add(const Status& status) { text_ << CodeName(status.code()) << ";"; }
  void Add(uint64_t number) { text_ << number << ";"; }
  void Add(BytesView bytes) {
    for (const uint8_t byte : bytes) text_ << static_cast<int>(byte) << ",";
    text_ << ";";
  }
  void Add(const std::string& text) { Add(ViewOf(text)); }
  void Add(const TaskRecord& task) {
    Add(task.id);
    Add(task.name);
    Add(task.model);
    Add(task.server_state);
    Add(task.rounds_begun);
    Add(static_cast<uint64_t>(task.mode));
    Add(uint64_t{task.priority});
  }
  void Add(const RoundReport& round) {
    Add(round.round);
    Add(round.reason);
    Add(round.result);
    Add(round.answers);
    Add(static_cast<uint64_t>(round.state));
  }
  void Add(const Evidence& evidence) {
    Add(evidence.round);
    Add(uint64_t{evidence.cohort});
    Add(evidence.identity);
    Add(evidence.first.message);
  }
  void Add(const AuditEntry& entry) {
    Add(entry.number);
    Add(entry.reason);
  }
  void Add(const ProcessRecord& process) {
    Add(process.name);
    Add(static_cast<uint64_t>(process.seen.count()));
  }
  void Add(const CohortRecord& cohort) {
    Add(cohort.round);
    Add(uint64_t{cohort.cohort});
    Add(cohort.process);
    Add(cohort.sum);
  }
  void Add(const PublicKey& key) { Add(BytesView(key)); }
  void Add(const Bytes& bytes) { Add(BytesView(bytes)); }
  template <typename T>
  void Add(const std::vector<T>& list) requires(!std::is_same_v<T, uint8_t>) {
    Add(uint64_t{list.size()});
    for (const T& one : list) Add(one);
  }
  template <typename T>
  void Add(const Result<T>& result) {
    Add(result.status());
    if (result.ok()) Add(*result);
  }
  template <typename T>
  void Add(const std::optional<T>& optional) {
    if (optional) Add(*optional);
  }
  std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
};

// Draws operations. Few tasks, rounds and models, so that they meet.
class Draw {
 public:
  explicit Draw(uint8_t seed) : rng_(crypto::NewSeededRng(Bytes(32, seed))) {}

  uint64_t Below(uint64_t bound) { return UniformBelow(*rng_, bound); }
  TaskId Task() { return {static_cast<uint8_t>(Below(3))}; }
  uint64_t Round() { return Below(40) == 0 ? uint64_t{1} << 63U : Below(8); }
  Bytes Content() { return SomeModel(40, static_cast<uint8_t>(Below(6))); }
  Digest Hash() { return Below(5) == 0 ? Digest{} : crypto::Sha256(Content()); }
  PublicKey Identity() { return {static_cast<uint8_t>(Below(6)), 200}; }
  std::string Word() { return std::string(Below(3), static_cast<char>(Below(256))); }

  TaskRecord SomeTask() {
    TaskRecord task;
    task.id = Task();
    task.name = Word();
    task.model = Hash();
    task.server_state = Hash();
    task.rounds_begun = Below(UINT64_MAX);
    task.mode = static_cast<TaskMode>(Below(3));
    task.priority = static_cast<uint32_t>(Below(uint64_t{1} << 32U));
    return task;
  }
  RoundReport SomeRound() {
    RoundReport round;
    round.round = Round();
    round.state = static_cast<RoundState>(Below(3));
    round.reason = Word();
    round.model = Hash();
    round.result = Hash();
    if (Below(3) == 0) round.answers = Hash();
    return round;
  }
  Evidence SomeEvidence() {
    Evidence evidence;
    evidence.round = Round();
    evidence.cohort = static_cast<uint32_t>(Below(3));
    evidence.identity = Identity();
    evidence.first.message = Hash();
    return evidence;
  }
  CohortRecord SomeCohort() {
    CohortRecord cohort;
    cohort.round = Round();
    cohort.cohort = static_cast<uint32_t>(Below(3));
    cohort.process = Word();
    cohort.sum = Hash();
    return cohort;
  }
  std::vector<PublicKey> Identities() {
    std::vector<PublicKey> identities(Below(5));
    for (PublicKey& identity : identities) identity = Identity();
    return identities;
  }

 private:
  std::unique_ptr<Rng> rng_;
};

void Write(Draw& draw, Transaction& transaction, Answers& answers) {
  switch (draw.Below(12)) {
    case 0:
      return answers.Add(transaction.PutTask(draw.SomeTask()));
    case 1:
      return answers.Add(transaction.PutRound(draw.Task(), draw.SomeRound()));
    case 2:
      return answers.Add(transaction.PutEvidence(draw.Task(), draw.SomeEvidence()));
    case 3:
    case 4: {
      const Bytes content = draw.Content();
      return answers.Add(transaction.PutModel(crypto::Sha256(content), content));
    }
    case 5:
      return answers.Add(transaction.DropModel(draw.Hash()));
    case 6:
      return answers.Add(
          transaction.DropOldModels(draw.Task(), static_cast<uint32_t>(draw.Below(4))));
    case 7:
      return answers.Add(transaction.DropRounds(draw.Task(), draw.Round()));
    case 8: {
      AuditEntry entry;
      entry.number = draw.Below(4);
      entry.reason = draw.Word();
      return answers.Add(transaction.PutAudit(draw.Task(), entry));
    }
    case 9: {
      ProcessRecord process;
      process.name = draw.Word();
      process.seen = Time(static_cast<Time::rep>(draw.Below(1'000)));
      return answers.Add(draw.Below(3) == 0 ? transaction.DropProcess(process.name)
                                            : transaction.PutProcess(process));
    }
    case 10:
      return answers.Add(draw.Below(4) == 0
                             ? transaction.DropCohorts(draw.Task(), draw.Below(8))
                             : transaction.PutCohort(draw.Task(), draw.SomeCohort()));
    default: {
      const TaskId task = draw.Task();
      const uint64_t round = draw.Round();
      const std::vector<PublicKey> identities = draw.Identities();
      return answers.Add(transaction.ClaimIdentities(task, round, 1, identities));
    }
  }
}

void ReadAll(Transaction& transaction, Answers& answers) {
  answers.Add(transaction.Tasks());
  answers.Add(transaction.Processes());
  for (uint8_t task = 0; task < 3; ++task) {
    answers.Add(transaction.FindTask({task}));
    answers.Add(transaction.Rounds({task}, 2, 4));
    answers.Add(transaction.LatestRounds({task}, 5));
    answers.Add(transaction.ListEvidence({task}, 6));
    answers.Add(transaction.ListAudit({task}, 2));
    answers.Add(transaction.AuditFrom({task}, 2, 2));
    for (uint64_t round = 0; round < 8; ++round) answers.Add(transaction.CohortsOf({task}, round));
  }
  for (uint8_t model = 0; model < 6; ++model) {
    answers.Add(transaction.GetModel(crypto::Sha256(SomeModel(40, model))));
  }
}

// What the store answers to the operations of `seed`, a line for each transaction.
std::vector<std::string> StoryOf(Store& store, uint8_t seed) {
  std::vector<std::string> story;
  Draw draw(seed);
  for (int i = 0; i < 60; ++i) {
    // An engine may run the function again: the operations are drawn before.
    Answers answers;
    const uint64_t writes = draw.Below(8);
    const bool fails = draw.Below(4) == 0;
    const auto sequence = static_cast<uint8_t>(draw.Below(256));
    answers.Add(store.RunTransaction("random", [&](Transaction& transaction) -> Status {
      answers = Answers();
      Draw drawn(sequence);
      for (uint64_t k = 0; k < writes; ++k) Write(drawn, transaction, answers);
      if (fails) return Aborted("not after all");
      ReadAll(transaction, answers);
      return OkStatus();
    }));
    story.push_back(answers.text());
  }
  return story;
}

template <typename Kind>
class StoreAgreement : public StoreOfAKind<Kind> {};
TYPED_TEST_SUITE(StoreAgreement, EveryKind, KindName);

TYPED_TEST(StoreAgreement, AnswersRandomOperationsAsMemoryDoes) {
  for (uint8_t seed = 1; seed <= 4; ++seed) {
    const Folder folder;
    const std::unique_ptr<Store> store = TypeParam::New(folder);
    ASSERT_NE(store, nullptr);
    const std::vector<std::string> story = StoryOf(*store, seed);
    const std::vector<std::string> expected = StoryOf(*NewMemoryStore(), seed);
    for (size_t i = 0; i < story.size(); ++i) {
      ASSERT_TRUE(story[i] == expected[i]) << "seed " << int{seed} << ", transaction " << i;
    }
  }
}

}  // namespace
}  // namespace chorus
