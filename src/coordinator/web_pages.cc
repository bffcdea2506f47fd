#include "coordinator/web_pages.h"

#include <algorithm>

namespace chorus::coordinator {
namespace {

constexpr std::string_view kMetricsType = "text/plain; version=0.0.4; charset=utf-8";
constexpr std::string_view kJsonType = "application/json";

}  // namespace

WebReply AnswerWeb(std::string_view path, const WebSubjects& subjects) {
  if (path == "/metrics") return {.content_type = kMetricsType, .body = subjects.metrics()};
  if (path == "/healthz") {
    if (subjects.healthy()) return {.body = "ok\n"};
    return {.status = 503, .body = "the store fails: no round can go on\n"};
  }
  if (path == "/status.json") {
    Result<std::string> json = subjects.status_json();
    if (!json.ok()) return {.status = 503, .body = json.status().message() + "\n"};
    return {.content_type = kJsonType, .body = *std::move(json)};
  }
  const std::span<const WebAsset> assets = WebAssets();
  const auto asset = std::find_if(assets.begin(), assets.end(),
                                  [path](const WebAsset& one) { return one.path == path; });
  if (asset == assets.end()) return {.status = 404, .body = "there is nothing here; see /\n"};
  return {.content_type = asset->content_type, .body = std::string(asset->content)};
}

}  // namespace chorus::coordinator
