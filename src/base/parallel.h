// Pieces of pure work that do not depend on each other, on one thread or on several. Who computes
// takes an Executor and holds no thread; who owns threads hands one in.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace chorus {

class Executor {
 public:
  virtual ~Executor() = default;
  // Calls work(0) to work(count - 1), each once, in any order and perhaps at the same time; returns
  // when all have returned. Not to be called from inside `work`.
  virtual void ParallelFor(size_t count, const std::function<void(size_t)>& work) = 0;
};

// On the calling thread, in order. Thread-safe.
class InlineExecutor final : public Executor {
 public:
  void ParallelFor(size_t count, const std::function<void(size_t)>& work) override {
    for (size_t i = 0; i < count; ++i) work(i);
  }
};

// On the calling thread and `threads` - 1 of its own, which sleep between calls. Pieces are handed
// out one by one, so that a slow thread delays nobody by more than its piece. Thread-compatible:
// one call at a time.
class ThreadPool final : public Executor {
 public:
  explicit ThreadPool(size_t threads);
  ~ThreadPool() override;
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  void ParallelFor(size_t count, const std::function<void(size_t)>& work) override;

 private:
  void Serve();
  void TakePieces(size_t count, const std::function<void(size_t)>& work);

  std::atomic<size_t> next_{0};  // piece to be taken
  std::mutex mutex_;             // guards what follows, but for the threads
  std::condition_variable called_;
  std::condition_variable left_;
  const std::function<void(size_t)>* work_ = nullptr;  // null between calls
  size_t count_ = 0;
  size_t calls_ = 0;   // so far
  size_t inside_ = 0;  // threads of ours in the call under way
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace chorus
