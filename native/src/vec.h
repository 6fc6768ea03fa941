// One vector of floats as wide as the instruction set this file is compiled for.
//
// Included inside a namespace named after the variant, and using nothing of the standard library:
// an inline function shared between variants could be emitted with instructions that another
// machine lacks.

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
constexpr int kWidth = 16;
#elif defined(__AVX2__) && defined(__FMA__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

typedef float vf __attribute__((vector_size(4 * kWidth)));
typedef int32_t vi __attribute__((vector_size(4 * kWidth)));
typedef uint32_t vu __attribute__((vector_size(4 * kWidth)));
typedef uint16_t vh __attribute__((vector_size(2 * kWidth)));

static inline vf load(const float* p) {
  vf v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
static inline void store(float* p, vf v) { __builtin_memcpy(p, &v, sizeof v); }
static inline vu load_bits(const void* p) {
  vu v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
static inline vf splat(float x) { return x - vf{}; }
static inline vf as_float(vu v) { return (vf)v; }

static inline vf fma(vf a, vf b, vf c) {
#if defined(__AVX512F__)
  return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;  // contraction is off: two roundings, always
#endif
}

static inline vf max(vf a, vf b) { return a > b ? a : b; }

// Across a vector, by halves: a fixed order.
#if defined(__AVX512F__)
static inline float sum(vf v) { return _mm512_reduce_add_ps((__m512)v); }
static inline float highest(vf v) { return _mm512_reduce_max_ps((__m512)v); }
#else
static inline float sum(vf v) {
  for (int n = kWidth / 2; n > 0; n /= 2)
    for (int i = 0; i < n; ++i) v[i] += v[i + n];
  return v[0];
}
static inline float highest(vf v) {
  for (int n = kWidth / 2; n > 0; n /= 2)
    for (int i = 0; i < n; ++i) v[i] = v[i] > v[i + n] ? v[i] : v[i + n];
  return v[0];
}
#endif

// bfloat16 is the upper half of a float32.
static inline vf load_bf16(const uint16_t* p) {
  vh h;
  __builtin_memcpy(&h, p, sizeof h);
  return as_float(__builtin_convertvector(h, vu) << 16);
}
static inline float bf16_to_float(uint16_t h) {
  const uint32_t bits = (uint32_t)h << 16;
  float f;
  __builtin_memcpy(&f, &bits, 4);
  return f;
}
static inline uint16_t float_to_bf16(float f) {  // to nearest, ties to even; NaN stays NaN
  uint32_t bits;
  __builtin_memcpy(&bits, &f, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40);
  return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

// exp(x) for x <= 0, about 1 ulp; exactly 0 below -87.3; NaN stays NaN. Range reduction by powers of two and the
// polynomial of Cephes' expf.
static inline vf exp_negative(vf x) {
  const vf lowest = splat(-87.3f);
  const vi keep = x >= lowest;
  const vf clamped = max(x, lowest);
  const vf shifter = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const vf t = fma(clamped, splat(1.44269504f), shifter);
  const vf n = t - shifter;
  vf r = fma(n, splat(-0.693359375f), clamped);
  r = fma(n, splat(2.12194440e-4f), r);
  vf p = splat(1.9875691500e-4f);
  p = fma(p, r, splat(1.3981999507e-3f));
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  p = fma(p, r * r, r + splat(1.0f));
  const vi exponent = ((vi)t - (vi)shifter) << 23;
  const vf y = (vf)(((vi)p + exponent) & keep);
  return x == x ? y : x;
}

// Transposes kWidth rows of kWidth 32-bit words: out[i][j] = rows[j][i].
static inline void transpose(const uint32_t* const* rows, int column, vu* out) {
#if defined(__AVX512F__)
  __m512i a[16], b[16];
  for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_si512(rows[i] + column);
  for (int i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
    a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
    a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
    a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {  // 128-bit lanes: the rows of columns i, i+4, i+8, i+12
    const __m512i p = _mm512_shuffle_i32x4(a[i], a[i + 4], 0x88);
    const __m512i q = _mm512_shuffle_i32x4(a[i], a[i + 4], 0xdd);
    const __m512i r = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0x88);
    const __m512i s = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0xdd);
    out[i] = (vu)_mm512_shuffle_i32x4(p, r, 0x88);
    out[i + 8] = (vu)_mm512_shuffle_i32x4(p, r, 0xdd);
    out[i + 4] = (vu)_mm512_shuffle_i32x4(q, s, 0x88);
    out[i + 12] = (vu)_mm512_shuffle_i32x4(q, s, 0xdd);
  }
#elif defined(__AVX2__)
  __m256i a[8], b[8];
  for (int i = 0; i < 8; ++i) a[i] = _mm256_loadu_si256((const __m256i*)(rows[i] + column));
  for (int i = 0; i < 8; i += 2) {
    b[i] = _mm256_unpacklo_epi32(a[i], a[i + 1]);
    b[i + 1] = _mm256_unpackhi_epi32(a[i], a[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    a[i] = _mm256_unpacklo_epi64(b[i], b[i + 2]);
    a[i + 1] = _mm256_unpackhi_epi64(b[i], b[i + 2]);
    a[i + 2] = _mm256_unpacklo_epi64(b[i + 1], b[i + 3]);
    a[i + 3] = _mm256_unpackhi_epi64(b[i + 1], b[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    out[i] = (vu)_mm256_permute2x128_si256(a[i], a[i + 4], 0x20);
    out[i + 4] = (vu)_mm256_permute2x128_si256(a[i], a[i + 4], 0x31);
  }
#else
  for (int i = 0; i < kWidth; ++i)
    for (int j = 0; j < kWidth; ++j) out[i][j] = rows[j][column + i];
#endif
}
