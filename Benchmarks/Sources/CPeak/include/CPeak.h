// The machine's floating-point peak, from a loop that touches registers only.
#pragma once

// GFLOP/s of fused multiply-adds in float32 on the calling thread, over about `seconds`, at the widest vector level.
double peak_fp32(double seconds);
