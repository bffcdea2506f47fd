// What the coordinator's web listener serves at which path.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "chorus/status.h"
#include "coordinator/web.h"

namespace chorus::coordinator {

// A file of src/coordinator/web, built in.
struct WebAsset {
  std::string_view path;  // "/page.css"; the page itself is "/"
  std::string_view content_type;
  std::string_view content;
};
std::span<const WebAsset> WebAssets();

struct WebSubjects {
  std::function<std::string()> metrics;
  std::function<Result<std::string>()> status_json;
  std::function<bool()> healthy;
};
// 200 of "/", the page's parts, /status.json, /metrics and /healthz; the last is 503 while the
// coordinator cannot work, as is /status.json while it is not known. 404 of anything else.
WebReply AnswerWeb(std::string_view path, const WebSubjects& subjects);

}  // namespace chorus::coordinator
