// Attention of one query token per row over paged keys and values, for one instruction set.
//
// Per tile of 64 positions: keys are transposed into scratch as float32 [head_dim][64], values are
// widened to float32 [64][head_dim]; then each query takes the tile in: 64 scores, a running
// maximum and sum (online softmax, Milakov & Gimelshein 1805.02867), its weighted values. Rows that
// share a tile take it in one after another, while it is in the first-level cache. Every row goes
// through the same operations in the same order whether it shares a tile or not, so its bits do not
// depend on its neighbours.
//
// No standard library here: see vec.h.
#include <stddef.h>
#include <stdint.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "attention.h"

namespace tenfold {
namespace TF_VARIANT {
namespace {

#include "vec.h"

constexpr int kLanes = 4;  // vectors accumulated side by side
constexpr float kMinusInfinity = -__builtin_inff();

struct Query {
  float* q;      // [head_dim], scaled
  float* o;      // [head_dim], weighted values so far
  float* state;  // running maximum, running sum
};

// scores[0..63] of `count` queries against the transposed tile.
template <int count>
void score(const float* keys, int d, const Query* queries, float (*scores)[kTile]) {
  for (int first = 0; first < kTile; first += kLanes * kWidth) {
    vf acc[count][kLanes] = {};
    for (int i = 0; i < d; ++i) {
      const float* k = keys + i * kTile + first;
      vf at[kLanes];
      for (int j = 0; j < kLanes; ++j) at[j] = load(k + j * kWidth);
      for (int c = 0; c < count; ++c) {
        const vf q = splat(queries[c].q[i]);
        for (int j = 0; j < kLanes; ++j) acc[c][j] = fma(q, at[j], acc[c][j]);
      }
    }
    for (int c = 0; c < count; ++c)
      for (int j = 0; j < kLanes; ++j) store(scores[c] + first + j * kWidth, acc[c][j]);
  }
}

// Turns the scores of positions [low, high) into weights and updates the running maximum and sum.
// Returns what the values gathered so far must be multiplied with.
float weigh(float* scores, int low, int high, float* state) {
  for (int i = 0; i < low; ++i) scores[i] = kMinusInfinity;
  for (int i = high; i < kTile; ++i) scores[i] = kMinusInfinity;
  vf top = load(scores);
  for (int i = kWidth; i < kTile; i += kWidth) top = max(load(scores + i), top);
  const float before = state[0], found = highest(top);
  const float now = found > before ? found : before;
  vf total = {};
  for (int i = 0; i < kTile; i += kWidth) {
    const vf w = exp_negative(load(scores + i) - splat(now));
    store(scores + i, w);
    total += w;
  }
  const float shrink = before == kMinusInfinity ? 0.0f : exp_negative(splat(before - now))[0];
  state[0] = now;
  state[1] = state[1] * shrink + sum(total);
  return shrink;
}

// o = o * shrink + weights . values, over `lanes` vectors of the head.
template <int count, int lanes>
void gather(const float* values, int d, int from, int low, int high, const float (*weights)[kTile],
            const float* shrink, const Query* queries) {
  vf acc[count][lanes];
  for (int c = 0; c < count; ++c)
    for (int j = 0; j < lanes; ++j)
      acc[c][j] = load(queries[c].o + from + j * kWidth) * splat(shrink[c]);
  for (int p = low; p < high; ++p) {
    const float* v = values + p * d + from;
    vf at[lanes];
    for (int j = 0; j < lanes; ++j) at[j] = load(v + j * kWidth);
    for (int c = 0; c < count; ++c) {
      const vf w = splat(weights[c][p]);
      for (int j = 0; j < lanes; ++j) acc[c][j] = fma(w, at[j], acc[c][j]);
    }
  }
  for (int c = 0; c < count; ++c)
    for (int j = 0; j < lanes; ++j) store(queries[c].o + from + j * kWidth, acc[c][j]);
}

// `count` queries that attend to the same positions [low, high) of a tile take it in.
template <int count>
void absorb(const float* keys, const float* values, int d, int low, int high,
            const Query* queries) {
  alignas(64) float scores[count][kTile];
  float shrink[count];
  score<count>(keys, d, queries, scores);
  for (int c = 0; c < count; ++c) shrink[c] = weigh(scores[c], low, high, queries[c].state);
  int from = 0;
  for (; from + kLanes * kWidth <= d; from += kLanes * kWidth)
    gather<count, kLanes>(values, d, from, low, high, scores, shrink, queries);
  for (; from < d; from += kWidth)
    gather<count, 1>(values, d, from, low, high, scores, shrink, queries);
}

struct Tile {
  const AttentionItem& item;
  float* keys;        // [head_dim][64]
  float* values;      // [64][head_dim]
  const char* zeros;  // a row to stand for positions outside the context

