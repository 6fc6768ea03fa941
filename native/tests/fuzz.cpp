// Random small steps through every instruction set against a plain reference in double, meant to
// run under the sanitizers. Exits with 1 at the first difference.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "tenfold_native.h"

namespace {

float widen(uint16_t h) {
  const uint32_t bits = static_cast<uint32_t>(h) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

uint16_t narrow(float f) {
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Exactly as large as needed, so that one element too far is caught.
struct Tensor {
  bool half;
  std::vector<uint16_t> h;
  std::vector<float> f;
  Tensor(bool is_half, std::size_t n) : half(is_half) { half ? h.resize(n) : f.resize(n); }
  void set(std::size_t i, float x) { half ? void(h[i] = narrow(x)) : void(f[i] = x); }
  double get(std::size_t i) const { return half ? widen(h[i]) : f[i]; }
  void* data() { return half ? static_cast<void*>(h.data()) : f.data(); }
};

int fail(const char* what, unsigned seed) {
  std::fprintf(stderr, "seed %u: %s\n", seed, what);
  return 1;
}

int one(unsigned seed) {
  std::mt19937 rng(seed);
  const auto upto = [&](int low, int high) { return static_cast<int>(rng() % (high - low + 1)) + low; };
  std::normal_distribution<float> normal;
  tf_attention s{};
  const bool half = upto(0, 1) != 0;
  s.dtype = half ? TF_BFLOAT16 : TF_FLOAT32;
  s.rows = upto(0, 7);
  s.kv_heads = upto(1, 3);
  s.heads = s.kv_heads * upto(1, 4);
  s.head_dim = 16 * upto(1, 9);
  s.block_size = upto(1, 40);
  s.max_blocks = upto(1, 8);
  s.scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
  const int blocks = s.max_blocks * (s.rows + 1);
  s.slots = static_cast<int64_t>(blocks) * s.block_size;
  std::vector<int32_t> tables(static_cast<std::size_t>(s.rows) * s.max_blocks), lengths, starts;
  for (auto& b : tables) b = upto(0, blocks - 1);
  std::vector<tf_group> groups;
  for (int r = 0; r < s.rows;) {
    const int end = r + upto(1, s.rows - r), shared = upto(0, s.max_blocks);
    for (int i = r + 1; i < end; ++i)
      for (int b = 0; b < shared; ++b) tables[i * s.max_blocks + b] = tables[r * s.max_blocks + b];
    for (int i = r; i < end; ++i) {
      lengths.push_back(upto(shared * s.block_size, s.max_blocks * s.block_size));
      starts.push_back(upto(0, 2) ? 0 : upto(0, lengths.back()));
    }
    if (upto(0, 3)) groups.push_back({r, end, shared});
    r = end;
  }
  s.groups_count = static_cast<int32_t>(groups.size());
  s.block_tables = tables.data(), s.lengths = lengths.data(), s.starts = starts.data();
  s.groups = groups.data();

  const std::size_t d = s.head_dim, row = s.heads * d, slot = s.kv_heads * d;
  const std::size_t stride = row + upto(0, 5);
  Tensor q(half, s.rows ? (s.rows - 1) * stride + row : 0), k(half, s.slots * slot), v(half, s.slots * slot);
  for (Tensor* t : {&q, &k, &v})
    for (std::size_t i = 0; i < (half ? t->h.size() : t->f.size()); ++i) t->set(i, normal(rng));
  if (const int32_t code = tf_attention_check(&s)) return fail(tf_error(code), seed);

  for (int isa = 0; isa < 3; ++isa) {
    if (tf_set_isa(isa) < 0) continue;
    tf_set_threads(upto(1, 4));
    Tensor out(half, s.rows * row);
    tf_paged_attention(&s, q.data(), stride, k.data(), v.data(), out.data());
    for (int r = 0; r < s.rows; ++r)
      for (int h = 0; h < s.heads; ++h) {
        const std::size_t head = (h / (s.heads / s.kv_heads)) * d;
        std::vector<double> weight, want(d);
        double top = -INFINITY, total = 0;
        const auto at = [&](int p) {
          return (static_cast<std::size_t>(tables[r * s.max_blocks + p / s.block_size]) * s.block_size +
                  p % s.block_size) * slot + head;
        };
        for (int p = starts[r]; p < lengths[r]; ++p) {
          double dot = 0;
          for (std::size_t i = 0; i < d; ++i) dot += q.get(r * stride + h * d + i) * k.get(at(p) + i);
          weight.push_back(dot * s.scale);
          top = std::fmax(top, weight.back());
        }
        for (double& w : weight) total += w = std::exp(w - top);
        for (int p = starts[r]; p < lengths[r]; ++p)
          for (std::size_t i = 0; i < d; ++i) want[i] += weight[p - starts[r]] / total * v.get(at(p) + i);
        for (std::size_t i = 0; i < d; ++i) {
          const double got = out.get(r * row + h * d + i);
          const double bound = half ? 1e-2 + std::fabs(want[i]) / 128 : 1e-5;
          if (!(std::fabs(got - want[i]) <= bound)) return fail("differs from the reference", seed);
        }
      }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned count = argc > 1 ? static_cast<unsigned>(std::atoi(argv[1])) : 300;
  for (unsigned seed = 0; seed < count; ++seed)
    if (one(seed) != 0) return 1;
  std::printf("%u random steps agree with the reference\n", count);
  return 0;
}
