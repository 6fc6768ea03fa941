"""What all tests share: one torch thread, since tests are many and small."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
