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

// --------------------------------------------------------------------------------------------------------- matrices

// A row-major matrix of float32 or bf16 (the upper half of a float32); `ld` elements from row to row.
typedef struct DiTMatrix {
  void *_Nullable data;
  long ld;
  int bf16;
} DiTMatrix;

// What is done with the sums of a product, plus `bias`, while they are in cache.
typedef enum DiTEpilogue {
  DiTStore = 0,             // y = sum + table[row mod table_rows], the table where there is one
  DiTAccumulate = 1,        // y += sum
  DiTGELU = 2,              // saved = sum, where wanted; y = gelu_tanh(sum)
  DiTGateResidual = 3,      // saved = sum, where wanted; y = residual + gate[row / tokens] * sum; y may be the residual
  DiTGELUBackward = 4,      // activation = gelu_tanh(saved); y = sum * gelu_tanh'(saved)
} DiTEpilogue;

// y (rows, columns) = A (rows, depth) B (depth, columns), B packed; float32 sums over the depth in order. Both operands
// are float32 or both bf16, as `a` says.
typedef struct DiTProduct {
  DiTMatrix a;        // row-major, or with `a_in_groups` as pack_groups leaves it
  int a_in_groups;
  const void *_Nullable b;  // panels, one after another, as pack_transposed and pack_plain leave them
  long columns, depth;
  int epilogue;
  const float *_Nullable bias;
  DiTMatrix y, saved, activation;
  const float *_Nullable table;
  long table_rows;
  const float *_Nullable residual;  // with y's ld
  const float *_Nullable gate;      // one row a sample, gate_stride apart
  long gate_stride, tokens;
} DiTProduct;

// How a window acts on the logits of the tokens outside: not at all, by making them 0, or by taking them out.
typedef enum DiTMask { DiTMaskNone = 0, DiTMaskSoft = 1, DiTMaskHard = 2 } DiTMask;

// Heads of attention: qkv (samples * tokens, 3 * heads * dim) in thirds, each head-major; out (samples * tokens, heads *
// dim); logsumexp (samples, heads, tokens) of the logits. A logit is a scale times q k.
//
// A sample's tokens are `prefix` ones that are inside every window, of which the first prefix_keys[sample] are keys (the
// others are padding: queries that nobody looks at), then the image's in row-major order. With a mask, image tokens i
// and j are inside each other's window when |i - j| < widths[sample], or when both their rows' and their columns'
// distance is, if there are `columns`.
typedef struct DiTAttention {
  DiTMatrix qkv, out;
  float *_Nullable logsumexp;
  float scale;
  const float *_Nullable scales;  // one a head of each sample, in place of `scale`; more than 1e-25
  long tokens, heads, dim;
  int mask;
  long prefix;
  const long *_Nullable prefix_keys;  // all, where there is none
  long columns;
  const float *_Nullable widths;  // whole numbers, at least 1
  const float *_Nullable outside;   // forward, soft: (samples, heads, blocks of 128 image queries, dim)
  float *_Nullable query_dots;      // backward: sum_i q_i dq_i of each head of each sample
} DiTAttention;

// A convolution of one image, (height, width, channels) → (…, outputs), whose filters are 3 × 3.
//
// The image may be given in part: `x` begins with row `x_row` of it. `y`, and `residual` if there is one, begin with row
// y_row of the result.
typedef struct DiTConvolution {
  const float *_Nullable x;
  long x_row;
  long height, width;  // of the input as the filters see it: twice x's with `upsample` (nearest neighbour)
  int upsample;
  long channels, outputs;
  const float *_Nullable scale, *_Nullable shift;  // where given, silu(x * scale + shift) by channel is convolved
  int bf16;     // the format of the products' operands
  long tile;    // Winograd: m, 2 or 4
  const void *_Nullable weights;  // Winograd: as winograd_weights leaves them
  const float *_Nullable bias;
  float *_Nullable y;
  long y_row;
  const float *_Nullable residual;  // added to the result; may be y
  long result_width;  // of a convolution by patches
} DiTConvolution;

// ---------------------------------------------------------------------------------------------------------- kernels

