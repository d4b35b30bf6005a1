// CDiTKernels: vector loops behind one dispatch table, and the worker pool.
//
// Conventions. Matrices are row-major float32; `ld…` is the distance between rows in elements. Outputs come first, then
// what is saved for the backward pass, then inputs, then sizes. A gradient that is added to is written `+=`; every other
// output is overwritten. No kernel allocates.
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

#pragma clang assume_nonnull begin

// ------------------------------------------------------------------------------------------------------------ sizes

// How operands are cut: for the code that lays them out and divides the work.
enum {
  DiTPanelColumns = 64,               // columns of a panel: the right operand of a product is packed in panels
  DiTGroupRows = 6,                   // rows of a group: a left operand that is packed is packed in groups
  DiTProductRows = 288,               // rows of the left operand that one call of `product` takes, at most
  DiTQueryBlock = 128,                // queries that pass over a block of keys together
  DiTQueryGroup = 8 * DiTQueryBlock,  // queries that one call of `attention_block` takes, at most
};

static inline long dit_round_up(long n, long multiple) { return (n + multiple - 1) / multiple * multiple; }

// Elements of a packed operand per row or column: in bf16 a product reads pairs, so that an odd depth is padded.
static inline long dit_padded_depth(long depth, int bf16) { return bf16 ? dit_round_up(depth, 2) : depth; }
// Elements of one panel, of one group.
static inline long dit_panel_elements(long depth, int bf16) { return dit_padded_depth(depth, bf16) * DiTPanelColumns; }
static inline long dit_group_elements(long depth, int bf16) { return dit_padded_depth(depth, bf16) * DiTGroupRows; }

// int8 (see quantization.inc). Bytes of a row of `columns` activations: their codes, padded to whole words, then the row's
// scale (float32) and zero (int32); rows begin on cache lines. Where the scale is, after the row's beginning.
static inline long dit_int8_scale(long columns) { return dit_round_up(columns, 4); }
static inline long dit_int8_row(long columns) { return dit_round_up(dit_int8_scale(columns) + 8, 64); }
// Bytes of a panel: for each column the sum of its codes (int32) and its scale (float32), then the codes, four of a column
// together.
static inline long dit_int8_panel(long depth) { return DiTPanelColumns * (8 + dit_round_up(depth, 4)); }

// Elements of scratch of attention_naive, or of its backward pass.
static inline long dit_attention_naive_work(long tokens, long dim, int backward) {
  return (dim + (backward ? 2 : 1) * tokens) * dit_round_up(tokens, 16);
}

// Winograd's products of `tiles` tiles in one panel: the elements from one frequency's matrix to the next (a vector more
// than it has, so that they do not lie a power of two apart), and those of all (tile + 2)^2 matrices.
static inline long dit_winograd_stride(long tiles) { return tiles * DiTPanelColumns + 16; }
static inline long dit_winograd_work(long tile, long tiles) { return (tile + 2) * (tile + 2) * dit_winograd_stride(tiles); }

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
  DiTGateResidual = 3,      // saved = sum, where wanted; y = residual + gate[row / tokens] * sum; y may be residual
  DiTGELUBackward = 4,      // activation = gelu_tanh(saved); y = sum * gelu_tanh'(saved)
  DiTSwiGLU = 5,            // saved = sum = [u | g], where wanted; y = silu(u) * g, of half the columns
  DiTSwiGLUBackward = 6,    // activation = silu(u) * g, [u | g] = saved; y = [sum * g * silu'(u) | sum * silu(u)], twice
                            // the columns
  DiTReLU = 7,              // y = min(max(sum, 0), limit)
} DiTEpilogue;

// y (rows, columns) = A (rows, depth) B (depth, columns), B packed; float32 sums over the depth in order. Both operands
// are float32 or both bf16, as `a` says.
typedef struct DiTProduct {
  DiTMatrix a;        // row-major, or with `a_in_groups` as pack_groups leaves it
  int a_in_groups;
  const void *_Nullable b;  // panels, one after another, as pack_transposed and pack_plain leave them; with DiTSwiGLU the
                            // first half of each is of B's first half of columns, the second of its second
  long columns, depth;      // B's
  int epilogue;
  const float *_Nullable bias;
  DiTMatrix y, saved, activation;
  long activation_rows;  // where not 0, activation lies in panels, as pack_plain leaves a matrix of so many rows
  const float *_Nullable table;
  long table_rows;
  const float *_Nullable residual;  // with y's ld
  const float *_Nullable gate;      // one row per sample, gate_stride apart
  long gate_stride, tokens;
  float limit;  // of DiTReLU: infinity, or 6
} DiTProduct;

