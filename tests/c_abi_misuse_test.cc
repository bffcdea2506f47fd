// What a host can get wrong with the C ABI: handles of another kind, dead or foreign, null
// pointers, sizes of structures.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/c_handle.h"
#include "chorus/client_c.h"
#include "chorus/coordinator_c.h"
#include "matchers.h"

namespace chorus {
namespace {

using testing::HasSubstr;

constexpr std::array<float, 4> kFeatures = {1, 2, 3, 5};
constexpr std::array<uint32_t, 2> kLabels = {0, 1};
constexpr std::string_view kTask = R"(
  name: "clouds" protocol: PROTOCOL_PLAIN
  model { inputs: 2 layers { units: 2 } loss: LOSS_CROSS_ENTROPY }
)";

chorus_examples TwoExamples() {
  return {.struct_size = sizeof(chorus_examples),
          .inputs = 2,
          .count = 2,
          .features = kFeatures.data(),
          .labels = kLabels.data(),
          .targets = nullptr,
          .outputs = 0,
          .reserved = 0};
}

// One handle of each kind. The client is an echo that has begun its first round, and the model its.
struct Handles {
  Handles() {
    chorus_client_config config;
    EXPECT_EQ(chorus_client_config_init(&config, sizeof(config)), CHORUS_OK);
    config.echo = 1;
    EXPECT_EQ(chorus_client_create(&config, &client), CHORUS_OK) << chorus_last_error();
    const chorus_examples examples = TwoExamples();
    EXPECT_EQ(chorus_client_add_examples(client, &examples), CHORUS_OK) << chorus_last_error();
    EXPECT_EQ(chorus_client_start(client), CHORUS_OK) << chorus_last_error();
    for (int i = 0; i < 2; ++i) EXPECT_EQ(chorus_client_poll(client, 1), CHORUS_OK);
    EXPECT_EQ(chorus_client_fetch_model(client, &model), CHORUS_OK) << chorus_last_error();
    chorus_coordinator_config server;
    EXPECT_EQ(chorus_coordinator_config_init(&server, sizeof(server)), CHORUS_OK);
    const std::array<uint8_t, 32> seed{1};
    const std::array<uint8_t, 32> key{2};
    server.plaintext = 1;
    server.task = {kTask.data(), kTask.size()};
    server.listen = {"127.0.0.1:0", 11};
    server.signing_seed = {seed.data(), seed.size()};
    server.issuer_key = {key.data(), key.size()};
    EXPECT_EQ(chorus_coordinator_create(&server, &coordinator), CHORUS_OK) << chorus_last_error();
  }
  ~Handles() { Destroy(); }
  Handles(const Handles&) = delete;
  Handles& operator=(const Handles&) = delete;

  void Destroy() {
    if (destroyed) return;
    destroyed = true;
    EXPECT_EQ(chorus_model_destroy(model), CHORUS_OK);
    EXPECT_EQ(chorus_client_destroy(client), CHORUS_OK);
    EXPECT_EQ(chorus_coordinator_destroy(coordinator), CHORUS_OK);
  }

