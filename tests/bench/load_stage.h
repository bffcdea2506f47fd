// The processes of the load and the soak benchmark, as the one that directs them sees them.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "load.h"

namespace chorus::bench {

// Plays the part of that name; the process's exit code.
int PlayPart(const std::string& part, const Words& options);

// A part played by another process. Ends it when destroyed.
class Child {
 public:
  Child(const Scene& scene, const std::string& part, const std::string& options) {
    int in[2];
    int out[2];
    if (::pipe2(in, O_CLOEXEC) != 0 || ::pipe2(out, O_CLOEXEC) != 0) std::abort();
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    std::string words[] = {"load_bench", "--part", part,
                           "folder=" + scene.folder + " address=" + scene.address +
                               " tls=" + (scene.tls ? "1 " : "0 ") + options};
    char* arguments[] = {words[0].data(), words[1].data(), words[2].data(), words[3].data(),
                         nullptr};
    if (::posix_spawn(&pid_, "/proc/self/exe", &actions, nullptr, arguments, environ) != 0) {
      std::abort();
    }
    posix_spawn_file_actions_destroy(&actions);
    ::close(in[0]);
    ::close(out[1]);
    commands_ = ::fdopen(in[1], "w");
    answers_ = ::fdopen(out[0], "r");
  }
  ~Child() {
    if (commands_ != nullptr) std::fclose(commands_);
    int status = 0;
    ::waitpid(pid_, &status, 0);
    std::fclose(answers_);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // What it says next. Ends the benchmark when it has died.
  Words Hear() {
    std::string line;
    for (int c = std::fgetc(answers_); c != '\n'; c = std::fgetc(answers_)) {
      if (c == EOF) {
        std::fprintf(stderr, "load: a process ended before it had answered\n");
        std::exit(2);
      }
      line.push_back(static_cast<char>(c));
    }
    return ParseWords(line);
  }
  // At once, as a machine that loses power.
  void Kill() { ::kill(pid_, SIGKILL); }
  void Tell(const std::string& line) {
    std::fputs((line + "\n").c_str(), commands_);
    std::fflush(commands_);
  }
  Words Ask(const std::string& line) {
    Tell(line);
    return Hear();
  }

 private:
  pid_t pid_ = 0;
  FILE* commands_ = nullptr;
  FILE* answers_ = nullptr;
};

using Children = std::vector<std::unique_ptr<Child>>;

class Stage {
 public:
  explicit Stage(bool tls) {
    char name[] = "/tmp/chorus_load_XXXXXX";
    if (::mkdtemp(name) == nullptr) std::abort();
    scene_.folder = name;
    scene_.tls = tls;
    const int64_t now = NewSystemClock()->UnixSeconds();
    const auto authority = *crypto::MakeTlsAuthority("load", now - 60, now + 86'400);
    const auto server = *crypto::MakeTlsServer(authority, {"127.0.0.1"}, now - 60, now + 86'400);
    Write("authority.pem", authority.certificate_pem);
    Write("server.pem", server.certificate_pem);
    Write("server.key", server.key_pem);
  }
  ~Stage() { std::filesystem::remove_all(scene_.folder); }
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(scene_.folder + "/" + name) << text;
  }
  std::unique_ptr<Child> Server(const std::string& part, const std::string& options) {
    auto server = std::make_unique<Child>(scene_, part, options);
    scene_.address = "127.0.0.1:" + server->Hear()["port"];
    return server;
  }
  // Shares `count` clients among as many processes.
  Children Clients(size_t processes, size_t count, const std::string& options,
                   uint64_t first = 0) const {
    Children children;
    for (size_t i = 0; i < processes; ++i) {
      const size_t begin = count * i / processes;
      const size_t end = count * (i + 1) / processes;
      children.push_back(std::make_unique<Child>(scene_, "clients",
                                                 options +
                                                     " first=" + std::to_string(first + begin) +
                                                     " count=" + std::to_string(end - begin)));
    }
    return children;
  }
  const Scene& scene() const { return scene_; }

 private:
  Scene scene_;
};

}  // namespace chorus::bench
