// Processor features by cpuid (x86) or the kernel's hardware capabilities (aarch64).
#include "cpu.h"

#include <atomic>

#include "tenfold_native.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace tenfold {
namespace {

#if defined(__x86_64__)
struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers r;
  __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);
  return r;
}

uint64_t enabled_state() {
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

uint32_t detect() {
  const auto bit = [](unsigned word, int n) { return ((word >> n) & 1u) != 0; };
  const Registers one = cpuid(1, 0);
  if (!bit(one.c, 27)) return 0;  // no OSXSAVE: wide registers are not saved on a task switch
  const uint64_t state = enabled_state();
  const bool ymm = (state & 0x6) == 0x6;
  const bool zmm = (state & 0xe6) == 0xe6;
  const bool tiles = (state & 0x60000) == 0x60000;
  const Registers seven = cpuid(7, 0), seven_one = cpuid(7, 1);
  uint32_t found = 0;
  const auto add = [&](bool present, uint32_t flag) { found |= present ? flag : 0u; };
  add(ymm && bit(seven.b, 5), TF_AVX2);
  add(ymm && bit(one.c, 12), TF_FMA);
  add(ymm && bit(seven_one.a, 4), TF_AVX_VNNI);
  add(zmm && bit(seven.b, 16), TF_AVX512F);
  add(zmm && bit(seven.b, 30), TF_AVX512BW);
  add(zmm && bit(seven.b, 31), TF_AVX512VL);
  add(zmm && bit(seven.c, 11), TF_AVX512_VNNI);
  add(zmm && bit(seven_one.a, 5), TF_AVX512_BF16);
  add(tiles && bit(seven.d, 24), TF_AMX_TILE);
  add(tiles && bit(seven.d, 25), TF_AMX_INT8);
  add(tiles && bit(seven.d, 22), TF_AMX_BF16);
  return found;
}
#elif defined(__aarch64__) && defined(__linux__)
uint32_t detect() {
  constexpr unsigned long kDotProd = 1ul << 20, kI8mm = 1ul << 13;
  uint32_t found = TF_NEON;
  if (getauxval(AT_HWCAP) & kDotProd) found |= TF_DOTPROD;
  if (getauxval(AT_HWCAP2) & kI8mm) found |= TF_I8MM;
  return found;
}
#else
uint32_t detect() { return 0; }
#endif

bool has(uint32_t flags) { return (cpu_features() & flags) == flags; }

bool available(int32_t level) {
#if defined(TF_X86)
  if (level == kAvx512) return has(TF_AVX2 | TF_FMA | TF_AVX512F | TF_AVX512BW | TF_AVX512VL);
  if (level == kAvx2) return has(TF_AVX2 | TF_FMA);
#endif
  return level == kBaseline;
}

Isa best() {
  if (available(kAvx512)) return kAvx512;
  return available(kAvx2) ? kAvx2 : kBaseline;
}

std::atomic<int32_t>& chosen() {
  static std::atomic<int32_t> level{best()};
  return level;
}

}  // namespace

uint32_t cpu_features() {
  static const uint32_t found = detect();
  return found;
}

Isa isa() { return static_cast<Isa>(chosen().load(std::memory_order_relaxed)); }

}  // namespace tenfold

extern "C" {

int32_t tf_abi(void) { return TF_ABI; }

uint32_t tf_cpu_features(void) { return tenfold::cpu_features(); }

int32_t tf_isa(void) { return tenfold::isa(); }

int32_t tf_set_isa(int32_t level) {
  if (level < 0) level = tenfold::best();
  if (!tenfold::available(level)) return -1;
  tenfold::chosen().store(level);
  return level;
}

}  // extern "C"
