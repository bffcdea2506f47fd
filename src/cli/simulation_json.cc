// A run as JSON, written and read by one list of its fields.
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "cli/simulation_report.h"

namespace chorus::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "chorus simulation 1";
constexpr size_t kItemsMax = size_t{1} << 24U;

// --- the lists of fields, for both directions ----------------------------------------------------

std::string StateName(RoundState state) {
  return state == RoundState::kCommitted ? "committed"
         : state == RoundState::kAborted ? "aborted"
                                         : "open";
}
RoundState StateOf(const std::string& name) {
  return name == "committed" ? RoundState::kCommitted
         : name == "aborted" ? RoundState::kAborted
                             : RoundState::kOpen;
}

std::optional<QueryKind> KindOf(const std::string& name) {
  for (const QueryKind kind : {QueryKind::kCount, QueryKind::kHistogram, QueryKind::kMean,
                               QueryKind::kTable, QueryKind::kMoments}) {
    if (name == KindName(kind)) return kind;
  }
  return std::nullopt;
}

// Whether there is all that a page or a table takes from an answer.
bool HasItsShape(const RecordedAnswer& recorded) {
  const QueryAnswer& answer = recorded.answer;
  const size_t factors = recorded.columns.size() + 1;
  switch (answer.kind) {
    case QueryKind::kCount:
      return true;
    case QueryKind::kHistogram:
      return !answer.edges.empty() && answer.histogram.size() == answer.edges.size() + 1;
    case QueryKind::kMean:
    case QueryKind::kTable:
      return !answer.moments.empty();
    case QueryKind::kMoments:
      return answer.products.size() == factors * factors;
  }
  return false;
}

template <typename Archive>
void List(Archive& archive, SimulatedStep& step) {
  archive("name", step.name);
  archive("asked", step.asked);
  archive("answered", step.answered);
  archive("left", step.left);
  archive("lost", step.lost);
  archive("late", step.late);
  archive("failed", step.failed);
  archive("bytes_up", step.bytes_up);
  archive("bytes_down", step.bytes_down);
  archive("seconds", step.seconds);
}

template <typename Archive>
void List(Archive& archive, SimulationCost& cost) {
  archive("clients_seconds", cost.clients_seconds);
  archive("coordinator_seconds", cost.coordinator_seconds);
  archive("testing_seconds", cost.testing_seconds);
  archive("wall_seconds", cost.wall_seconds);
}

template <typename Archive>
void List(Archive& archive, ClientAccuracy& client) {
  archive("client", client.client);
  archive("examples", client.examples);
  archive("accuracy", client.accuracy);
  archive("loss", client.loss);
}

template <typename Archive>
void List(Archive& archive, SimulatedRound& round) {
  RoundReport& report = round.report;
  std::string state = StateName(report.state);
  archive("round", report.round);
  archive("state", state);
  report.state = StateOf(state);
  archive("reason", report.reason);
  archive("tested", round.tested);
  archive("test_accuracy", round.test_accuracy);
  archive("test_loss", round.test_loss);
  archive("clients_accuracy", report.accuracy);
  archive("clients_loss", report.loss);
  archive("clients_evaluated", report.evaluated);
  archive("invited", report.invited);
  archive("contributors", report.contributors);
  archive("refused", report.refused);
  archive("examples", report.examples);
  archive("cohorts", report.cohorts);
  archive("cohorts_committed", report.cohorts_committed);
  archive("bytes_up", report.bytes_up);
  archive("bytes_down", report.bytes_down);
  archive("began_seconds", round.began_seconds);
  archive("ended_seconds", round.ended_seconds);
  archive("steps", round.steps);
}

template <typename Archive>
void List(Archive& archive, Moments& moments) {
  archive("count", moments.count);
  archive("sum_in_units", moments.sum);
  archive("sum_of_squares_in_units", moments.sum_of_squares);
  archive("mean", moments.mean);
  archive("variance", moments.variance);
}

// What the query's kind does not name is empty.
template <typename Archive>
void List(Archive& archive, RecordedAnswer& recorded) {
  QueryAnswer& answer = recorded.answer;
  std::string kind = KindName(answer.kind);
  archive("name", answer.name);
  archive("kind", kind);
  archive("columns", recorded.columns);
  archive("unit", recorded.unit);
  archive("examples", answer.examples);
  archive("clients", answer.clients);
  archive("edges", answer.edges);
  archive("histogram", answer.histogram);
  archive("moments", answer.moments);
  archive("left_out", answer.left_out);
  archive("products_in_units", answer.products);
  const std::optional<QueryKind> known = KindOf(kind);
  if (!known.has_value()) return archive.Fail("a query is of no kind that this version knows");
  answer.kind = *known;
  if (!HasItsShape(recorded)) archive.Fail("an answer has not the figures of its kind");
}

template <typename Archive>
void List(Archive& archive, RecordedAnswers& answers) {
  archive("round", answers.round);
  archive("queries", answers.queries);
}

