// Paged attention compiled for one instruction set; see attention_kernel.h.
#define TF_VARIANT avx2
#include "attention_kernel.h"
