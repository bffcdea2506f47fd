#include "load_stage.h"

#include <iostream>
#include <iterator>
#include <sstream>

namespace chorus::bench {

Words ParseWords(const std::string& line) {
  Words words;
  std::istringstream in(line);
  for (std::string word; in >> word;) {
    const size_t equals = word.find('=');
    words[word.substr(0, equals)] = equals == std::string::npos ? "" : word.substr(equals + 1);
  }
  return words;
}

uint64_t NumberIn(const Words& words, const std::string& name) {
  const auto found = words.find(name);
  return found == words.end() ? 0 : std::strtoull(found->second.c_str(), nullptr, 10);
}

std::string Scene::Read(const std::string& name) const {
  std::ifstream file(folder + "/" + name);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

bool NextCommand(std::string& line) { return static_cast<bool>(std::getline(std::cin, line)); }
void Answer(const std::string& line) { std::cout << line << std::endl; }

int PlayPart(const std::string& part, const Words& options) {
  Scene scene;
  scene.folder = options.at("folder");
  scene.address = options.at("address");
  scene.tls = NumberIn(options, "tls") != 0;
  if (part == "bare") return PlayBareServer(scene);
  if (part == "coordinator") return PlayCoordinator(scene, options);
  return PlayClients(scene, options);
}

}  // namespace chorus::bench