  // Loads positions [first + low, first + high) of `row`; the others count as zero.
  void fill(int row, int first, int low, int high) const {
    const tf_attention& s = *item.step;
    const bool half = s.dtype == TF_BFLOAT16;
    const int d = s.head_dim, bytes = half ? 2 : 4;
    const int64_t head = (int64_t)item.kv_head * d * bytes;
    const int64_t slot_bytes = (int64_t)s.kv_heads * d * bytes;
    const int32_t* table = s.block_tables + (int64_t)row * s.max_blocks;
    const uint32_t* k_rows[kTile];
    for (int p = 0; p < kTile; ++p) k_rows[p] = (const uint32_t*)zeros;
    int block = (first + low) / s.block_size, offset = (first + low) % s.block_size;
    for (int p = low; p < high; ++p) {
      const int64_t slot = (int64_t)table[block] * s.block_size + offset;
      if (++offset == s.block_size) offset = 0, ++block;
      const char* k_row = (const char*)item.k_pool + slot * slot_bytes + head;
      for (int b = 0; b < d * bytes; b += 64) __builtin_prefetch(k_row + b);  // transposed below
      k_rows[p] = (const uint32_t*)k_row;
      widen((const char*)item.v_pool + slot * slot_bytes + head, values + p * d, d, half);
    }
    for (int p = 0; p < kTile; p += kWidth) transpose_rows(k_rows + p, keys + p, d, half);
  }

  static void widen(const char* from, float* to, int d, bool half) {
    if (half)
      for (int i = 0; i < d; i += kWidth) store(to + i, load_bf16((const uint16_t*)from + i));
    else
      for (int i = 0; i < d; i += kWidth) store(to + i, load((const float*)from + i));
  }

