// A client that is given several addresses: which it calls first, and what makes it go on.
#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "base/limits.h"
#include "client/grpc_transport.h"
#include "client/servers.h"
#include "coordinator/service.h"
#include "matchers.h"
#include "wire/wire.h"

namespace chorus {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::chrono::milliseconds kDeadline{20'000};

TEST(Servers, AreReadFromAListWithCommas) {
  const auto servers = client::ServersOf("a:1,b:2,c:3");
  ASSERT_THAT(servers, IsOk());
  EXPECT_THAT(*servers, ElementsAre("a:1", "b:2", "c:3"));
  ASSERT_THAT(client::ServersOf("a:1"), IsOk());
  for (const char* bad : {"", "a:1,", ",a:1", "a:1,,b:2"}) {
    EXPECT_THAT(client::ServersOf(bad).status().message(), HasSubstr("empty")) << bad;
  }
  EXPECT_THAT(client::ServersOf("a:1,b").status().message(), HasSubstr("port"));
  EXPECT_THAT(client::ServersOf("a:1,b:2,a:1").status().message(), HasSubstr("twice"));
  std::string many = "s0:1";
  for (size_t i = 1; i < limits::kServersMax; ++i) many += ",s" + std::to_string(i) + ":1";
  EXPECT_THAT(client::ServersOf(many), IsOk());
  EXPECT_THAT(client::ServersOf(many + ",x:1"), HasCode(Code::kInvalidArgument));
}

Bytes ClientOf(uint32_t i) {
  const std::string name = "client " + std::to_string(i);
  return {name.begin(), name.end()};
}

TEST(Servers, HaveEqualPartsOfTheClients) {
  // Each of 3 is first for 1,000 of 3,000, with a deviation of 26; the clients are fixed.
  std::map<std::string, int> first;
  for (uint32_t i = 0; i < 3'000; ++i) {
    ++first[client::SpreadOver({"a:1", "b:2", "c:3"}, ClientOf(i)).front()];
  }
  for (const auto& [server, clients] : first) EXPECT_NEAR(clients, 1'000, 130) << server;
}

TEST(Servers, KeepTheirClientsWhenOneIsAdded) {
  for (uint32_t i = 0; i < 1'000; ++i) {
    const Bytes client = ClientOf(i);
    const std::string before = client::SpreadOver({"a:1", "b:2", "c:3"}, client).front();
    const std::string after = client::SpreadOver({"d:4", "c:3", "a:1", "b:2"}, client).front();
    EXPECT_TRUE(after == before || after == "d:4");
  }
}

std::unique_ptr<coordinator::Service> Answering(const std::string& word, std::atomic<bool>* up) {
  auto service = coordinator::Service::Start(
      {.listen = "127.0.0.1:0", .plaintext = true},
      [word, up](std::string_view, const coordinator::Body&, coordinator::Reply reply) {
        if (*up) return reply(Bytes(word.begin(), word.end()));
        reply(Unavailable("stopping"));
      });
  EXPECT_THAT(service, IsOk());
  return *std::move(service);
}

TEST(Servers, AreLeftForTheNextAfterTwoCallsWithoutAnAnswerAndNotBefore) {
  std::atomic<bool> up[2] = {true, true};
  const auto one = Answering("one", &up[0]);
  const auto two = Answering("two", &up[1]);
  const auto transport =
      client::NewGrpcTransport({.server = "127.0.0.1:" + std::to_string(one->port()) +
                                          ",127.0.0.1:" + std::to_string(two->port()),
                                .plaintext = true});
  const auto call = [&transport] { return transport->Call(wire::kNext, {}, kDeadline); };
  const Result<Bytes> first = call();
  ASSERT_THAT(first, IsOk());
  const size_t at = first->front() == 'o' ? 0 : 1;
  for (int i = 0; i < 3; ++i) {
    const Result<Bytes> again = call();
    ASSERT_THAT(again, IsOk());
    EXPECT_EQ(*again, *first);
  }
  // A stutter moves nobody.
  up[at] = false;
  EXPECT_THAT(call(), HasCode(Code::kUnavailable));
  up[at] = true;
  Result<Bytes> answer = call();
  ASSERT_THAT(answer, IsOk());
  EXPECT_EQ(*answer, *first);
  up[at] = false;
  EXPECT_THAT(call(), HasCode(Code::kUnavailable));
  EXPECT_THAT(call(), HasCode(Code::kUnavailable));
  answer = call();
  ASSERT_THAT(answer, IsOk());
  EXPECT_NE(*answer, *first);
  // It stays there, though the first one is back.
  up[at] = true;
  answer = call();
  ASSERT_THAT(answer, IsOk());
  EXPECT_NE(*answer, *first);
}

}  // namespace
}  // namespace chorus
