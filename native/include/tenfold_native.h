// The C interface of tenfold's native kernels. Plain types only: Python calls it through ctypes.
#ifndef TENFOLD_NATIVE_H
#define TENFOLD_NATIVE_H

#include <stdint.h>

#if defined(__GNUC__)
#define TF_API __attribute__((visibility("default")))
#else
#define TF_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

// Grows whenever a signature or a structure below changes; the Python side refuses any other.
#define TF_ABI 1
TF_API int32_t tf_abi(void);

// Bits of tf_cpu_features: what the processor has and the operating system lets us use.
enum {
  TF_AVX2 = 1 << 0,
  TF_FMA = 1 << 1,
  TF_AVX512F = 1 << 2,
  TF_AVX512BW = 1 << 3,
  TF_AVX512VL = 1 << 4,
  TF_AVX512_VNNI = 1 << 5,
  TF_AVX512_BF16 = 1 << 6,
  TF_AVX_VNNI = 1 << 7,
  TF_AMX_TILE = 1 << 8,
  TF_AMX_INT8 = 1 << 9,
  TF_AMX_BF16 = 1 << 10,
  TF_NEON = 1 << 16,
  TF_DOTPROD = 1 << 17,
  TF_I8MM = 1 << 18,
};
TF_API uint32_t tf_cpu_features(void);

// Which compiled variant runs: 0 baseline, 1 AVX2+FMA, 2 AVX-512. tf_set_isa(-1) returns to the
// best one; an unavailable one is refused with -1. Both return the level in force.
TF_API int32_t tf_isa(void);
TF_API int32_t tf_set_isa(int32_t level);

// Threads used by a call, the caller's included. Returns the number in force.
TF_API int32_t tf_set_threads(int32_t threads);

enum { TF_FLOAT32 = 0, TF_BFLOAT16 = 1 };

// Rows [begin, end) begin with the same `shared_blocks` physical blocks, which are then read once.
typedef struct {
  int32_t begin, end, shared_blocks;
} tf_group;

// What stays the same for every layer of a step. Pools are [slots, kv_heads, head_dim], contiguous;
// the slot of position p of row r is block_tables[r][p / block_size] * block_size + p % block_size.
typedef struct {
  int32_t dtype;  // of q, both pools and out
  int32_t rows, heads, kv_heads, head_dim;
  int32_t block_size, max_blocks, groups_count;
  int64_t slots;
  float scale;
  const int32_t* block_tables;  // [rows, max_blocks]
  const int32_t* lengths;       // [rows] row r attends to positions starts[r] <= p < lengths[r]
  const int32_t* starts;        // [rows]
  const tf_group* groups;       // ascending, without overlap; rows in none stand alone
} tf_attention;

// 0 when the step can run, else a negative code that tf_error explains. Call once per step: the
// calls for its layers check nothing.
TF_API int32_t tf_attention_check(const tf_attention* step);
TF_API const char* tf_error(int32_t code);

// Attention of one query token per row. q: [rows, heads, head_dim], rows q_stride elements apart;
// out: the same shape, contiguous. A row's result has the same bits whatever the other rows, the
// groups and the number of threads.
TF_API void tf_paged_attention(const tf_attention* step, const void* q, int64_t q_stride,
                               const void* k_pool, const void* v_pool, void* out);

// Copies rows of new keys and values to their slots; a negative slot is skipped. Strides and
// `row_bytes` in bytes. Returns -1, having written nothing, when a slot lies outside the pool.
TF_API int32_t tf_kv_write(const void* k, int64_t k_stride, const void* v, int64_t v_stride,
                           void* k_pool, void* v_pool, const int64_t* slot_mapping, int64_t rows,
                           int64_t row_bytes, int64_t slots);

#ifdef __cplusplus
}
#endif
#endif
