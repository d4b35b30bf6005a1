// CDiTKernels: vector loops behind one dispatch table, and the worker pool.
//
// Conventions. Matrices are row-major float32; `ld…` is the distance between rows in elements. Outputs come first, then
// what is saved for the backward pass, then inputs, then sizes. Names ending in `_backward` add to gradients they are
// told to add to and say so; every other output is overwritten. No function allocates.
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

// ---------------------------------------------------------------------------------------------------------- kernels

typedef struct DiTKernelTable {
  const char *name;  // "avx512", "avx2" or "portable"

  // y[r][c] += bias[c]
  void (*add_bias)(float *y, long ldy, const float *bias, long rows, long cols);
  // y[r][c] += bias[c] + table[r][c]
  void (*add_bias_rows)(float *y, long ldy, const float *bias, const float *table, long ldt, long rows, long cols);
  // pre[r][c] += bias[c]; out[r][c] = gelu_tanh(pre[r][c]); pre may be out
  void (*bias_gelu)(float *out, long ldo, float *pre, long ldp, const float *bias, long rows, long cols);
  // y[r][c] += bias[c]; out[r][c] = x[r][c] + gate[c] * y[r][c]; out may be x
  void (*bias_gate_residual)(float *out, float *y, const float *x, long ld, const float *bias, const float *gate,
                             long rows, long cols);
  // out = gelu_tanh(pre); grad *= gelu_tanh'(pre)
  void (*gelu_backward)(float *out, float *grad, const float *pre, long count);
  // out = x * sigmoid(x)
  void (*silu)(float *out, const float *x, long count);
  // grad_x = grad_out * silu'(x)
  void (*silu_backward)(float *grad_x, const float *grad_out, const float *x, long count);

  // out[r] = (x[r] - mean) * rstd * (1 + scale) + shift, the mean and variance over the row's cols values
  void (*layernorm_modulate)(float *out, float *mean, float *rstd, const float *x, const float *shift,
                             const float *scale, float epsilon, long rows, long cols);
  // The same from saved mean and rstd.
  void (*modulate_from_stats)(float *out, const float *mean, const float *rstd, const float *x, const float *shift,
                              const float *scale, long rows, long cols);
  // grad_x += …; grad_shift += sum_r grad_out; grad_scale += sum_r grad_out * normalised
  void (*layernorm_modulate_backward)(float *grad_x, float *grad_shift, float *grad_scale, const float *grad_out,
                                      const float *mean, const float *rstd, const float *x, const float *scale,
                                      long rows, long cols);
  // grad_y = gate * grad_x; grad_gate += sum_r grad_x * y
  void (*gate_backward)(float *grad_y, float *grad_gate, const float *grad_x, const float *y, const float *gate,
                        long rows, long cols);

  // s[r][c] = exp(scale * (s[r][c] - max_r)); inverse_sum[r]; logsumexp[r] of scale * s
  void (*softmax)(float *s, long lds, float *inverse_sum, float *logsumexp, float scale, long rows, long cols);
  // p = exp(scale * s - logsumexp) over s; grad_s = scale * p * (grad_p - delta) over grad_p
  void (*softmax_backward)(float *s, float *grad_p, long ld, const float *logsumexp, const float *delta, float scale,
                           long rows, long cols);
  // y[r] *= factor[r]
  void (*scale_rows)(float *y, long ldy, const float *factor, long rows, long cols);
  // out[r] = sum_c a[r][c] * b[r][c]
  void (*row_dots)(float *out, const float *a, long lda, const float *b, long ldb, long rows, long cols);

  // One head of attention over few tokens: out = softmax(scale * q k^T) v, and its backward (gradients overwritten).
  // `work` holds (dim + tokens) * pad (forward) or (dim + 2 * tokens) * pad (backward) elements, pad being tokens rounded
  // up to a multiple of 16.
  void (*attention_small)(float *out, long ldo, float *logsumexp, float *work, const float *q, const float *k,
                          const float *v, long ld, float scale, long tokens, long dim);
  void (*attention_small_backward)(float *grad_q, float *grad_k, float *grad_v, long ldg, float *work,
                                   const float *grad_out, const float *out, long ldo, const float *logsumexp,
                                   const float *q, const float *k, const float *v, long ld, float scale, long tokens,
                                   long dim);

  // out[c] += sum_r y[r][c]
  void (*column_sums)(float *out, const float *y, long ldy, long rows, long cols);
  // y += x
  void (*add)(float *y, const float *x, long count);
  // sum of squares; the additions are in a fixed order
  double (*sum_squares)(const float *x, long count);

  // Decoupled weight decay (Loshchilov & Hutter 2019), one pass over memory. g is scaled by grad_scale first.
  void (*adamw)(float *w, float *m, float *v, const float *g, float grad_scale, float learning_rate, float beta1,
                float beta2, float epsilon, float weight_decay, float correction1, float correction2, long count);
  // e = decay * e + (1 - decay) * w
  void (*ema)(float *e, const float *w, float decay, long count);
} DiTKernelTable;

// The instruction sets a table may be built for.
typedef enum DiTISA { DiTISAPortable = 0, DiTISAAVX2 = 1, DiTISAAVX512 = 2 } DiTISA;

// The widest level this CPU and its operating system support.
DiTISA dit_isa_supported(void);
// The kernels of a level; the CPU must support it.
const DiTKernelTable *dit_kernels(DiTISA isa);

// --------------------------------------------------------------------------------------------------------------- pool

typedef struct DiTPool DiTPool;
typedef void (*DiTTask)(void *context, long index, long worker);

// A pool of `threads` workers, the caller of dit_pool_run counted as one. NULL when threads cannot be started.
DiTPool *_Nullable dit_pool_create(int threads);
void dit_pool_destroy(DiTPool *pool);
int dit_pool_threads(const DiTPool *pool);
// Runs task(context, 0 … count-1, worker) and returns when all have ended. The order is not defined, each index runs
// once. Several threads may call it: they take turns. Called from inside a task of the same pool (never of another), it
// runs the tasks on the spot, as the outer task's worker.
void dit_pool_run(DiTPool *pool, DiTTask task, void *context, long count);

#pragma clang assume_nonnull end

#ifdef __cplusplus
}
#endif