  chorus_client* client = nullptr;
  chorus_model* model = nullptr;
  chorus_coordinator* coordinator = nullptr;
  bool destroyed = false;
};

// Every call on a handle, with all else as it should be.
struct HandleCall {
  std::string_view name;
  int32_t (*call)(void* handle);
};
chorus_client* Client(void* handle) { return static_cast<chorus_client*>(handle); }
chorus_model* Model(void* handle) { return static_cast<chorus_model*>(handle); }
chorus_coordinator* Server(void* handle) { return static_cast<chorus_coordinator*>(handle); }

int32_t AddTo(void* handle) {
  const chorus_examples examples = TwoExamples();
  return chorus_client_add_examples(Client(handle), &examples);
}
template <typename Event, typename Handle>
int32_t NextOf(int32_t (*next)(Handle*, Event*), void* handle) {
  Event event{};
  event.struct_size = sizeof(event);
  return next(static_cast<Handle*>(handle), &event);
}
template <typename Handle>
int32_t FetchFrom(int32_t (*fetch)(Handle*, chorus_model**), void* handle) {
  chorus_model* model = nullptr;
  return fetch(static_cast<Handle*>(handle), &model);
}
int32_t ShapeOf(void* handle) {
  chorus_model_shape shape{};
  shape.struct_size = sizeof(shape);
  return chorus_model_get_shape(Model(handle), &shape);
}
int32_t PredictBy(void* handle) {
  std::array<float, 2> outputs{};
  return chorus_model_predict(Model(handle), kFeatures.data(), 2, outputs.data(), 2);
}
int32_t WeightsOf(void* handle) {
  std::array<float, 2> weights{};
  return chorus_model_copy_weights(Model(handle), weights.data(), 2);
}
int32_t PortOf(void* handle) {
  int32_t port = 0;
  return chorus_coordinator_get_port(Server(handle), &port);
}
int32_t WebPortOf(void* handle) {
  int32_t port = 0;
  return chorus_coordinator_get_web_port(Server(handle), &port);
}

const std::vector<HandleCall>& ClientCalls() {
  static const std::vector<HandleCall> calls = {
      {"client_add_examples", &AddTo},
      {"client_start", [](void* h) { return chorus_client_start(Client(h)); }},
      {"client_poll", [](void* h) { return chorus_client_poll(Client(h), 1); }},
      {"client_next_event", [](void* h) { return NextOf(&chorus_client_next_event, h); }},
      {"client_pause", [](void* h) { return chorus_client_pause(Client(h)); }},
      {"client_resume", [](void* h) { return chorus_client_resume(Client(h)); }},
      {"client_set_signals", [](void* h) { return chorus_client_set_signals(Client(h), 0); }},
      {"client_set_token", [](void* h) { return chorus_client_set_token(Client(h), "t", 1); }},
      {"client_stop", [](void* h) { return chorus_client_stop(Client(h)); }},
      {"client_fetch_model", [](void* h) { return FetchFrom(&chorus_client_fetch_model, h); }},
      {"client_destroy", [](void* h) { return chorus_client_destroy(Client(h)); }}};
  return calls;
}
const std::vector<HandleCall>& ModelCalls() {
  static const std::vector<HandleCall> calls = {
      {"model_get_shape", &ShapeOf},
      {"model_predict", &PredictBy},
      {"model_copy_weights", &WeightsOf},
      {"model_destroy", [](void* h) { return chorus_model_destroy(Model(h)); }}};
  return calls;
}
const std::vector<HandleCall>& CoordinatorCalls() {
  static const std::vector<HandleCall> calls = {
      {"coordinator_get_port", &PortOf},
      {"coordinator_get_web_port", &WebPortOf},
      {"coordinator_set_token_keys",
       [](void* h) { return chorus_coordinator_set_token_keys(Server(h), "{}", 2); }},
      {"coordinator_poll", [](void* h) { return chorus_coordinator_poll(Server(h), 1); }},
      {"coordinator_next_event", [](void* h) { return NextOf(&chorus_coordinator_next_event, h); }},
      {"coordinator_fetch_model",
       [](void* h) { return FetchFrom(&chorus_coordinator_fetch_model, h); }},
      {"coordinator_destroy", [](void* h) { return chorus_coordinator_destroy(Server(h)); }}};
  return calls;
}

void ExpectRefused(const std::vector<HandleCall>& calls, void* handle) {
  for (const HandleCall& each : calls) {
    EXPECT_EQ(each.call(handle), CHORUS_INVALID_ARGUMENT) << each.name;
    EXPECT_THAT(chorus_last_error(), HasSubstr("the handle is none of this kind")) << each.name;
  }
}

TEST(CAbiMisuse, RefusesHandlesOfEveryOtherKind) {
  const Handles handles;
  ExpectRefused(ClientCalls(), handles.model);
  ExpectRefused(ClientCalls(), handles.coordinator);
  ExpectRefused(ModelCalls(), handles.client);
  ExpectRefused(ModelCalls(), handles.coordinator);
  ExpectRefused(CoordinatorCalls(), handles.client);
  ExpectRefused(CoordinatorCalls(), handles.model);
  // None of it has hurt them.
  EXPECT_EQ(chorus_client_poll(handles.client, 1), CHORUS_OK);
  EXPECT_EQ(PredictBy(handles.model), CHORUS_OK);
  EXPECT_EQ(chorus_coordinator_poll(handles.coordinator, 1), CHORUS_OK);
}

TEST(CAbiMisuse, RefusesDestroyedHandlesOfEveryKind) {
  Handles handles;
  handles.Destroy();
  for (void* const handle :
       std::initializer_list<void*>{handles.client, handles.model, handles.coordinator}) {
    ExpectRefused(ClientCalls(), handle);
    ExpectRefused(ModelCalls(), handle);
    ExpectRefused(CoordinatorCalls(), handle);
  }
}

// A handle of a kind that there is not yet, of which nothing but the first word can be read and
// nothing be written: the rest of the page behind it cannot be reached.
TEST(CAbiMisuse, TouchesNothingButTheFirstWordOfAForeignHandle) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* const pages =
      mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(pages, MAP_FAILED);
  uint8_t* const handle = static_cast<uint8_t*>(pages) + page - sizeof(uint64_t);
  const uint64_t word = c_abi::Gate::Alive(c_abi::HandleKind{'?'});
  std::memcpy(handle, &word, sizeof(word));
  ASSERT_EQ(mprotect(pages, page, PROT_READ), 0);
  ASSERT_EQ(mprotect(static_cast<uint8_t*>(pages) + page, page, PROT_NONE), 0);
  ExpectRefused(ClientCalls(), handle);
  ExpectRefused(ModelCalls(), handle);
  ExpectRefused(CoordinatorCalls(), handle);
  ASSERT_EQ(munmap(pages, 2 * page), 0);
}

