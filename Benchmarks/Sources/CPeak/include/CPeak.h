// The machine's floating-point peak, from loops that touch registers only. On the calling thread, over about `seconds`,
// at the widest vector level; a multiply-add is two operations.
#pragma once

// GFLOP/s of multiply-adds in float32.
double peak_fp32(double seconds);

// GFLOP/s of products of bfloat16 pairs summed in float32; 0 when this CPU has no instruction for them.
double peak_bf16(double seconds);
