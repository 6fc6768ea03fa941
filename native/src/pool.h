// A small persistent thread pool: workers spin briefly for the next job, then sleep.
#pragma once
#include <cstddef>
#include <cstdint>

namespace tenfold {

// Runs one item of a job; `worker` is below threads() and never used by two items at once.
using Work = void (*)(void* context, int32_t item, int32_t worker);

// Runs items 0..items-1 in any order on all threads and returns when they are done. The caller
// must hold job_lock(), which makes calls from several Python threads take turns.
void run(Work work, void* context, int32_t items);

int32_t threads();
int32_t set_threads(int32_t count);

constexpr int32_t kMaxItems = (1 << 20) - 1;

class JobLock {
 public:
  JobLock();
  ~JobLock();
  JobLock(const JobLock&) = delete;
  JobLock& operator=(const JobLock&) = delete;
};

// At least `bytes` of scratch for each worker, kept from call to call; hold a JobLock.
char* scratch(int32_t worker, std::size_t bytes);

}  // namespace tenfold