TEST(CAbiMisuse, EndsCallsFromAnyThreadBeforeTheirHandleEnds) {
  for (int round = 0; round < 200; ++round) {
    chorus_client_config config;
    ASSERT_EQ(chorus_client_config_init(&config, sizeof(config)), CHORUS_OK);
    config.echo = 1;
    chorus_client* client = nullptr;
    ASSERT_EQ(chorus_client_create(&config, &client), CHORUS_OK);
    std::atomic<int> inside{0};
    const auto call = [&] {
      const std::string token(300, 't');
      int32_t code = CHORUS_OK;
      for (bool first = true; code == CHORUS_OK; first = false) {
        code = chorus_client_set_token(client, token.data(), token.size());
        if (first) ++inside;
      }
      EXPECT_EQ(code, CHORUS_INVALID_ARGUMENT);
    };
    std::thread one(call);
    std::thread other(call);
    while (inside.load() < 2) std::this_thread::yield();
    EXPECT_EQ(chorus_client_destroy(client), CHORUS_OK);
    one.join();
    other.join();
  }
}

// A call with a null pointer where none may be, and all else as it should be.
struct NullCall {
  std::string function;
  std::function<int32_t()> call;
};

std::vector<NullCall> NullCallsOfClients(const Handles& handles) {
  chorus_client* const client = handles.client;
  std::vector<NullCall> calls = {
      {"client_config_init",
       [] { return chorus_client_config_init(nullptr, sizeof(chorus_client_config)); }},
      {"client_create",
       [] {
         chorus_client* made = nullptr;
         return chorus_client_create(nullptr, &made);
       }},
      {"client_create",
       [] {
         chorus_client_config config;
         (void)chorus_client_config_init(&config, sizeof(config));
         config.echo = 1;
         return chorus_client_create(&config, nullptr);
       }},
      {"client_add_examples", [=] { return chorus_client_add_examples(client, nullptr); }},
      {"client_next_event", [=] { return chorus_client_next_event(client, nullptr); }},
      {"client_set_token", [=] { return chorus_client_set_token(client, nullptr, 1); }},
      {"client_fetch_model", [=] { return chorus_client_fetch_model(client, nullptr); }}};
  for (const HandleCall& each : ClientCalls())
    calls.push_back({std::string(each.name), [each] { return each.call(nullptr); }});
  return calls;
}

std::vector<NullCall> NullCallsOfModels(const Handles& handles) {
  chorus_model* const model = handles.model;
  std::vector<NullCall> calls = {
      {"model_get_shape", [=] { return chorus_model_get_shape(model, nullptr); }},
      {"model_predict",
       [=] {
         float outputs[2];
         return chorus_model_predict(model, nullptr, 2, outputs, 2);
       }},
      {"model_predict",
       [=] { return chorus_model_predict(model, kFeatures.data(), 2, nullptr, 2); }},
      {"model_copy_weights", [=] { return chorus_model_copy_weights(model, nullptr, 2); }}};
  for (const HandleCall& each : ModelCalls())
    calls.push_back({std::string(each.name), [each] { return each.call(nullptr); }});
  return calls;
}

