// Which instruction sets may be used here.
#pragma once
#include <cstdint>

namespace tenfold {

enum Isa : int32_t { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

uint32_t cpu_features();
Isa isa();  // the variant in force: the best one unless tf_set_isa chose another

}  // namespace tenfold
