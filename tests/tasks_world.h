// A coordinator of several tasks and its clients in memory, under virtual time.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "chorus/audit.h"
#include "coordinator/router.h"
#include "coordinator_world.h"

namespace chorus::coordinator {

// The router in a core's place, so that the players of coordinator_world.h speak with it.
class RoutedCore final : public Core {
 public:
  explicit RoutedCore(std::unique_ptr<Router> router) : router_(std::move(router)) {}
  void Handle(std::string_view method, Body request, Reply reply) override {
    router_->Handle(method, std::move(request), std::move(reply));
  }
  std::shared_ptr<Admission> admission() override {  // NOLINT(tidy): core.h.
    return router_->admission();
  }
  void Admit(Vetted vetted, Reply reply) override {
    router_->Admit(std::move(vetted), std::move(reply));
  }
  void Tick() override { router_->Tick(); }
  Time NextTick() const override { return router_->NextTick(); }
  std::vector<CoordinatorEvent> TakeEvents() override { return router_->TakeEvents(); }
  Weights weights() const override { return router_->cores().front()->weights(); }
  std::vector<int64_t> answers() const override { return router_->cores().front()->answers(); }
  Router& router() { return *router_; }

 private:
  std::unique_ptr<Router> router_;
};

// All of one shape, that of PlainTask.
inline TaskSpec TaskNamed(const std::string& name, CohortSpec cohort, uint32_t rounds = 1'000) {
  TaskSpec task = PlainTask();
  task.name = name;
  task.cohort = cohort;
  task.rounds = rounds;
  return task;
}

struct TasksWorld : World {
  explicit TasksWorld(std::vector<HostedTask> its_tasks) : tasks(std::move(its_tasks)) {
    if (!tasks.empty()) task = tasks.front().task;
  }
  void Start() {
    core.reset();
    RouterOptions options;
    options.signing_seed = signing_seed.Reveal();
    options.tasks = tasks;
    options.stored_tasks = stored_tasks;
    options.operators = operators;
    options.admission = admission;
    Result<std::unique_ptr<Router>> created =
        Router::Create(std::move(options), store, *verifier, clock, *rng, log);
    ASSERT_THAT(created, IsOk());
    core = std::make_unique<RoutedCore>(*std::move(created));
  }
  using World::Of;
  Router& router() { return static_cast<RoutedCore&>(*core).router(); }
  wire::TaskStatus Of(std::string_view name) { return router().Find(name)->Summary(); }

  std::vector<HostedTask> tasks;
  bool stored_tasks = false;
  std::vector<PublicKey> operators;
};

// Players that do what honest clients do, each a step at a time.
struct Crowd {
  Crowd(TasksWorld& its_world, uint64_t count, std::vector<std::string> tasks = {},
        uint64_t first = 1)
      : world(its_world) {
    for (uint64_t serial = first; serial < first + count; ++serial) {
      players.push_back(std::make_unique<Player>(world, serial));
      wire::CheckInRequest request = players.back()->SignedCheckIn(players.back()->Challenge());
      request.tasks = tasks;
      EXPECT_THAT(players.back()->TryCheckIn(request), IsOk());
    }
  }

  void Step(Player& player) {
    if (player.parked()) return;
    const Result<wire::NextReply> given = player.Given();
    if (!given.ok()) return player.Ask();
    player.reply = nullptr;
    if (const auto* wait = std::get_if<wire::Wait>(&given->what)) {
      if (wait->complete) ++completions;
      if (wait->retry_ms > 0) ++retries;
      return;
    }
    player.sequence = given->sequence;
    if (const auto* invitation = std::get_if<wire::Invitation>(&given->what)) {
      const std::string name = wire::DecodeTask(invitation->task)->name;
      invited[name].push_back(player.serial);
      if (stalls) return;
      if (refuses == name) {
        EXPECT_THAT(player.Abort(Code::kPermissionDenied), IsOk());
        return;
      }
      player.Join(*invitation, UpdateOf(player.serial), ExamplesOf(player.serial));
      EXPECT_THAT(player.Answer({}), IsOk());
    } else if (const auto* question = std::get_if<wire::Question>(&given->what)) {
      if (silent) return;
      const Result<Bytes> answer = player.contributor->Answer(player.Body(*question));
      ASSERT_THAT(answer, IsOk());
      EXPECT_THAT(player.Answer(*answer), IsOk());
    } else {
      player.done = player.sequence;
      outcomes.push_back(std::get<wire::RoundOver>(given->what));
    }
  }
  // Everybody takes so many steps, in virtual time.
  void Run(int steps) {
    for (int i = 0; i < steps; ++i) {
      for (auto& player : players) Step(*player);
      world.Advance(Time{10});
    }
  }

  TasksWorld& world;
  Players players;
  std::map<std::string, std::vector<uint64_t>> invited;  // serials, by task
  std::vector<wire::RoundOver> outcomes;
  std::string refuses;  // the task that everybody declines
  bool silent = false;  // nobody answers a question
  bool stalls = false;  // nobody trains
  int completions = 0;
  int retries = 0;
};

}  // namespace chorus::coordinator