// What a window does to the logits of the tokens beyond it: nothing, it makes them 0, or it takes them out.
typedef enum DiTMask { DiTMaskNone = 0, DiTMaskSoft = 1, DiTMaskHard = 2 } DiTMask;

// Heads of attention: qkv (samples * tokens, 3 * heads * dim) in thirds, each head-major; out (samples * tokens, heads *
// dim); logsumexp (samples, heads, tokens) of the logits. A logit is a scale times q k.
//
// A sample's tokens are `prefix` ones that are inside every window, of which the first prefix_keys[sample] are keys (the
// others are padding, whose output is not used), then the image's in row-major order. With a mask, image tokens i
// and j are inside each other's window when |i - j| < widths[sample], or when both their rows' and their columns'
// distance is, if there are `columns`.
typedef struct DiTAttention {
  DiTMatrix qkv, out;
  float *_Nullable logsumexp;
  float scale;
  const float *_Nullable scales;  // one per sample and head, in place of `scale`; more than 1e-25
  long tokens, heads, dim;
  int mask;
  long prefix;
  const long *_Nullable prefix_keys;  // all, where there is none
  long columns;
  const float *_Nullable widths;          // one per sample: whole numbers, at least 1
  const float *_Nullable skipped_values;  // forward, soft: (samples, heads, blocks of image queries, dim)
  float *_Nullable query_dots;            // backward: sum_i q_i dq_i, one per sample and head
} DiTAttention;

// A convolution of one image, (height, width, channels) → (…, outputs), whose filters are 3 × 3.
//
// The image may be given in part: `x` begins with row `x_row` of it. `y`, and `residual` if there is one, begin with row
// y_row of the result.
typedef struct DiTConvolution {
  const float *_Nullable x;
  long x_row;
  long height, width;  // of the input as the filters see it: twice x's with `upsample` (nearest neighbor)
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
} DiTConvolution;

// What a filter or a pool sees of an image, (height, width, channels): `rows` x `columns` pixels at a time, `stride` from result to
// result, of which the first begins `top` rows above the image and `left` columns beside it. Pixels of results are numbered
// row by row, `result_width` to a row.
typedef struct DiTWindow {
  long height, width, channels;
  long rows, columns, stride, top, left;
  long result_width;
} DiTWindow;

// ---------------------------------------------------------------------------------------------------------- kernels

#pragma clang assume_nonnull end

typedef struct DiTKernelTable {
  const char *_Nonnull name;  // "avx512bf16", "avx512", "avx2" or "portable"
#define KERNEL(result, kernel, ...) result (*_Nonnull kernel)(__VA_ARGS__);
#include "kernels.def"
#undef KERNEL
} DiTKernelTable;

#pragma clang assume_nonnull begin

// The instruction sets a table may be built for.
typedef enum DiTISA { DiTISAPortable = 0, DiTISAAVX2 = 1, DiTISAAVX512 = 2, DiTISAAVX512BF16 = 3 } DiTISA;

// The widest level this CPU and its operating system support.
DiTISA dit_isa_supported(void);
// Whether the CPU has the products of AVX512BF16 and they are faster than float32's, measured in about 0.1 ms.
int dit_bf16_pays(void);
// The kernels of a level; the CPU must support it.
const DiTKernelTable *dit_kernels(DiTISA isa);
// A level's `product_int8` over the CPU's instruction for products of bytes (AVX512_VNNI, AVX-VNNI); NULL where it has none.
typedef void (*DiTProductInt8)(const DiTProduct *p, long panel, long first_row, long end_row);
DiTProductInt8 _Nullable dit_native_int8(DiTISA isa);
// Processors for the calling thread to use, at least 1: on Linux its affinity, and no more than the control groups' quota
// of processor time is worth, rounded up; elsewhere those that are online.
int dit_available_processors(void);
// The tightest quota of processor time, in processors, of the control groups (v1 and v2) from the process's own up; 0 where
// there is none. `root` stands before every path that is read: "", or a folder that a test has made.
double dit_quota_processors(const char *root);
// What is left of so many processors under a quota of that worth, rounded up; all of them where it is 0.
int dit_processors_of_quota(long processors, double quota);

// --------------------------------------------------------------------------------------------------------------- pool

typedef struct DiTPool DiTPool;
typedef void (*DiTTask)(void *context, long index, long worker);

// A pool that numbers its workers below `threads`, the caller of dit_pool_run counted as one, and starts at most `workers`
// of them: more than there are processors would take turns on these. NULL when threads cannot be started.
DiTPool *_Nullable dit_pool_create(int threads, int workers);
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
