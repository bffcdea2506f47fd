#include "coordinator/postgres_connection.h"

#include <libpq-fe.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

namespace chorus::coordinator::postgres {
namespace {

// Object identifiers of types, fixed in PostgreSQL's catalogue (pg_type.dat).
constexpr Oid kBytea = 17;
constexpr Oid kInt8 = 20;
constexpr Oid kFloat8 = 701;
constexpr int kBinary = 1;

struct FreeResult {
  void operator()(PGresult* result) const { PQclear(result); }
};

// The server's words, in one line.
std::string WordsOf(const char* message) {
  std::string words = message == nullptr ? "" : message;
  while (!words.empty() && (words.back() == '\n' || words.back() == ' ')) words.pop_back();
  std::replace(words.begin(), words.end(), '\n', ' ');
  return words.empty() ? "no reason given" : words;
}

uint64_t BigEndian(uint64_t value) { return __builtin_bswap64(value); }
static_assert(std::endian::native == std::endian::little, "numbers cross the wire big-endian");

// Parameters as libpq takes them. Points into the values and into itself.
class Parameters {
 public:
  explicit Parameters(std::span<const SqlValue> values) : numbers_(values.size()) {
    for (size_t i = 0; i < values.size(); ++i) {
      if (const auto* number = std::get_if<uint64_t>(&values[i])) {
        Number(i, *number, kInt8);
      } else if (const auto* real = std::get_if<double>(&values[i])) {
        Number(i, std::bit_cast<uint64_t>(*real), kFloat8);
      } else if (const auto* text = std::get_if<std::string_view>(&values[i])) {
        // As bytes, since PostgreSQL's text can hold neither zeros nor what is not UTF-8.
        Add(text->data(), text->size(), kBytea);
      } else {
        const BytesView bytes = std::get<BytesView>(values[i]);
        Add(reinterpret_cast<const char*>(bytes.data()), bytes.size(), kBytea);
      }
    }
  }
  Parameters(const Parameters&) = delete;
  Parameters& operator=(const Parameters&) = delete;

  int count() const { return static_cast<int>(data_.size()); }
  const Oid* types() const { return types_.data(); }
  const char* const* data() const { return data_.data(); }
  const int* sizes() const { return sizes_.data(); }
  const int* formats() const { return formats_.data(); }

 private:
  void Number(size_t place, uint64_t value, Oid type) {
    numbers_[place] = BigEndian(value);
    Add(reinterpret_cast<const char*>(&numbers_[place]), sizeof(uint64_t), type);
  }
  void Add(const char* data, size_t size, Oid type) {
    data_.push_back(data == nullptr ? "" : data);  // a null pointer would be NULL
    sizes_.push_back(static_cast<int>(size));
    formats_.push_back(kBinary);
    types_.push_back(type);
  }

  std::vector<uint64_t> numbers_;
  std::vector<const char*> data_;
  std::vector<int> sizes_;
  std::vector<int> formats_;
  std::vector<Oid> types_;
};

class ResultRow final : public SqlRow {
 public:
  ResultRow(const PGresult* result, int row) : result_(result), row_(row) {}

  uint64_t TakeU64() override {
    const BytesView view = TakeView();
    uint64_t number = 0;
    for (const uint8_t byte : view) number = number << 8U | byte;
    return number;
  }
  double TakeDouble() override { return std::bit_cast<double>(TakeU64()); }
  BytesView TakeView() override {
    const int column = column_++;
    if (column >= PQnfields(result_)) return {};
    return {reinterpret_cast<const uint8_t*>(PQgetvalue(result_, row_, column)),
            static_cast<size_t>(PQgetlength(result_, row_, column))};
  }

