// Writes new keys and values into the paged pool.
#include <cstring>

#include "tenfold_native.h"

extern "C" int32_t tf_kv_write(const void* k, int64_t k_stride, const void* v, int64_t v_stride,
                               void* k_pool, void* v_pool, const int64_t* slot_mapping,
                               int64_t rows, int64_t row_bytes, int64_t slots) {
  for (int64_t i = 0; i < rows; ++i)
    if (slot_mapping[i] >= slots) return -1;
  const auto* from_k = static_cast<const char*>(k);
  const auto* from_v = static_cast<const char*>(v);
  auto* to_k = static_cast<char*>(k_pool);
  auto* to_v = static_cast<char*>(v_pool);
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t slot = slot_mapping[i];
    if (slot < 0) continue;
    std::memcpy(to_k + slot * row_bytes, from_k + i * k_stride, row_bytes);
    std::memcpy(to_v + slot * row_bytes, from_v + i * v_stride, row_bytes);
  }
  return 0;
}