std::vector<NullCall> NullCallsOfCoordinators(const Handles& handles) {
  chorus_coordinator* const server = handles.coordinator;
  std::vector<NullCall> calls = {
      {"coordinator_config_init",
       [] { return chorus_coordinator_config_init(nullptr, sizeof(chorus_coordinator_config)); }},
      {"coordinator_create",
       [] {
         chorus_coordinator* made = nullptr;
         return chorus_coordinator_create(nullptr, &made);
       }},
      {"coordinator_create",
       [] {
         chorus_coordinator_config config;
         (void)chorus_coordinator_config_init(&config, sizeof(config));
         return chorus_coordinator_create(&config, nullptr);
       }},
      {"coordinator_get_port", [=] { return chorus_coordinator_get_port(server, nullptr); }},
      {"coordinator_get_web_port",
       [=] { return chorus_coordinator_get_web_port(server, nullptr); }},
      {"coordinator_set_token_keys",
       [=] { return chorus_coordinator_set_token_keys(server, nullptr, 1); }},
      {"coordinator_next_event", [=] { return chorus_coordinator_next_event(server, nullptr); }},
      {"coordinator_fetch_model", [=] { return chorus_coordinator_fetch_model(server, nullptr); }}};
  for (const HandleCall& each : CoordinatorCalls())
    calls.push_back({std::string(each.name), [each] { return each.call(nullptr); }});
  return calls;
}

