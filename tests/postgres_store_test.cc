// What only PostgreSQL does: transactions that meet, connections that break in every place, servers
// that die. Each test needs a server, which CHORUS_POSTGRES names.
#include <arpa/inet.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <latch>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "coordinator/postgres_connection.h"
#include "store_cases.h"
#include "store_kinds.h"

namespace chorus {
namespace {

class PostgresStore : public testing::Test {
 protected:
  void SetUp() override {
    if (PostgresUri() == nullptr) GTEST_SKIP() << "CHORUS_POSTGRES names no server";
    options_ = FreshSchema();
  }
  PostgresOptions options_;
};

// Runs SQL beside the stores and gives the first value.
std::string Sql(const std::string& sql) {
  PGconn* const connection = PQconnectdb(PostgresUri());
  PGresult* const result = PQexec(connection, sql.c_str());
  const ExecStatusType status = PQresultStatus(result);
  EXPECT_TRUE(status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
      << PQerrorMessage(connection);
  std::string value = PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "";
  PQclear(result);
  PQfinish(connection);
  return value;
}

// The counter that transactions count up: what is done twice or not at all shows.
Status CountUp(Transaction& transaction, const TaskId& id = kTask) {
  CHORUS_TRY_ASSIGN(std::optional<TaskRecord> task, transaction.FindTask(id));
  if (!task) return NotFound("no task");
  ++task->rounds_begun;
  return transaction.PutTask(*task);
}

Status CountUp(Store& store) {
  return store.RunTransaction("count",
                              [](Transaction& transaction) { return CountUp(transaction); });
}

std::unique_ptr<Store> WithCounter(const PostgresOptions& options) {
  std::unique_ptr<Store> store = OpenPostgres(options);
  TaskRecord task = SomeTask();
  task.rounds_begun = 0;
  EXPECT_THAT(store->RunTransaction(
                  "put", [&](Transaction& transaction) { return transaction.PutTask(task); }),
              IsOk());
  return store;
}

uint64_t Counter(Store& store) { return TaskIn(store, kTask).value().rounds_begun; }

TEST_F(PostgresStore, RunsAgainWhatMetAnotherTransaction) {
  const std::unique_ptr<Store> a = WithCounter(options_);
  const std::unique_ptr<Store> b = OpenPostgres(options_);
  std::latch both_have_read(2);
  std::atomic<int> runs{0};
  const auto count = [&](Store& store) {
    bool first = true;
    EXPECT_THAT(store.RunTransaction("count",
                                     [&](Transaction& transaction) -> Status {
                                       ++runs;
                                       CHORUS_TRY(transaction.FindTask(kTask));
                                       if (std::exchange(first, false))
                                         both_have_read.arrive_and_wait();
                                       return CountUp(transaction);
                                     }),
                IsOk());
  };
  std::thread beside([&] { count(*a); });
  count(*b);
  beside.join();
  EXPECT_EQ(Counter(*a), 2U);
  EXPECT_GE(runs, 3);
}

// Each reads what the other writes: with anything less than serialisable both would succeed at
// once.
TEST_F(PostgresStore, AllowsNoWriteSkew) {
  const std::unique_ptr<Store> a = WithCounter(options_);
  const std::unique_ptr<Store> b = OpenPostgres(options_);
  std::latch both_have_read(2);
  const auto claim = [&](Store& store, const TaskId& own) {
    bool first = true;
    return store.RunTransaction("claim", [&](Transaction& transaction) -> Status {
      CHORUS_TRY_ASSIGN(const std::vector<TaskRecord> tasks, transaction.Tasks());
      if (std::exchange(first, false)) both_have_read.arrive_and_wait();
      if (tasks.size() > 1) return AlreadyExists("the other was faster");
      return transaction.PutTask(SomeTask(own));
    });
  };
  Status of_a;
  std::thread beside([&] { of_a = claim(*a, {7}); });
  const Status of_b = claim(*b, {8});
  beside.join();
  EXPECT_NE(of_a.ok(), of_b.ok());
  EXPECT_EQ((of_a.ok() ? of_b : of_a).code(), Code::kAlreadyExists);
}

TEST_F(PostgresStore, CountsEachOfManyThreadsInSeveralStoresOnce) {
  const std::unique_ptr<Store> a = WithCounter(options_);
  const std::unique_ptr<Store> b = OpenPostgres(options_);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int k = 0; k < 15; ++k) EXPECT_THAT(CountUp(i % 2 == 0 ? *a : *b), IsOk());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Counter(*a), 60U);
}

TEST_F(PostgresStore, IsMadeOnceByManyWhoStartAtOnce) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 5; ++i) {
    threads.emplace_back([&] { EXPECT_THAT(NewPostgresStore(options_), IsOk()); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Sql("SELECT count(*) FROM " + options_.schema + ".schema_version"), "1");
  EXPECT_THAT(PutTaskAndRounds(*OpenPostgres(options_), {1}), IsOk());
}

// CREATE TABLE looks for the table, then for its row type, and another process may have made both
// in between. A type that stands alone for a moment is what it then sees.
TEST_F(PostgresStore, TriesAgainWhenItsTableIsMadeBesideIt) {
  Sql("CREATE SCHEMA " + options_.schema);
  Sql("CREATE TYPE " + options_.schema + ".schema_version AS ENUM ()");
  std::thread beside([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    Sql("DROP TYPE " + options_.schema + ".schema_version");
  });
  EXPECT_THAT(NewPostgresStore(options_), IsOk());
  beside.join();
}

TEST_F(PostgresStore, RefusesANewerVersionAndWhatIsNoAddress) {
  OpenPostgres(options_);
  Sql("UPDATE " + options_.schema + ".schema_version SET version = version + 1");
  EXPECT_THAT(NewPostgresStore(options_), HasCodeAndText(Code::kFailedPrecondition, "newer"));
  EXPECT_THAT(NewPostgresStore({.connection = "postgresql://127.0.0.1:1/x"}),
              HasCodeAndText(Code::kUnavailable, "refused"));
  EXPECT_THAT(NewPostgresStore({.connection = "no such=thing="}), HasCode(Code::kInvalidArgument));
  EXPECT_THAT(NewPostgresStore({.connection = PostgresUri(), .schema = "x; DROP TABLE y"}),
              HasCodeAndText(Code::kInvalidArgument, "schema"));
}

TEST_F(PostgresStore, KeepsEverythingAcrossAReopening) {
  const Bytes model = SomeModel(size_t{3} << 20U, 6);
  ASSERT_THAT(PutTaskAndRounds(*OpenPostgres(options_), {1, 2}), IsOk());
  ASSERT_THAT(PutModel(*OpenPostgres(options_), model), IsOk());
  const std::unique_ptr<Store> store = OpenPostgres(options_);
  ExpectSame(TaskIn(*store, kTask).value(), SomeTask());
  EXPECT_THAT(NumbersOf(*store, kTask, 0, 10), testing::ElementsAre(1, 2));
  EXPECT_THAT(ModelIn(*store, crypto::Sha256(model)), HoldsValue(model));
}

TEST_F(PostgresStore, NoticesADamagedModel) {
  const Bytes model = SomeModel(size_t{3} << 20U, 7);
  for (const std::string edit :
       {"UPDATE model_chunk SET bytes = '\\x00' || substr(bytes, 2) WHERE chunk = 1",
        "DELETE FROM model_chunk WHERE chunk = 0", "UPDATE model SET size = -1"}) {
    const std::unique_ptr<Store> store = OpenPostgres(FreshSchema());
    ASSERT_THAT(PutModel(*store, model), IsOk());
    Sql("SET search_path TO " + options_.schema + "; " + edit);
    EXPECT_THAT(ModelIn(*store, crypto::Sha256(model)), HasCode(Code::kDataLoss)) << edit;
  }
}

void TerminateOthers() {
  Sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
      " WHERE application_name = 'chorus'");
}

