// Paged attention: checks a step once, cuts it into items, hands them to the pool.
#include "attention.h"

#include <vector>

#include "cpu.h"
#include "pool.h"

namespace tenfold {
namespace {

enum Error : int32_t {
  kOk = 0,
  kShape = -1,
  kHeads = -2,
  kTable = -3,
  kLength = -4,
  kGroup = -5,
  kShared = -6,
  kDtype = -7,
  kSize = -8,
};

constexpr int32_t kRowsPerItem = 16;

Error check(const tf_attention& s) {
  if (s.dtype != TF_FLOAT32 && s.dtype != TF_BFLOAT16) return kDtype;
  if (s.rows < 0 || s.block_size < 1 || s.max_blocks < 0 || s.slots < 0) return kShape;
  if (s.head_dim < 16 || s.head_dim > 256 || s.head_dim % 16 != 0) return kShape;
  if (s.kv_heads < 1 || s.heads < 1 || s.heads % s.kv_heads != 0) return kHeads;
  if (static_cast<int64_t>(s.rows) * s.kv_heads > kMaxItems) return kSize;
  for (int32_t r = 0; r < s.rows; ++r) {
    const int64_t length = s.lengths[r];
    if (length < 0 || length > static_cast<int64_t>(s.max_blocks) * s.block_size) return kLength;
    if (s.starts[r] < 0) return kLength;
    const int32_t* table = s.block_tables + static_cast<int64_t>(r) * s.max_blocks;
    // Blocks below a sliding window may be gone: only those attended to must be in the pool.
    for (int64_t b = s.starts[r] / s.block_size; b * s.block_size < length; ++b)
      if (table[b] < 0 || (static_cast<int64_t>(table[b]) + 1) * s.block_size > s.slots)
        return kTable;
  }
  int32_t end = 0;
  for (int32_t g = 0; g < s.groups_count; ++g) {
    const tf_group& group = s.groups[g];
    if (group.begin < end || group.end < group.begin || group.end > s.rows) return kGroup;
    if (group.shared_blocks < 0 || group.shared_blocks > s.max_blocks) return kGroup;
    end = group.end;
    const int32_t* first = s.block_tables + static_cast<int64_t>(group.begin) * s.max_blocks;
    for (int32_t r = group.begin; r < group.end; ++r) {
      if (static_cast<int64_t>(group.shared_blocks) * s.block_size > s.lengths[r]) return kShared;
      const int32_t* table = s.block_tables + static_cast<int64_t>(r) * s.max_blocks;
      for (int32_t b = 0; b < group.shared_blocks; ++b)
        if (table[b] != first[b]) return kShared;
    }
  }
  return kOk;
}

struct Run {
  int32_t begin, end, shared_tiles;
};

// Rows cut into runs that share tiles. A long run is split when there are few items, which costs
// loading its shared tiles again but feeds all threads.
void cut(const tf_attention& s, std::vector<Run>& runs) {
  runs.clear();
  int32_t row = 0;
  const auto alone = [&](int32_t until) {
    for (; row < until; ++row) runs.push_back({row, row + 1, 0});
  };
  for (int32_t g = 0; g < s.groups_count; ++g) {
    const tf_group& group = s.groups[g];
    const int32_t tiles =
        static_cast<int32_t>(static_cast<int64_t>(group.shared_blocks) * s.block_size / kTile);
    alone(tiles > 0 ? group.begin : group.end);
    for (; row < group.end; row += kRowsPerItem) {
      const int32_t stop = row + kRowsPerItem < group.end ? row + kRowsPerItem : group.end;
      runs.push_back({row, stop, tiles});
    }
    row = group.end;
  }
  alone(s.rows);
}

struct Job {
  AttentionItem base;
  const std::vector<Run>* runs;
  void (*attend)(const AttentionItem&, char*);
};

void attend_item(void* context, int32_t index, int32_t worker) {
  const Job& job = *static_cast<const Job*>(context);
  AttentionItem item = job.base;
  const tf_attention& s = *item.step;
  const Run& run = (*job.runs)[static_cast<std::size_t>(index / s.kv_heads)];
  item.begin = run.begin;
  item.end = run.end;
  item.shared_tiles = run.shared_tiles;
  item.kv_head = index % s.kv_heads;
  const int32_t queries = (run.end - run.begin) * (s.heads / s.kv_heads);
  job.attend(item, scratch(worker, attention_scratch(queries, s.head_dim)));
}

}  // namespace
}  // namespace tenfold

extern "C" {

int32_t tf_attention_check(const tf_attention* step) { return tenfold::check(*step); }

const char* tf_error(int32_t code) {
  switch (code) {
    case tenfold::kOk:
      return "no error";
    case tenfold::kShape:
      return "head_dim must be a multiple of 16 up to 256, and no size negative";
    case tenfold::kHeads:
      return "heads must be a multiple of kv_heads";
    case tenfold::kTable:
      return "a block table names a block outside the pool";
    case tenfold::kLength:
      return "a context length or start does not fit its block table";
    case tenfold::kGroup:
      return "groups must be ascending, inside the batch and without overlap";
    case tenfold::kShared:
      return "rows of a group do not begin with the same whole blocks";
    case tenfold::kDtype:
      return "dtype must be float32 or bfloat16";
    case tenfold::kSize:
      return "rows times kv_heads is too large for one call";
    default:
      return "unknown error";
  }
}

void tf_paged_attention(const tf_attention* step, const void* q, int64_t q_stride,
                        const void* k_pool, const void* v_pool, void* out) {
  using namespace tenfold;
  if (step->rows == 0) return;
  const JobLock lock;
  static std::vector<Run> runs;  // guarded by the lock
  cut(*step, runs);
  Job job{{step, q, q_stride, k_pool, v_pool, out, 0, 0, 0, 0}, &runs, baseline::attend};
#if defined(TF_X86)
  if (isa() == kAvx2) job.attend = avx2::attend;
  if (isa() == kAvx512) job.attend = avx512::attend;
#endif
  run(attend_item, &job, static_cast<int32_t>(runs.size()) * step->kv_heads);
}

}  // extern "C"