  // kWidth positions; a 32-bit word holds one float32, or two bfloat16 with the even one below.
  static void transpose_rows(const uint32_t* const* rows, float* to, int d, bool half) {
    const int words = half ? d / 2 : d;
    int w = 0;
    for (; w + kWidth <= words; w += kWidth) {
      vu out[kWidth];
      transpose(rows, w, out);
      for (int i = 0; i < kWidth; ++i) {
        if (half) {
          store(to + 2 * (w + i) * kTile, as_float(out[i] << 16));
          store(to + (2 * (w + i) + 1) * kTile, as_float(out[i] & 0xffff0000u));
        } else {
          store(to + (w + i) * kTile, as_float(out[i]));
        }
      }
    }
    for (; w < words; ++w)
      for (int j = 0; j < kWidth; ++j) {
        if (half) {
          to[2 * w * kTile + j] = bf16_to_float((uint16_t)(rows[j][w] & 0xffff));
          to[(2 * w + 1) * kTile + j] = bf16_to_float((uint16_t)(rows[j][w] >> 16));
        } else {
          to[w * kTile + j] = ((const float*)rows[j])[w];
        }
      }
  }
};

void take_in(const Tile& tile, int d, int low, int high, const Query* queries, int count) {
  for (; count >= 2; count -= 2, queries += 2)
    absorb<2>(tile.keys, tile.values, d, low, high, queries);
  if (count > 0) absorb<1>(tile.keys, tile.values, d, low, high, queries);
}

int clamp(int x, int low, int high) { return x < low ? low : (x > high ? high : x); }

void begin(const AttentionItem& item, Query* queries, int per_row) {
  const tf_attention& s = *item.step;
  const int d = s.head_dim;
  for (int r = item.begin; r < item.end; ++r)
    for (int h = 0; h < per_row; ++h) {
      Query& query = queries[(r - item.begin) * per_row + h];
      const int64_t at = r * item.q_stride + ((int64_t)item.kv_head * per_row + h) * d;
      for (int i = 0; i < d; ++i) {
        const float q = s.dtype == TF_BFLOAT16 ? bf16_to_float(((const uint16_t*)item.q)[at + i])
                                               : ((const float*)item.q)[at + i];
        query.q[i] = q * s.scale;
        query.o[i] = 0.0f;
      }
      query.state[0] = kMinusInfinity;
      query.state[1] = 0.0f;
    }
}

void finish(const AttentionItem& item, const Query* queries, int per_row) {
  const tf_attention& s = *item.step;
  const int d = s.head_dim;
  for (int r = item.begin; r < item.end; ++r)
    for (int h = 0; h < per_row; ++h) {
      const Query& query = queries[(r - item.begin) * per_row + h];
      const int64_t at = ((int64_t)r * s.heads + (int64_t)item.kv_head * per_row + h) * d;
      // A row without context (nothing to attend to) gives zeros.
      const float total = query.state[1];
      const bool empty = s.lengths[r] <= s.starts[r];
      for (int i = 0; i < d; ++i) {
        const float o = empty ? 0.0f : query.o[i] / total;
        if (s.dtype == TF_BFLOAT16)
          ((uint16_t*)item.out)[at + i] = float_to_bf16(o);
        else
          ((float*)item.out)[at + i] = o;
      }
    }
}

}  // namespace

void attend(const AttentionItem& item, char* memory) {
  const tf_attention& s = *item.step;
  const int d = s.head_dim, per_row = s.heads / s.kv_heads;
  const int rows = item.end - item.begin, count = rows * per_row;
  float* at = (float*)memory;
  const auto reserve = [&](size_t floats) { return (at += floats) - floats; };
  float* keys = reserve((size_t)kTile * d);
  float* values = reserve((size_t)kTile * d);
  float* zeros = reserve((size_t)d);
  __builtin_memset(zeros, 0, sizeof(float) * d);
  float* q = reserve((size_t)count * d);
  float* o = reserve((size_t)count * d);
  float* state = reserve((size_t)count * 2);
  Query* queries = (Query*)reserve((size_t)count * ((sizeof(Query) + 3) / 4));
  for (int i = 0; i < count; ++i)
    queries[i] = {q + (size_t)i * d, o + (size_t)i * d, state + (size_t)i * 2};
  begin(item, queries, per_row);

  const Tile tile{item, keys, values, (const char*)zeros};
  for (int t = 0; t < item.shared_tiles; ++t) {
    const int first = t * kTile;
    int lowest = kTile;  // the earliest position any row of the run still sees
    for (int r = item.begin; r < item.end; ++r) {
      const int low = clamp(s.starts[r] - first, 0, kTile);
      lowest = low < lowest ? low : lowest;
    }
    if (lowest == kTile) continue;
    tile.fill(item.begin, first, lowest, kTile);
    for (int i = 0; i < rows;) {  // neighbours that see the same positions go together
      const int low = clamp(s.starts[item.begin + i] - first, 0, kTile);
      int j = i + 1;
      while (j < rows && clamp(s.starts[item.begin + j] - first, 0, kTile) == low) ++j;
      if (low < kTile) take_in(tile, d, low, kTile, queries + i * per_row, (j - i) * per_row);
      i = j;
    }
  }
  for (int r = item.begin; r < item.end; ++r) {
    const int length = s.lengths[r];
    int first = item.shared_tiles * kTile;
    if (s.starts[r] > first) first = s.starts[r] / kTile * kTile;
    for (; first < length; first += kTile) {
      const int low = clamp(s.starts[r] - first, 0, kTile);
      const int high = clamp(length - first, 0, kTile);
      if (low >= high) continue;
      tile.fill(r, first, low, high);
      take_in(tile, d, low, high, queries + (r - item.begin) * per_row, per_row);
    }
  }
  finish(item, queries, per_row);
}

}  // namespace TF_VARIANT
}  // namespace tenfold