 private:
  const PGresult* result_;
  int row_;
  int column_ = 0;
};

// What an error code (SQLSTATE) means for the transaction. PostgreSQL 15, appendix A.
Trouble TroubleOf(std::string_view state) {
  // Serialisation failure, deadlock, and a lock that could not be had in time.
  if (state == "40001" || state == "40P01" || state == "55P03") return Trouble::kConflict;
  // Two that make the same table at once meet in the catalogue's unique indices, or one finds the
  // schema, the table or its row type (42710) made a moment after it looked.
  if (state == "23505" || state == "42P06" || state == "42P07" || state == "42710")
    return Trouble::kConflict;
  // Of the connection; a server that shuts down, crashed, starts, or closes an idle session; and
  // what an engine says that does not know itself whether it committed.
  const bool lost = state.substr(0, 2) == "08" || state == "57P01" || state == "57P02" ||
                    state == "57P03" || state == "57P05" || state == "25P03" || state == "40003";
  return lost ? Trouble::kLost : Trouble::kOther;
}

Status StatusOf(std::string_view state, const std::string& words) {
  if (state == "53100") return ResourceExhausted("the disk of the store's server is full");
  if (state.substr(0, 2) == "53")
    return ResourceExhausted("the store's server has run out of something: " + words);
  if (state == "XX001" || state == "XX002" || state == "58P01")
    return DataLoss("the store's database is damaged, restore it from a backup: " + words);
  if (state == "42501" || state == "25006" || state == "57014" || state.substr(0, 2) == "28" ||
      TroubleOf(state) == Trouble::kConflict || TroubleOf(state) == Trouble::kLost)
    return Unavailable("the store's server refused: " + words);
  return Internal("the store refused a statement: " + words + " (" + std::string(state) + ")");
}

}  // namespace

void CloseConnection::operator()(pg_conn* connection) const { PQfinish(connection); }

Connection::Connection(std::unique_ptr<pg_conn, CloseConnection> raw, const Clock& clock)
    : raw_(std::move(raw)), clock_(clock) {}

Result<std::unique_ptr<Connection>> Connection::Open(const std::string& conninfo,
                                                     const Clock& clock) {
  char* error = nullptr;
  PQconninfoOption* const parsed = PQconninfoParse(conninfo.c_str(), &error);
  PQconninfoFree(parsed);
  if (parsed == nullptr) {
    const std::string words = WordsOf(error);
    PQfreemem(error);
    return InvalidArgument("the store's connection string cannot be read: " + words);
  }
  // What the conninfo says comes later and so wins. A peer that vanished is noticed in half a
  // minute.
  const char* const names[] = {"application_name",
                               "keepalives_idle",
                               "keepalives_interval",
                               "keepalives_count",
                               "tcp_user_timeout",
                               "dbname",
                               nullptr};
  const char* const values[] = {"chorus", "10", "5", "3", "20000", conninfo.c_str(), nullptr};
  std::unique_ptr<pg_conn, CloseConnection> raw(
      PQconnectStartParams(names, values, /*expand_dbname=*/1));
  if (raw == nullptr) return ResourceExhausted("the store is out of memory");
  const Time deadline = clock.Now() + kConnectDeadline;
  PostgresPollingStatusType wanted = PGRES_POLLING_WRITING;
  while (PQstatus(raw.get()) != CONNECTION_BAD && wanted != PGRES_POLLING_OK &&
         wanted != PGRES_POLLING_FAILED) {
    const Time left = deadline - clock.Now();
    pollfd wait{.fd = PQsocket(raw.get()),
                .events = static_cast<short>(wanted == PGRES_POLLING_READING ? POLLIN : POLLOUT),
                .revents = 0};
    const int ready = left.count() <= 0 ? 0 : poll(&wait, 1, static_cast<int>(left.count()));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0)
      return Unavailable("the store's server cannot be reached: it did not answer in time");
    wanted = PQconnectPoll(raw.get());
  }
  if (PQstatus(raw.get()) != CONNECTION_OK)
    return Unavailable("the store's server cannot be reached: " +
                       WordsOf(PQerrorMessage(raw.get())));
  PQsetnonblocking(raw.get(), 1);
  PQsetNoticeProcessor(
      raw.get(), [](void*, const char*) {}, nullptr);
  return std::unique_ptr<Connection>(new Connection(std::move(raw), clock));
}

Status Connection::Lost(const std::string& reason) {
  trouble_ = Trouble::kLost;
  return Unavailable("the connection to the store's server was lost: " + reason);
}

