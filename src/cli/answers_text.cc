// Answers as text.
#include "cli/answers_text.h"

#include <sstream>

namespace chorus::cli {
namespace {

std::string Number(double value) {
  std::ostringstream text;
  text.precision(10);
  text << value;
  return text.str();
}

// `text` at the right of so many columns.
std::string Right(std::string text, size_t width) {
  return text.size() < width ? std::string(width - text.size(), ' ') + text : text;
}
std::string Left(std::string text, size_t width) {
  if (text.size() < width) text.resize(width, ' ');
  return text;
}

// Of the bins, from what is below the first to what is above the last.
std::vector<std::string> BinNames(const QueryAnswer& answer) {
  std::vector<std::string> names = {std::string("below ") + Number(answer.edges.front())};
  for (size_t i = 1; i < answer.edges.size(); ++i) {
    names.push_back(std::string("[").append(Number(answer.edges[i - 1])) + ", " +
                    Number(answer.edges[i]) + ")");
  }
  names.push_back(Number(answer.edges.back()) + " and above");
  return names;
}

// Of the factors of products: the constant one, then the query's columns.
std::vector<std::string> FactorNames(const RecordedAnswer& recorded) {
  std::vector<std::string> names = {"1"};
  for (const uint32_t column : recorded.columns) {
    names.push_back(std::string("column ").append(std::to_string(column)));
  }
  return names;
}

std::string HistogramText(const QueryAnswer& answer) {
  const std::vector<std::string> names = BinNames(answer);
  std::string text;
  for (size_t i = 0; i < answer.histogram.size(); ++i) {
    text.append("  ").append(Left(names[i], 28)).append(" ");
    text.append(Right(std::to_string(answer.histogram[i]), 12)).append("\n");
  }
  return text;
}

std::string MomentsText(const QueryAnswer& answer) {
  const bool table = answer.kind == QueryKind::kTable;
  const auto line = [](const std::string& arm, const std::string& count, const std::string& mean,
                       const std::string& variance) {
    std::string text = Right(arm, 8);
    text.append(" ").append(Right(count, 12)).append(" ").append(Right(mean, 18));
    return text.append(" ").append(Right(variance, 18)).append("\n");
  };
  std::string text = line(table ? "arm" : "", "count", "mean", "variance");
  for (size_t i = 0; i < answer.moments.size(); ++i) {
    const Moments& moments = answer.moments[i];
    text += line(table ? std::to_string(i) : "", std::to_string(moments.count),
                 Number(moments.mean), Number(moments.variance));
  }
  if (table) text += "  of no arm: " + std::to_string(answer.left_out) + "\n";
  return text;
}

std::string ProductsText(const RecordedAnswer& recorded) {
  const std::vector<std::string> names = FactorNames(recorded);
  std::string text = "  products in units of ";
  text.append(Number(recorded.unit)).append("\n").append(12, ' ');
  for (const std::string& name : names) text.append(" ").append(Right(name, 16));
  text += "\n";
  for (size_t j = 0; j < names.size(); ++j) {
    text += Right(names[j], 12);
    for (size_t k = 0; k < names.size(); ++k) {
      const int64_t product = recorded.answer.products[j * names.size() + k];
      text.append(" ").append(Right(std::to_string(product), 16));
    }
    text += "\n";
  }
  return text;
}

std::string AnswerText(const RecordedAnswer& recorded) {
  const QueryAnswer& answer = recorded.answer;
  switch (answer.kind) {
    case QueryKind::kCount:
      return std::string("  ").append(std::to_string(answer.examples)) + " examples of " +
             std::to_string(answer.clients) + " clients\n";
    case QueryKind::kHistogram:
      return HistogramText(answer);
    case QueryKind::kMean:
    case QueryKind::kTable:
      return MomentsText(answer);
    case QueryKind::kMoments:
      return ProductsText(recorded);
  }
  return {};
}

}  // namespace

const char* KindName(QueryKind kind) {
  switch (kind) {
    case QueryKind::kCount:
      return "count";
    case QueryKind::kHistogram:
      return "histogram";
    case QueryKind::kMean:
      return "mean";
    case QueryKind::kTable:
      return "table";
    case QueryKind::kMoments:
      return "moments";
  }
  return "unknown";
}

std::string AnswersText(std::span<const RecordedAnswer> answers) {
  std::string text;
  for (const RecordedAnswer& recorded : answers) {
    text += recorded.answer.name + " (" + KindName(recorded.answer.kind) + ")\n";
    text += AnswerText(recorded);
  }
  return text;
}

std::vector<std::pair<std::string, std::string>> FiguresOf(const RecordedAnswer& recorded) {
  const QueryAnswer& answer = recorded.answer;
  std::vector<std::pair<std::string, std::string>> figures;
  const auto add = [&](const std::string& name, std::string value) {
    figures.emplace_back(answer.name + "." + name, std::move(value));
  };
  switch (answer.kind) {
    case QueryKind::kCount:
      add("examples", std::to_string(answer.examples));
      add("clients", std::to_string(answer.clients));
      return figures;
    case QueryKind::kHistogram: {
      const std::vector<std::string> names = BinNames(answer);
      for (size_t i = 0; i < names.size(); ++i) add(names[i], std::to_string(answer.histogram[i]));
      return figures;
    }
    case QueryKind::kMean:
    case QueryKind::kTable:
      for (size_t i = 0; i < answer.moments.size(); ++i) {
        const bool table = answer.kind == QueryKind::kTable;
        const std::string arm = table ? std::string("arm ").append(std::to_string(i)) + "." : "";
        add(arm + "count", std::to_string(answer.moments[i].count));
        add(arm + "mean", Number(answer.moments[i].mean));
        add(arm + "variance", Number(answer.moments[i].variance));
      }
      if (answer.kind == QueryKind::kTable) add("of no arm", std::to_string(answer.left_out));
      return figures;
    case QueryKind::kMoments: {
      // The matrix is symmetric.
      const std::vector<std::string> names = FactorNames(recorded);
      for (size_t j = 0; j < names.size(); ++j) {
        for (size_t k = j; k < names.size(); ++k) {
          add(names[j] + " * " + names[k], std::to_string(answer.products[j * names.size() + k]));
        }
      }
      return figures;
    }
  }
  return figures;
}

}  // namespace chorus::cli
