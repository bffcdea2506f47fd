#include "base/parallel.h"

namespace chorus {

ThreadPool::ThreadPool(size_t threads) {
  for (size_t i = 1; i < threads; ++i) threads_.emplace_back([this] { Serve(); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  called_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::ParallelFor(size_t count, const std::function<void(size_t)>& work) {
  {
    const std::lock_guard lock(mutex_);
    next_.store(0, std::memory_order_relaxed);
    work_ = &work;
    count_ = count;
    ++calls_;
  }
  called_.notify_all();
  TakePieces(count, work);
  std::unique_lock lock(mutex_);
  // Whoever has not come by now finds nothing to do, and is not waited for.
  work_ = nullptr;
  left_.wait(lock, [this] { return inside_ == 0; });
}

void ThreadPool::Serve() {
  std::unique_lock lock(mutex_);
  size_t served = 0;
  while (true) {
    called_.wait(lock, [&] { return ending_ || (work_ != nullptr && calls_ != served); });
    if (ending_) return;
    served = calls_;
    ++inside_;
    const size_t count = count_;
    const std::function<void(size_t)>& work = *work_;
    lock.unlock();
    TakePieces(count, work);
    lock.lock();
    if (--inside_ == 0) left_.notify_one();
  }
}

void ThreadPool::TakePieces(size_t count, const std::function<void(size_t)>& work) {
  for (size_t i = next_.fetch_add(1, std::memory_order_relaxed); i < count;
       i = next_.fetch_add(1, std::memory_order_relaxed)) {
    work(i);
  }
}

}  // namespace chorus