// Waits until the next result can be taken without waiting.
Status Connection::Await() {
  while (true) {
    const int unsent = PQflush(raw_.get());
    if (unsent < 0) return Lost(WordsOf(PQerrorMessage(raw_.get())));
    if (unsent == 0 && PQisBusy(raw_.get()) == 0) return OkStatus();
    const Time left = answer_by_ - clock_.Now();
    if (left.count() <= 0) return Lost("it does not answer in time");
    pollfd wait{.fd = PQsocket(raw_.get()),
                .events = static_cast<short>(unsent > 0 ? POLLIN | POLLOUT : POLLIN),
                .revents = 0};
    if (poll(&wait, 1, static_cast<int>(left.count())) < 0 && errno != EINTR)
      return Lost(std::system_category().message(errno));
    if (PQconsumeInput(raw_.get()) == 0) return Lost(WordsOf(PQerrorMessage(raw_.get())));
  }
}

Status Connection::Failed(pg_result* result) {
  const char* const field = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  // The primary message names tables and columns; details, which hold values, are left out.
  const char* const message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  if (field == nullptr) return Lost(WordsOf(PQresultErrorMessage(result)));
  trouble_ = TroubleOf(field);
  return StatusOf(field, WordsOf(message));
}

// Takes all results of what was sent, the first failure winning.
Status Connection::Finish(bool sent, const std::function<Status(pg_result*)>& take) {
  if (!sent) return Lost(WordsOf(PQerrorMessage(raw_.get())));
  answer_by_ = std::min(deadline_, clock_.Now() + kAnswerDeadline);
  Status status;
  while (true) {
    CHORUS_TRY(Await());
    const std::unique_ptr<PGresult, FreeResult> result(PQgetResult(raw_.get()));
    if (result == nullptr) return status;
    const ExecStatusType kind = PQresultStatus(result.get());
    if (kind == PGRES_COMMAND_OK || kind == PGRES_TUPLES_OK || kind == PGRES_EMPTY_QUERY) {
      tag_ = PQcmdStatus(result.get());
      wrote_ = wrote_ || !tag_.starts_with("SELECT");
      if (status.ok()) status = take(result.get());
    } else if (status.ok() || trouble_ == Trouble::kNone) {
      status = Failed(result.get());
    }
    // The rest of a connection that broke is not worth waiting for.
    if (trouble_ == Trouble::kLost) return status;
  }
}

Result<std::string> Connection::Execute(const std::string& sql) {
  std::string first;
  CHORUS_TRY(Finish(PQsendQuery(raw_.get(), sql.c_str()) == 1, [&first](pg_result* result) {
    const bool any = PQntuples(result) > 0 && PQnfields(result) > 0;
    first = any ? PQgetvalue(result, 0, 0) : "";
    return OkStatus();
  }));
  return first;
}

Status Connection::Prepare(const char* sql, std::span<const SqlValue> values, std::string& name) {
  if (const auto found = prepared_.find(sql); found != prepared_.end()) {
    name = found->second;
    return OkStatus();
  }
  const Parameters parameters(values);
  name = std::to_string(prepared_.size());
  CHORUS_TRY(Finish(
      PQsendPrepare(raw_.get(), name.c_str(), sql, parameters.count(), parameters.types()) == 1,
      [](pg_result*) { return OkStatus(); }));
  prepared_.emplace(sql, name);
  return OkStatus();
}

Status Connection::Query(const char* sql, std::span<const SqlValue> values,
                         const std::function<Status(SqlRow&)>& row) {
  std::string name;
  const bool wrote = wrote_;
  CHORUS_TRY(Prepare(sql, values, name));
  wrote_ = wrote;  // preparing writes nothing
  const Parameters parameters(values);
  const bool sent =
      PQsendQueryPrepared(raw_.get(), name.c_str(), parameters.count(), parameters.data(),
                          parameters.sizes(), parameters.formats(), kBinary) == 1;
  return Finish(sent, [&row](pg_result* result) -> Status {
    for (int i = 0; i < PQntuples(result); ++i) {
      ResultRow found(result, i);
      CHORUS_TRY(row(found));
    }
    return OkStatus();
  });
}

}  // namespace chorus::coordinator::postgres