TEST_F(PostgresStore, GoesOnWhenItsConnectionsAreTerminated) {
  const std::unique_ptr<Store> store = WithCounter(options_);
  for (int i = 0; i < 5; ++i) {
    TerminateOthers();  // while idle
    EXPECT_THAT(CountUp(*store), IsOk());
    int runs = 0;
    EXPECT_THAT(store->RunTransaction("count",
                                      [&](Transaction& transaction) -> Status {
                                        if (++runs == 1) TerminateOthers();
                                        CHORUS_TRY(CountUp(transaction));
                                        if (runs == 2) TerminateOthers();
                                        return OkStatus();
                                      }),
                IsOk());
    EXPECT_EQ(runs, 3);
  }
  EXPECT_EQ(Counter(*store), 10U);
}

// The transaction's own refusal is told, and not the trouble of those that ran before.
TEST_F(PostgresStore, TellsTheFunctionsOwnRefusal) {
  const std::unique_ptr<Store> store = WithCounter(options_);
  int runs = 0;
  EXPECT_THAT(store->RunTransaction("count",
                                    [&](Transaction& transaction) -> Status {
                                      if (++runs == 1) TerminateOthers();
                                      CHORUS_TRY(CountUp(transaction));
                                      return Aborted("not after all");
                                    }),
              HasCodeAndText(Code::kAborted, "not after all"));
  EXPECT_EQ(Counter(*store), 0U);
}

