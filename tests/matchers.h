// Matchers for Status and Result: EXPECT_THAT(x, IsOk()), HasCode(Code::kAborted),
// HoldsValue(matcher).
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "chorus/status.h"

namespace chorus {

inline void PrintTo(const Status& status, std::ostream* out) { *out << status.ToString(); }

template <typename T>
void PrintTo(const Result<T>& result, std::ostream* out) {
  *out << (result.ok() ? "a value" : result.status().ToString());
}

MATCHER(IsOk, "is ok") { return internal::StatusOf(arg).ok(); }
MATCHER_P(HasCode, code, std::string("has code ") + CodeName(code)) {
  return internal::StatusOf(arg).code() == code;
}
MATCHER_P2(HasCodeAndText, code, text,
           std::string("has code ") + CodeName(code) + " and says " + text) {
  const Status status = internal::StatusOf(arg);
  return status.code() == code && status.message().find(text) != std::string::npos;
}
MATCHER_P(HoldsValue, inner, "holds a value that matches") {
  return arg.ok() && testing::ExplainMatchResult(inner, *arg, result_listener);
}

}  // namespace chorus