template <typename Archive>
void List(Archive& archive, RecordedRun& run) {
  SimulationResult& result = run.result;
  std::string format = kFormat;
  archive("format", format);
  if (format != kFormat) archive.Fail("format is not \"" + std::string(kFormat) + "\"");
  archive("name", run.name);
  archive("seed", run.seed);
  archive("task", run.task);
  archive("command", run.command);
  archive("partition", run.partition);
  archive("parameters", run.parameters);
  archive("virtual_clients", result.virtual_clients);
  archive("virtual_seconds", result.virtual_seconds);
  archive("first_accuracy", result.first_accuracy);
  archive("first_loss", result.first_loss);
  archive("target_round", result.target_round);
  archive("rounds", result.rounds);
  archive("clients", result.clients);
  archive("answers", run.answers);
  archive("measured", result.cost);
}

// --- writing -------------------------------------------------------------------------------------

class JsonWriter {
 public:
  template <typename T>
  void operator()(const char* name, T& value) {
    json_[name] = Of(value);
  }
  void Fail(const std::string&) {}
  Json Take() { return std::move(json_); }

 private:
  template <typename T>
  static Json Of(T& value) {
    if constexpr (std::is_arithmetic_v<T> || std::is_same_v<T, std::string>) {
      return Json(value);  // a number that is not finite becomes null
    } else {
      JsonWriter inner;
      List(inner, value);
      return inner.Take();
    }
  }
  template <typename T>
  static Json Of(std::vector<T>& values) {
    Json array = Json::array();
    for (T& value : values) array.push_back(Of(value));
    return array;
  }
  template <typename T>
  static Json Of(std::optional<T>& value) {
    return value.has_value() ? Json(*value) : Json();
  }

  Json json_ = Json::object();
};

// --- reading -------------------------------------------------------------------------------------

class JsonReader {
 public:
  explicit JsonReader(const Json& json, std::string path) : json_(json), path_(std::move(path)) {}

  template <typename T>
  void operator()(const char* name, T& value) {
    if (!error_.empty()) return;
    const auto field = json_.is_object() ? json_.find(name) : json_.end();
    const std::string path = path_.empty() ? name : path_ + "." + name;
    if (!json_.is_object() || field == json_.end()) {
      Fail(path + " is missing");
    } else {
      Read(*field, path, value);
    }
  }
  void Fail(const std::string& what) {
    if (error_.empty()) error_ = what;
  }
  const std::string& error() const { return error_; }

 private:
  void Read(const Json& json, const std::string& path, std::string& value) {
    if (!json.is_string()) return Fail(path + " is no text");
    value = json.get<std::string>();
  }
  void Read(const Json& json, const std::string& path, bool& value) {
    if (!json.is_boolean()) return Fail(path + " is neither true nor false");
    value = json.get<bool>();
  }
  void Read(const Json& json, const std::string& path, int64_t& value) {
    // What nlohmann::json read as unsigned may be larger than any int64.
    const bool fits = json.is_number_unsigned() ? json.get<uint64_t>() <= uint64_t{INT64_MAX}
                                                : json.is_number_integer();
    if (!fits) return Fail(path + " is no whole number of its size");
    value = json.get<int64_t>();
  }
  void Read(const Json& json, const std::string& path, double& value) {
    if (json.is_null()) {
      value = std::numeric_limits<double>::quiet_NaN();
      return;
    }
    if (!json.is_number()) return Fail(path + " is no number");
    value = json.get<double>();
  }
  template <typename T>
  std::enable_if_t<std::is_unsigned_v<T>> Read(const Json& json, const std::string& path,
                                               T& value) {
    if (!json.is_number_unsigned() || json.get<uint64_t>() > std::numeric_limits<T>::max()) {
      return Fail(path + " is no whole number of its size");
    }
    value = static_cast<T>(json.get<uint64_t>());
  }
  template <typename T>
  void Read(const Json& json, const std::string& path, std::optional<T>& value) {
    value.reset();
    if (!json.is_null()) Read(json, path, value.emplace());
  }
  template <typename T>
  void Read(const Json& json, const std::string& path, std::vector<T>& values) {
    if (!json.is_array() || json.size() > kItemsMax) return Fail(path + " is no list");
    values.clear();
    for (size_t i = 0; i < json.size() && error_.empty(); ++i) {
      Read(json[i], path + "[" + std::to_string(i) + "]", values.emplace_back());
    }
  }
  template <typename T>
  std::enable_if_t<std::is_class_v<T>> Read(const Json& json, const std::string& path, T& value) {
    JsonReader inner(json, path);
    List(inner, value);
    if (!inner.error().empty()) Fail(inner.error());
  }

  const Json& json_;
  std::string path_;
  std::string error_;
};

}  // namespace

std::string RunJson(const RecordedRun& run) {
  RecordedRun copy = run;  // the lists of fields take what can be written to
  JsonWriter writer;
  List(writer, copy);
  // Text that is not UTF-8, of a foreign column say, is mended and stops nothing.
  return writer.Take().dump(1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) + "\n";
}

Result<RecordedRun> ParseRunJson(std::string_view json, std::string_view where) {
  const Json parsed = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  const std::string hint = "; name the .json that chorus simulate wrote beside its report";
  if (parsed.is_discarded()) {
    return InvalidArgument(std::string(where) + " is no JSON" + hint);
  }
  RecordedRun run;
  JsonReader reader(parsed, "");
  List(reader, run);
  if (!reader.error().empty()) {
    return InvalidArgument(std::string(where) + ": " + reader.error() + hint);
  }
  return run;
}

}  // namespace chorus::cli