// Stands between a store and the server, and breaks the connection at a commit.
class Wire {
 public:
  enum class Break {
    kNever,
    kBeforeTheServerHears,
    kBeforeTheStoreHears,
    kBeforeTheStoreHearsAndForGood,  // nobody gets through any more, until Mend
    kServerHearsLate
  };

  Wire() {
    const std::string uri = PostgresUri();
    server_port_ = std::atoi(uri.substr(uri.rfind(':') + 1).c_str());
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = Loopback(0);
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(listener_, 16), 0);
    socklen_t size = sizeof(address);
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    accepting_ = std::thread([this] { Accept(); });
  }
  ~Wire() {
    stop_ = true;
    accepting_.join();
    for (std::thread& thread : carrying_) thread.join();
    close(listener_);
  }
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  std::string Uri() const {
    std::string uri = PostgresUri();
    const size_t at = uri.find('@');
    return uri.substr(0, at) + "@127.0.0.1:" + std::to_string(port_) + "/postgres";
  }
  // At the next commit, and at the one after that.
  void Set(Break at, Break then = Break::kNever) {
    then_ = then;
    break_ = at;
  }
  void Mend() { down_ = false; }
  int broken() const { return broken_; }

 private:
  static sockaddr_in Loopback(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }
  bool Readable(int descriptor) const {
    pollfd wait{.fd = descriptor, .events = POLLIN, .revents = 0};
    return poll(&wait, 1, 20) > 0;
  }
  void Accept() {
    while (!stop_) {
      if (!Readable(listener_)) continue;
      const int store = accept(listener_, nullptr, nullptr);
      if (down_) {
        close(store);
        continue;
      }
      const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_in address = Loopback(server_port_);
      EXPECT_EQ(connect(server, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
      carrying_.emplace_back([this, store, server] { Carry(store, server); });
    }
  }
  // What came from `from`, at most `buffer` long; empty: it closed.
  static std::string_view Receive(int from, std::string& buffer) {
    const ssize_t size = recv(from, buffer.data(), buffer.size(), 0);
    return std::string_view(buffer).substr(0, size <= 0 ? 0 : static_cast<size_t>(size));
  }
  static void Send(int to, std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(to, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }
  void Carry(int store, int server) {
    std::string buffer(size_t{1} << 16U, '\0');
    while (!stop_) {
      pollfd both[] = {{.fd = store, .events = POLLIN, .revents = 0},
                       {.fd = server, .events = POLLIN, .revents = 0}};
      if (poll(both, 2, 20) <= 0) continue;
      if (both[0].revents != 0) {
        const std::string_view bytes = Receive(store, buffer);
        if (bytes.empty()) break;
        if (BreaksAt(bytes, store, server)) return;
        Send(server, bytes);
      }
      if (both[1].revents != 0) {
        const std::string_view bytes = Receive(server, buffer);
        if (bytes.empty()) break;
        Send(store, bytes);
      }
    }
    close(store);
    close(server);
  }
  // Breaks the connection if `bytes` are the commit that it is to break at.
  bool BreaksAt(std::string_view bytes, int store, int server) {
    if (bytes.find("COMMIT") == std::string_view::npos) return false;
    const Break at = break_.exchange(then_.exchange(Break::kNever));
    if (at == Break::kNever) return false;
    ++broken_;
    std::string buffer(size_t{1} << 16U, '\0');
    if (at == Break::kBeforeTheStoreHears || at == Break::kBeforeTheStoreHearsAndForGood) {
      Send(server, bytes);
      Receive(server, buffer);
    }
    down_ = at == Break::kBeforeTheStoreHearsAndForGood;
    close(store);
    if (at == Break::kServerHearsLate) {
      // Long enough for the store to come back and ask; the server holds the transaction open.
      std::mutex mutex;
      std::unique_lock lock(mutex);
      std::condition_variable never;
      never.wait_for(lock, std::chrono::milliseconds(700));
      Send(server, bytes);
      Receive(server, buffer);
    }
    close(server);
    return true;
  }

  int server_port_ = 0;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> stop_{false};
  std::atomic<bool> down_{false};
  std::atomic<Break> break_{Break::kNever};
  std::atomic<Break> then_{Break::kNever};
  std::atomic<int> broken_{0};
  std::thread accepting_;
  std::vector<std::thread> carrying_;  // used by the accepting thread until that has ended
};

TEST_F(PostgresStore, FindsOutWhetherACommitWasDoneWhenItsAnswerIsLost) {
  WithCounter(options_);
  Wire wire;
  options_.connection = wire.Uri();
  const std::unique_ptr<Store> store = OpenPostgres(options_);
  uint64_t done = 0;
  for (int i = 0; i < 3; ++i) {
    for (const Wire::Break at :
         {Wire::Break::kBeforeTheServerHears, Wire::Break::kBeforeTheStoreHears,
          Wire::Break::kServerHearsLate, Wire::Break::kNever}) {
      wire.Set(at);
      EXPECT_THAT(CountUp(*store), IsOk());
      EXPECT_EQ(Counter(*store), ++done) << static_cast<int>(at);
    }
  }
  EXPECT_EQ(wire.broken(), 9);
}

// The store gives up finding out, though what it wrote to find out is there. That is no mark of the
// commit that comes next.
TEST_F(PostgresStore, TakesNoMarkOfAnEarlierSearchForALaterCommit) {
  WithCounter(options_);
  Wire wire;
  options_.connection = wire.Uri();
  const std::unique_ptr<Store> store = OpenPostgres(options_);
  wire.Set(Wire::Break::kBeforeTheServerHears, Wire::Break::kBeforeTheStoreHearsAndForGood);
  // By a name for which there is little patience.
  EXPECT_THAT(store->RunTransaction("look", [](Transaction& of) { return CountUp(of); }),
              HasCodeAndText(Code::kUnavailable, "done is not known"));
  wire.Mend();
  wire.Set(Wire::Break::kBeforeTheServerHears);
  EXPECT_THAT(CountUp(*store), IsOk());
  EXPECT_EQ(wire.broken(), 3);
  EXPECT_EQ(Counter(*store), 1U);
}

class SetClock final : public Clock {
 public:
  Time Now() const override { return std::exchange(now, now + step); }
  int64_t UnixSeconds() const override { return 0; }
  mutable Time now{1'000};
  Time step{0};  // by which it goes on whenever it is looked at
};

TEST_F(PostgresStore, GivesEachStatementItsTimeAndAllOfThemMore) {
  using coordinator::postgres::Connection;
  using coordinator::postgres::kAnswerDeadline;
  using coordinator::postgres::kAttemptDeadline;
  SetClock clock;
  const auto open = [&clock] {
    Result<std::unique_ptr<Connection>> opened = Connection::Open(PostgresUri(), clock);
    EXPECT_THAT(opened, IsOk());
    (*opened)->GiveUpAt(clock.now + kAttemptDeadline);
    return *std::move(opened);
  };
  const auto query = [](Connection& connection) {
    return connection.Query("SELECT 1", {}, [](coordinator::SqlRow&) { return OkStatus(); });
  };
  std::unique_ptr<Connection> connection = open();
  const Time give_up = clock.now + kAttemptDeadline;
  for (; clock.now < give_up; clock.now += kAnswerDeadline) {
    EXPECT_THAT(connection->Execute("SELECT 1"), IsOk());
    EXPECT_THAT(query(*connection), IsOk());
  }
  EXPECT_THAT(query(*connection), HasCodeAndText(Code::kUnavailable, "in time"));
  EXPECT_EQ(connection->trouble(), coordinator::postgres::Trouble::kLost);
  // No answer is taken before the clock was looked at twice.
  connection = open();
  clock.step = kAnswerDeadline;
  EXPECT_THAT(query(*connection), HasCodeAndText(Code::kUnavailable, "in time"));
}

TEST_F(PostgresStore, GivesUpOnAServerThatSaysNothing) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(listener, 4), 0);
  socklen_t size = sizeof(address);
  getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  const std::string uri =
      "postgresql://chorus@127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/postgres";
  EXPECT_THAT(NewPostgresStore({.connection = uri}), HasCodeAndText(Code::kUnavailable, "in time"));
  close(listener);
}

int Control(const std::string& what) {
  return std::system((std::string(std::getenv("CHORUS_POSTGRES_CONTROL")) + " " + what).c_str());
}

TEST_F(PostgresStore, LosesNothingWhenItsServerIsKilled) {
  if (std::getenv("CHORUS_POSTGRES_CONTROL") == nullptr)
    GTEST_SKIP() << "CHORUS_POSTGRES_CONTROL names no program that kills the server";
  const std::unique_ptr<Store> store = WithCounter(options_);
  uint64_t done = 0;
  // Between transactions.
  Control("kill");
  EXPECT_EQ(Control("start"), 0);
  EXPECT_THAT(CountUp(*store), IsOk());
  EXPECT_EQ(Counter(*store), ++done);
  // Within one.
  int runs = 0;
  EXPECT_THAT(store->RunTransaction("count",
                                    [&](Transaction& transaction) -> Status {
                                      CHORUS_TRY(CountUp(transaction));
                                      if (++runs > 1) return OkStatus();
                                      Control("kill");
                                      EXPECT_EQ(Control("start"), 0);
                                      return OkStatus();
                                    }),
              IsOk());
  EXPECT_EQ(runs, 2);
  EXPECT_EQ(Counter(*store), ++done);
  // While it is down the store says so, in bounded time, and comes back with it.
  Control("kill");
  EXPECT_THAT(CountUp(*store), HasCode(Code::kUnavailable));
  // What is asked again anyhow holds nobody up for long.
  const std::unique_ptr<Clock> clock = NewSystemClock();
  for (const char* const name : {"look", "probe"}) {
    const Time began = clock->Now();
    EXPECT_THAT(store->RunTransaction(name, [](Transaction& of) { return CountUp(of); }),
                HasCode(Code::kUnavailable));
    EXPECT_LT(clock->Now() - began, Time{4'000}) << name;
  }
  EXPECT_EQ(Control("start"), 0);
  EXPECT_THAT(CountUp(*store), IsOk());
  EXPECT_EQ(Counter(*store), ++done);
  // While transactions run one after the other: what was reported is there, and nothing else but
  // what the store could not find out about.
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> reported{0};
  uint64_t unknown = 0;
  std::thread counting([&] {
    while (!stop) {
      const Status status = CountUp(*store);
      if (status.ok()) {
        ++reported;
      } else if (status.message().find("done is not known") != std::string::npos) {
        ++unknown;
      }
    }
  });
  for (int i = 0; i < 3; ++i) {
    const uint64_t before = reported;
    while (reported < before + 20) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    Control("kill");
    EXPECT_EQ(Control("start"), 0);
  }
  stop = true;
  counting.join();
  EXPECT_GE(Counter(*store), done + reported);
  EXPECT_LE(Counter(*store), done + reported + unknown);
  EXPECT_LE(unknown, 3U) << "one for each kill";
}

}  // namespace
}  // namespace chorus