std::string ReadSource(const std::string& name) {
  std::ifstream file(std::string(CHORUS_SOURCE_DIR) + "/" + name);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// How many pointers each function of the headers takes, by its name without "chorus_".
std::map<std::string, size_t> PointersOfFunctions() {
  std::map<std::string, size_t> pointers;
  for (const char* const header : {"common_c", "model_c", "client_c", "coordinator_c"}) {
    const std::string text = ReadSource("include/chorus/" + std::string(header) + ".h");
    constexpr std::string_view kExported = "\nCHORUS_API ";
    for (size_t at = text.find(kExported); at != std::string::npos; at = text.find(kExported, at)) {
      const size_t name = text.find("chorus_", at) + std::string_view("chorus_").size();
      const size_t open = text.find('(', name);
      at = text.find(')', open);
      size_t& count = pointers[text.substr(name, open - name)];
      for (size_t i = open; i < at; ++i) count += text[i] == '*' && text[i - 1] != '*' ? 1 : 0;
    }
  }
  return pointers;
}

TEST(CAbiMisuse, RefusesANullPointerInEveryPlaceOfEveryFunction) {
  const Handles handles;
  std::map<std::string, size_t> tried;
  for (const auto& calls : {NullCallsOfClients(handles), NullCallsOfModels(handles),
                            NullCallsOfCoordinators(handles)}) {
    for (const NullCall& each : calls) {
      EXPECT_EQ(each.call(), CHORUS_INVALID_ARGUMENT) << each.function;
      EXPECT_THAT(chorus_last_error(), HasSubstr("null")) << each.function;
      ++tried[each.function];
    }
  }
  const std::map<std::string, size_t> pointers = PointersOfFunctions();
  std::istringstream golden(ReadSource("tests/c_abi_v1.txt"));
  size_t symbols = 0;
  for (std::string kind, library, name; golden >> kind;) {
    if (kind != "symbol") {
      std::getline(golden, name);
      continue;
    }
    golden >> library >> name;
    ASSERT_TRUE(name.starts_with("chorus_"));
    name.erase(0, std::string_view("chorus_").size());
    ASSERT_TRUE(pointers.contains(name)) << name << " is in no header";
    EXPECT_EQ(tried[name], pointers.at(name)) << name;
    ++symbols;
  }
  EXPECT_GT(symbols, 40U);
  EXPECT_EQ(pointers.size(), 29U);
}

TEST(CAbiMisuse, RefusesNullPointersInsideStructures) {
  const Handles handles;
  chorus_examples examples = TwoExamples();
  examples.features = nullptr;
  EXPECT_EQ(chorus_client_add_examples(handles.client, &examples), CHORUS_INVALID_ARGUMENT);
  chorus_client_config config;
  ASSERT_EQ(chorus_client_config_init(&config, sizeof(config)), CHORUS_OK);
  config.server = {nullptr, 1};
  config.echo = 1;
  chorus_client* client = nullptr;
  EXPECT_EQ(chorus_client_create(&config, &client), CHORUS_INVALID_ARGUMENT);
  chorus_coordinator_config server;
  ASSERT_EQ(chorus_coordinator_config_init(&server, sizeof(server)), CHORUS_OK);
  server.task = {nullptr, 1};
  chorus_coordinator* coordinator = nullptr;
  EXPECT_EQ(chorus_coordinator_create(&server, &coordinator), CHORUS_INVALID_ARGUMENT);
}

// Memory for a structure that a program of another version knows `size` bytes of, and more that is
// not to be touched.
class Grown {
 public:
  explicit Grown(uint32_t size) : size_(size), bytes_(size + kBehind, kPoison) {
    std::fill_n(bytes_.begin(), size, uint8_t{0});
    SetSize(size);
  }
  void SetSize(uint32_t size) { std::memcpy(bytes_.data(), &size, sizeof(size)); }
  template <typename Struct>
  Struct* As() {
    return reinterpret_cast<Struct*>(bytes_.data());
  }
  bool Kept() const {
    return std::all_of(bytes_.begin() + size_, bytes_.end(),
                       [](uint8_t byte) { return byte == kPoison; });
  }

 private:
  static constexpr size_t kBehind = 256;
  static constexpr uint8_t kPoison = 0xa5;
  const uint32_t size_;
  std::vector<uint8_t> bytes_;
};

// What reads or fills each structure with a struct_size.
using OfSize = std::function<int32_t(Grown& memory, uint32_t size)>;
std::map<std::string, OfSize> CallsWithStructures(const Handles& handles) {
  return {{"chorus_client_config",
           [](Grown& memory, uint32_t size) {
             return chorus_client_config_init(memory.As<chorus_client_config>(), size);
           }},
          {"chorus_coordinator_config",
           [](Grown& memory, uint32_t size) {
             return chorus_coordinator_config_init(memory.As<chorus_coordinator_config>(), size);
           }},
          {"chorus_model_shape",
           [&](Grown& memory, uint32_t) {
             return chorus_model_get_shape(handles.model, memory.As<chorus_model_shape>());
           }},
          {"chorus_client_event",
           [&](Grown& memory, uint32_t) {
             return chorus_client_next_event(handles.client, memory.As<chorus_client_event>());
           }},
          {"chorus_coordinator_event",
           [&](Grown& memory, uint32_t) {
             const int32_t code = chorus_coordinator_next_event(
                 handles.coordinator, memory.As<chorus_coordinator_event>());
             return code == CHORUS_NOT_FOUND ? CHORUS_OK : code;  // it has none, and room for it
           }},
          {"chorus_examples", [&](Grown& memory, uint32_t size) {
             const chorus_examples examples = TwoExamples();
             std::memcpy(memory.As<chorus_examples>(), &examples, sizeof(examples));
             memory.SetSize(size);
             return chorus_client_add_examples(handles.client, memory.As<chorus_examples>());
           }}};
}

TEST(CAbiMisuse, TakesStructuresOfTheFirstVersionAndOfALaterOneAndNoneThatIsSmaller) {
  const Handles handles;
  const std::map<std::string, OfSize> calls = CallsWithStructures(handles);
  const std::string golden = ReadSource("tests/c_abi_v1.txt");
  size_t found = 0;
  std::istringstream lines(golden);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string kind, name;
    uint32_t first = 0;
    words >> kind >> name >> first;
    if (kind != "size" || golden.find("field " + name + ".struct_size 0 4") == std::string::npos)
      continue;
    ASSERT_TRUE(calls.contains(name)) << name;
    ++found;
    for (const uint32_t size : {first, first + 64}) {
      Grown memory(size);
      EXPECT_EQ(calls.at(name)(memory, size), CHORUS_OK) << name << ": " << chorus_last_error();
      EXPECT_TRUE(memory.Kept()) << name;
    }
    Grown memory(first);
    memory.SetSize(first - 1);
    EXPECT_EQ(calls.at(name)(memory, first - 1), CHORUS_INVALID_ARGUMENT) << name;
    EXPECT_THAT(chorus_last_error(), HasSubstr("struct_size")) << name;
  }
  EXPECT_EQ(found, calls.size());
}

// Version 1 of the configuration ended after `user`. What follows in such a program's memory is
// anything, here what would be refused.
TEST(CAbiMisuse, MakesAnEchoOfAConfigurationOfTheFirstVersion) {
  constexpr uint32_t kFirst = 176;
  Grown memory(kFirst);
  auto* const config = memory.As<chorus_client_config>();
  ASSERT_EQ(chorus_client_config_init(config, kFirst), CHORUS_OK);
  EXPECT_TRUE(memory.Kept());
  EXPECT_EQ(config->struct_size, kFirst);
  config->echo = 1;
  chorus_client* client = nullptr;
  ASSERT_EQ(chorus_client_create(config, &client), CHORUS_OK) << chorus_last_error();
  EXPECT_EQ(AddTo(client), CHORUS_OK);
  EXPECT_EQ(chorus_client_start(client), CHORUS_OK);
  EXPECT_EQ(chorus_client_destroy(client), CHORUS_OK);
}

}  // namespace
}  // namespace chorus
