// What the dispatcher hands to the variant compiled for one instruction set.
#pragma once
#include <cstddef>
#include <cstdint>

#include "tenfold_native.h"

namespace tenfold {

// Positions are processed in tiles of 64, counted from position 0, and merged in order: this fixes
// the rounding of a row, whoever else is in the batch.
constexpr int32_t kTile = 64;

// One piece of work: rows [begin, end) of one KV head; the first `shared_tiles` tiles of their
// context are the same memory and loaded once.
struct AttentionItem {
  const tf_attention* step;
  const void* q;
  int64_t q_stride;
  const void* k_pool;
  const void* v_pool;
  void* out;
  int32_t begin, end, shared_tiles, kv_head;
};

// Bytes of scratch an item needs, 64-byte aligned.
inline std::size_t attention_scratch(int32_t queries, int32_t head_dim) {
  const std::size_t d = static_cast<std::size_t>(head_dim), n = static_cast<std::size_t>(queries);
  return sizeof(float) * (2 * kTile * d + 2 * n * d + 2 * n * 16 + 2 * kTile + d);
}

namespace baseline {
void attend(const AttentionItem& item, char* scratch);
}
namespace avx2 {
void attend(const AttentionItem& item, char* scratch);
}
namespace avx512 {
void attend(const AttentionItem& item, char* scratch);
}

}  // namespace tenfold
