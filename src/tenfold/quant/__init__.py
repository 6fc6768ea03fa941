"""quant: numbers of few bits, FMPQ calibration, permutations, quantized checkpoints.

After COMET, 2410.12168: weights int4 per group, activations int4 where a block of channels holds no
outlier and int8 where it does, keys and values int4. Everything here is the arithmetic in torch;
kernels that run it fast are compared with it. The room knows models and their tensors, no
sequences and no scheduler.
"""
