// A job is published as one 64-bit ticket: generation, number of items, next item. Taking an item
// is a compare-and-swap of the whole ticket, so that a worker that wakes late can never take an
// item of a job it did not see.
#include "pool.h"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "tenfold_native.h"

namespace tenfold {
namespace {

constexpr int kSpins = 4000;  // about 20 microseconds: layers of one step follow each other faster
constexpr int32_t kMaxThreads = 256;
constexpr uint64_t kField = (1u << 20) - 1;

struct Scratch {
  char* data = nullptr;
  std::size_t size = 0;
};

struct Pool {
  std::mutex job;  // held for the length of a call
  std::atomic<uint64_t> ticket{0};
  std::atomic<int64_t> pending{0};
  std::atomic<Work> work{nullptr};
  std::atomic<void*> context{nullptr};
  std::atomic<int32_t> wanted{1};  // threads in use, the caller's included
  std::atomic<int32_t> asleep{0};
  std::mutex sleep;
  std::condition_variable wake;
  int32_t started = 0;  // workers that exist
  std::vector<Scratch> scratch{static_cast<std::size_t>(kMaxThreads)};
};

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

std::atomic<Pool*> current{nullptr};

// Threads do not survive fork(): the child starts with a pool of its own. The old one is left
// alone, since its locks may have been held by threads that no longer exist.
void after_fork() {
  Pool* old = current.load();
  if (old == nullptr) return;
  Pool* fresh = new Pool;
  fresh->wanted.store(old->wanted.load());
  current.store(fresh);
}

Pool& pool() {
  static const bool made = [] {
    current.store(new Pool);  // never destroyed: workers may outlive main()
    pthread_atfork(nullptr, nullptr, after_fork);
    return true;
  }();
  (void)made;
  return *current.load(std::memory_order_relaxed);
}

bool take(Pool& p, int32_t worker) {
  uint64_t seen = p.ticket.load(std::memory_order_acquire);
  for (;;) {
    const uint64_t next = seen & kField, items = (seen >> 20) & kField;
    if (next >= items) return false;
    const Work work = p.work.load(std::memory_order_relaxed);
    void* context = p.context.load(std::memory_order_relaxed);
    if (p.ticket.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) {
      work(context, static_cast<int32_t>(next), worker);
      p.pending.fetch_sub(1, std::memory_order_release);
      return true;
    }
  }
}

void serve(Pool* p, int32_t worker) {
  uint64_t done = 0;  // generation of the last job seen
  for (;;) {
    int spins = 0;
    while ((p->ticket.load(std::memory_order_acquire) >> 40) == done ||
           worker >= p->wanted.load(std::memory_order_relaxed)) {
      if (++spins < kSpins) {
        pause();
        continue;
      }
      std::unique_lock<std::mutex> lock(p->sleep);
      p->asleep.fetch_add(1);
      p->wake.wait(lock, [&] {
        return (p->ticket.load() >> 40) != done && worker < p->wanted.load();
      });
      p->asleep.fetch_sub(1);
    }
    done = p->ticket.load(std::memory_order_acquire) >> 40;
    while (take(*p, worker)) {
    }
  }
}

}  // namespace

JobLock::JobLock() { pool().job.lock(); }
JobLock::~JobLock() { pool().job.unlock(); }

char* scratch(int32_t worker, std::size_t bytes) {
  Scratch& s = pool().scratch[static_cast<std::size_t>(worker)];
  if (s.size < bytes) {
    std::free(s.data);
    const std::size_t rounded = (bytes + 4095) / 4096 * 4096;
    s.data = static_cast<char*>(std::aligned_alloc(64, rounded));
    if (s.data == nullptr) throw std::bad_alloc();
    s.size = rounded;
  }
  return s.data;
}

int32_t threads() { return pool().wanted.load(std::memory_order_relaxed); }

int32_t set_threads(int32_t count) {
  Pool& p = pool();
  std::lock_guard<std::mutex> job(p.job);
  count = count < 1 ? 1 : (count > kMaxThreads ? kMaxThreads : count);
  while (p.started < count - 1) {
    std::thread(serve, &p, p.started + 1).detach();
    ++p.started;
  }
  p.wanted.store(count);
  return count;
}

void run(Work work, void* context, int32_t items) {
  Pool& p = pool();
  const int32_t count = threads();
  if (count == 1 || items == 1) {
    for (int32_t i = 0; i < items; ++i) work(context, i, 0);
    return;
  }
  if (p.started < count - 1) {  // the child of a fork: its workers are not there yet
    while (p.started < count - 1) std::thread(serve, &p, ++p.started).detach();
  }
  p.work.store(work, std::memory_order_relaxed);
  p.context.store(context, std::memory_order_relaxed);
  p.pending.store(items, std::memory_order_relaxed);
  const uint64_t generation = (p.ticket.load(std::memory_order_relaxed) >> 40) + 1;
  p.ticket.store(generation << 40 | static_cast<uint64_t>(items) << 20);
  if (p.asleep.load() > 0) {
    { std::lock_guard<std::mutex> lock(p.sleep); }
    p.wake.notify_all();
  }
  while (take(p, 0)) {
  }
  for (int spins = 0; p.pending.load(std::memory_order_acquire) > 0; ++spins) {
    if (spins < kSpins) {
      pause();
    } else {
      sched_yield();  // the last worker has lost its processor to another program
    }
  }
}

}  // namespace tenfold

extern "C" int32_t tf_set_threads(int32_t count) { return tenfold::set_threads(count); }