typedef struct DiTKernelTable {
  const char *name;  // "avx512bf16", "avx512", "avx2" or "portable"

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

  // out[r] = (x[r] - mean) * rstd * (1 + scale) + shift, the mean and variance over the row's cols values; out is bf16
  // where `bf16` is not 0
  void (*layernorm_modulate)(void *out, int bf16, float *mean, float *rstd, const float *x, const float *shift,
                             const float *scale, float epsilon, long rows, long cols);
  // The same from saved mean and rstd.
  void (*modulate_from_stats)(void *out, int bf16, const float *mean, const float *rstd, const float *x, const float *shift,
                              const float *scale, long rows, long cols);
  // grad_x += …; grad_shift += sum_r grad_out; grad_scale += sum_r grad_out * normalised
  void (*layernorm_modulate_backward)(float *grad_x, float *grad_shift, float *grad_scale, const float *grad_out,
                                      const float *mean, const float *rstd, const float *x, const float *scale,
                                      long rows, long cols);
  // grad_y = gate * grad_x; grad_gate += sum_r grad_x * y; y and grad_y are bf16 where `bf16` is not 0
  void (*gate_backward)(void *grad_y, float *grad_gate, const float *grad_x, const void *y, int bf16, const float *gate,
                        long rows, long cols);

  // Rotary positions: each pair (2k, 2k+1) of the `heads` heads of `dim` elements that begin a row of x turns by the row's
  // angle k, backwards for direction -1. table (rows, 2, dim): the cosine for each element of a head, then -sine, sine for
  // each pair. x is bf16 where `bf16` is not 0.
  void (*rotate)(void *x, long ld, int bf16, const float *table, float direction, long rows, long heads, long dim);

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

  // Queries `query …` of head `head` (of all samples' heads), a group that begins at a multiple of 128 of the prefix or of
  // the image: at most 1024, with a mask 128; `work` holds attention_work bytes.
  void (*attention_block)(const DiTAttention *p, long head, long query, long queries, void *work);
  long (*attention_work)(long tokens, long dim);
  // For each block of 128 image queries the sum of the values of the image tokens that no window of theirs meets:
  // (blocks, dim), a head's part of `outside`.
  void (*attention_outside)(const DiTAttention *p, long head, float *sums);
  // All of a head's gradients, over the saved logsumexp; grad_out is of out's format; `work` holds
  // attention_gradient_work bytes.
  void (*attention_backward_head)(const DiTAttention *p, DiTMatrix grad_qkv, DiTMatrix grad_out, long head, void *work);
  long (*attention_gradient_work)(long tokens, long dim);

  // Rows first_row … end_row - 1, at most 256 and with groups starting at a multiple of 6, of the 64 columns of a panel.
  void (*product)(const DiTProduct *p, long panel, long first_row, long end_row);
  // One panel of B = M^T, M (columns, depth): rows column … column + 63 of M; zero where `columns`, what is left, ends.
  void (*pack_transposed)(void *out, DiTMatrix m, long column, long columns, long depth, int bf16);
  // One panel of B = M, M (depth, columns).
  void (*pack_plain)(void *out, DiTMatrix m, long column, long columns, long depth, int bf16);
  // Groups of six rows of A = M^T, M (depth, columns); sums[r] += the sum of row r, where wanted.
  void (*pack_groups)(void *out, float *_Nullable sums, DiTMatrix m, long column, long columns, long depth, int bf16);
  // Elements of one panel, of one group.
  long (*panel_elements)(long depth, int bf16);
  long (*group_elements)(long depth, int bf16);

  // Winograd (see convolution.inc), stride 1, padding 1. Tiles are numbered row by row.
  //
  // The (m+2)^2 matrices V of tiles first … first + tiles - 1, each (…, channels), in the products' format; they begin
  // `stride` elements apart.
  void (*winograd_input)(void *v, long stride, const DiTConvolution *p, long first, long tiles);
  // The results of those tiles in the 64 columns of a panel. `products` holds winograd_work floats; v points to the first
  // of the tiles.
  void (*winograd_output)(const DiTConvolution *p, float *products, const void *v, long stride, long first, long tiles,
                          long panel);
  // The same from products that somebody else made: matrix f, (tiles, 64), begins at f * (tiles * 64 + 16).
  void (*winograd_finish)(const DiTConvolution *p, const float *products, long first, long tiles, long panel);
  long (*winograd_work)(long tile, long tiles);
  // Transforms and packs a panel of filters w (outputs, channels, 3, 3): (m+2)^2 packed panels, one after another.
  void (*winograd_weights)(void *out, const float *w, long tile, long panel, long outputs, long channels, int bf16);
  // The 3 x 3 pixels under the filters of results first …, row by row: (pixels, 9 * channels), a pixel's channels together.
  void (*gather_patches)(void *out, const DiTConvolution *p, long stride, long padding, long first, long pixels);
  // Over `rows` pixels of x (rows, channels): each channel's mean, and its sum of squared distances from that.
  void (*channel_moments)(float *mean, float *spread, const float *x, long rows, long channels);
  // out = x * scale + shift by channel; out is bf16 where `bf16` is not 0.
  void (*channel_affine)(void *out, int bf16, const float *x, const float *scale, const float *shift, long rows,
                         long channels);

  // y (rows, outputs) = x (rows, inputs) W^T + bias, for so few rows that reading W once is the work
  void (*linear_few_rows)(float *y, long ldy, const float *x, const float *w, const float *bias, long rows, long inputs,
                          long outputs);

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
typedef enum DiTISA { DiTISAPortable = 0, DiTISAAVX2 = 1, DiTISAAVX512 = 2, DiTISAAVX512BF16 = 3 } DiTISA;

// The widest level this CPU and its operating system support.
DiTISA dit_isa_supported(void);
// Whether the products of AVX512BF16 are there and faster than float32's: measured, for about a tenth of a millisecond.
int dit_bf16_pays(void);
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
