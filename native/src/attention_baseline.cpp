// Paged attention compiled for one instruction set; see attention_kernel.h.
#define TF_VARIANT baseline
#include "attention_kernel.h"
