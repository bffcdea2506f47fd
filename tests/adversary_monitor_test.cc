// What the monitor of adversary.h is worth: it is quiet on honest clients, and a client that is
// broken on purpose does not get past it, whatever the sharing graph.
#include "adversary.h"

namespace chorus::aggregation {
namespace {

constexpr size_t kClient = 3;

// A client with a fault: what it answers passes through `fault`, which knows how many answers it
// gave before.
class FaultyContributor final : public Contributor {
 public:
  using Fault = std::function<Result<Bytes>(size_t row, Result<Bytes> answer)>;
  FaultyContributor(std::unique_ptr<Contributor> inner, Fault fault)
      : inner_(std::move(inner)), fault_(std::move(fault)) {}
  Result<Bytes> Answer(BytesView question) override {
    return fault_(row_++, inner_->Answer(question));
  }
  bool uploaded() const override { return inner_->uploaded(); }
  bool done() const override { return inner_->done() && !never_done; }

  bool never_done = false;

 private:
  std::unique_ptr<Contributor> inner_;
  Fault fault_;
  size_t row_ = 0;
};

class MonitoredCohort : public testing::TestWithParam<SharingGraph> {
 protected:
  MonitoredCohort() : cohort(4, GetParam()), rows(cohort.rows) {}
  FaultyContributor* Break(FaultyContributor::Fault fault) {
    auto faulty = std::make_unique<FaultyContributor>(*NewContributor(cohort.OptionsFor(kClient)),
                                                      std::move(fault));
    FaultyContributor* raw = faulty.get();
    cohort.Replace(kClient, std::move(faulty));
    return raw;
  }
  // Some member whose shares the client holds.
  size_t OwnerHeld() const {
    for (size_t owner = 0; owner < cohort.clients; ++owner) {
      const std::vector<size_t> holders = cohort.HoldersOf(owner);
      if (std::find(holders.begin(), holders.end(), kClient) != holders.end()) return owner;
    }
    return cohort.clients;
  }
  // Puts what the client was dealt into an answer: both shares, or one of them.
  void Leak(Bytes& answer, size_t first, size_t size) const {
    const SecretBytes both = cohort.DealtTo(kClient, OwnerHeld());
    const BytesView part = both.Reveal().subspan(first, size);
    answer.insert(answer.end(), part.begin(), part.end());
  }
  void ExpectSeen(const std::string& what) {
    EXPECT_THAT(cohort.monitor.TakeViolations(), testing::Contains(testing::HasSubstr(what)));
  }

  AttackedCohort cohort;
  Rows rows;
};
INSTANTIATE_TEST_SUITE_P(Graphs, MonitoredCohort, testing::ValuesIn(kAllGraphs), NameOfGraph);

TEST_P(MonitoredCohort, IsQuietWhenAllAreHonestAndSeesWhatTheyOpen) {
  ASSERT_THAT(cohort.RunWith([](Where, Bytes&) {}), IsOk());
  EXPECT_THAT(cohort.monitor.TakeViolations(), testing::IsEmpty());
  EXPECT_EQ(cohort.monitor.shares_opened(), cohort.clients * 6U);
}

TEST_P(MonitoredCohort, IsQuietWhoeverDropsOutWhen) {
  for (size_t row = rows.keys; row <= rows.unmask; ++row) {
    AttackedCohort other(row, GetParam());
    const size_t gone = row % other.clients;
    other.DropOut(gone, row);
    const Result<Sum> sum = other.RunWith([](Where, Bytes&) {});
    ASSERT_THAT(sum, IsOk()) << "row " << row;
    EXPECT_EQ(other.Values(*sum),
              other.Expected(row <= rows.input ? other.AllBut({gone}) : other.AllBut({})));
    EXPECT_THAT(other.monitor.TakeViolations(), testing::IsEmpty());
    EXPECT_GT(other.monitor.shares_opened(), 0U);
  }
}

TEST_P(MonitoredCohort, CatchesBothSharesInOneAnswer) {
  Break([this](size_t row, Result<Bytes> answer) {
    if (row == rows.unmask) Leak(*answer, 0, kSharePairBytes);
    return answer;
  });
  ASSERT_THAT(cohort.RunWith([](Where, Bytes&) {}), IsOk());
  ExpectSeen("gave both shares of owner");
}

TEST_P(MonitoredCohort, CatchesAShareBeforeTheLastAnswer) {
  Break([this](size_t row, Result<Bytes> answer) {
    if (row == rows.input) Leak(*answer, 0, math::kShareBytes);
    return answer;
  });
  // Its upload is refused for the extra bytes, so that it is asked nothing more.
  ASSERT_THAT(cohort.RunWith([](Where, Bytes&) {}), IsOk());
  EXPECT_THAT(cohort.hear_status[kClient], HasCode(Code::kInvalidArgument));
  ExpectSeen("gave a share before its last answer");
}

TEST_P(MonitoredCohort, CatchesAnAnswerAfterAnError) {
  Break(
      [](size_t row, Result<Bytes> answer) { return row == 2 ? Result<Bytes>(Bytes{1}) : answer; });
  for (const uint8_t nonsense : {uint8_t{1}, uint8_t{2}, uint8_t{3}}) {
    const Result<Bytes> answer = cohort.contributors[kClient]->Answer(Bytes{nonsense});
    EXPECT_EQ(answer.ok(), nonsense == 3);
  }
  ExpectSeen("answered after its error");
}

TEST_P(MonitoredCohort, CatchesAClientThatGoesOnAfterAnError) {
  Break([](size_t, Result<Bytes> answer) { return answer; })->never_done = true;
  EXPECT_FALSE(cohort.contributors[kClient]->Answer(Bytes{1}).ok());
  ExpectSeen("goes on after an error");
}

class Attack : public testing::TestWithParam<SharingGraph> {
 protected:
  Rows rows() const { return RowsOf(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Restart, Attack, testing::ValuesIn(kAllGraphs), NameOfGraph);

// A contributor that starts anew, with the same identity and input, answers nothing but an offer.
TEST_P(Attack, 42_ContributorRestartedInTheMiddleCannotGoOn) {
  for (size_t row = rows().roster; row <= rows().unmask; ++row) {
    AttackedCohort cohort(42, GetParam());
    const Status status = cohort.Lie(kClient, row, [&](Bytes&) { cohort.Restart(kClient); });
    EXPECT_FALSE(status.ok()) << row;
    EXPECT_FALSE(cohort.sent.contains({row, kClient}));
    EXPECT_THAT(cohort.run, IsOk()) << "the others go on";
  }
}

}  // namespace
}  // namespace chorus::aggregation
