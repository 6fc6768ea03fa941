// Paged attention compiled for one instruction set; see attention_kernel.h.
#define TF_VARIANT avx512
#include "attention_kernel.h"
