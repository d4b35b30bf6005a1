// A function that calls setjmp changes none of its own variables afterwards: what changes lives in its caller's
// `reader`, whose first member is libjpeg's state, so that callbacks find the rest. Every call from outside has a place of
// its own to jump to.
#include "CDiTJPEG.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#include <jerror.h>

struct dit_jpeg_rows {
  struct jpeg_decompress_struct jpeg;
  struct jpeg_error_mgr errors;
  struct jpeg_source_mgr source;
  struct jpeg_progress_mgr progress;
  jmp_buf jump;
  dit_jpeg_status status;
  char *message;
  size_t message_size;
  dit_jpeg_options options;
  uint32_t components_seen;  // a bit for each component whose scan has begun
  dit_jpeg_info info;
  JSAMPROW inks;             // a row of CMYK, where the image is of inks
};
typedef struct dit_jpeg_rows reader;

static reader *reader_of(j_common_ptr jpeg) { return (reader *)jpeg; }

static void fail(reader *r, dit_jpeg_status status, const char *text) {
  r->status = status;
  if (r->message_size > 0) snprintf(r->message, r->message_size, "%s", text);
  longjmp(r->jump, 1);
}

static void on_error(j_common_ptr jpeg) {
  char text[JMSG_LENGTH_MAX];
  jpeg->err->format_message(jpeg, text);
  const int memory = jpeg->err->msg_code == JERR_OUT_OF_MEMORY || jpeg->err->msg_code == JERR_NO_BACKING_STORE;
  fail(reader_of(jpeg), memory ? DIT_JPEG_MUCH_MEMORY : DIT_JPEG_DAMAGED, text);
}

// Level −1 is a warning: libjpeg goes on with invented data. Two are about fields that no pixel depends on.
static void on_message(j_common_ptr jpeg, int level) {
  const int code = jpeg->err->msg_code;
  if (level < 0 && code != JWRN_JFIF_MAJOR && code != JWRN_NOT_SEQUENTIAL) on_error(jpeg);
}

static void on_output(j_common_ptr jpeg) { (void)jpeg; }

static void source_begin(j_decompress_ptr jpeg) { (void)jpeg; }

static boolean source_fill(j_decompress_ptr jpeg) {
  fail(reader_of((j_common_ptr)jpeg), DIT_JPEG_TRUNCATED, "the data end early");
  return FALSE;
}

static void source_skip(j_decompress_ptr jpeg, long count) {
  if (count <= 0) return;
  if ((size_t)count > jpeg->src->bytes_in_buffer) source_fill(jpeg);
  jpeg->src->next_input_byte += count;
  jpeg->src->bytes_in_buffer -= (size_t)count;
}

// Called as the scans of a file with several are read, at least once in each.
static void on_progress(j_common_ptr common) {
  reader *r = reader_of(common);
  const j_decompress_ptr jpeg = &r->jpeg;
  if (jpeg->input_scan_number > (int)r->options.maximum_scans) fail(r, DIT_JPEG_MANY_SCANS, "too many scans");
  if (jpeg->input_scan_number == 0 || jpeg->Ss != 0) return;  // a scan without the blocks' means says little
  for (int i = 0; i < jpeg->comps_in_scan; i++) r->components_seen |= 1u << jpeg->cur_comp_info[i]->component_index;
}

static uint64_t ceiling(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

// What decoding will hold, and the shortest file that can hold the image.
static void measure(const struct jpeg_decompress_struct *jpeg, int held_whole, dit_jpeg_info *info) {
  const uint64_t most_across = (uint64_t)jpeg->max_h_samp_factor, most_down = (uint64_t)jpeg->max_v_samp_factor;
  const uint64_t columns = ceiling(jpeg->image_width, 8 * most_across);
  const uint64_t rows = held_whole ? ceiling(jpeg->image_height, 8 * most_down) : 4;
  for (int i = 0; i < jpeg->num_components; i++) {
    const uint64_t across = (uint64_t)jpeg->comp_info[i].h_samp_factor;
    const uint64_t down = (uint64_t)jpeg->comp_info[i].v_samp_factor;
    info->working_bytes += (size_t)(columns * across * rows * down * sizeof(JBLOCK));
    // A Huffman code has at least one bit, and every block at least one code. Arithmetic codes have no such bound.
    const uint64_t bits = ceiling(jpeg->image_width * across, 8 * most_across) *
                          ceiling(jpeg->image_height * down, 8 * most_down);
    if (!jpeg->arith_code && bits / 8 > info->minimum_bytes) info->minimum_bytes = bits / 8;
  }
}

static void read_header(reader *r, const uint8_t *data, size_t count, dit_jpeg_info *info) {
  const j_decompress_ptr jpeg = &r->jpeg;
  r->source = (struct jpeg_source_mgr){.next_input_byte = data,
                                       .bytes_in_buffer = count,
                                       .init_source = source_begin,
                                       .fill_input_buffer = source_fill,
                                       .skip_input_data = source_skip,
                                       .resync_to_restart = jpeg_resync_to_restart,
                                       .term_source = source_begin};
  jpeg->src = &r->source;
  jpeg_read_header(jpeg, TRUE);
  int channels = 3;
  if (jpeg->jpeg_color_space == JCS_GRAYSCALE) channels = 1;
  if (jpeg->jpeg_color_space == JCS_UNKNOWN || jpeg->num_components > 4) {
    char text[80];
    snprintf(text, sizeof text, "%d components are neither gray, RGB nor CMYK", jpeg->num_components);
    fail(r, DIT_JPEG_DAMAGED, text);
  }
  *info = (dit_jpeg_info){jpeg->image_width, jpeg->image_height, (uint32_t)channels, 0, 0};
  // A file of several scans is held whole, as coefficients of 16 bits; else a few rows of blocks are.
  measure(jpeg, jpeg_has_multiple_scans(jpeg), info);
}

static uint8_t of_inks(uint32_t ink, uint32_t black) { return (uint8_t)((ink * black + 127) / 255); }

// Rows of c, m, y, k where 255 is no ink (Adobe) or full ink.
static void inks_to_rgb(const uint8_t *inks, size_t count, uint8_t flip, uint8_t *pixels) {
  for (size_t i = 0; i < count; i++, inks += 4, pixels += 3) {
    const uint32_t black = inks[3] ^ flip;
    for (int c = 0; c < 3; c++) pixels[c] = of_inks(inks[c] ^ flip, black);
  }
}

static void start_rows(reader *r) {
  const j_decompress_ptr jpeg = &r->jpeg;
  const int inks = jpeg->num_components == 4;
  jpeg->out_color_space = inks ? JCS_CMYK : r->info.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg->scale_num = r->options.eighths;
  jpeg->scale_denom = 8;
  jpeg->mem->max_memory_to_use = (long)r->options.maximum_bytes;
  r->progress.progress_monitor = on_progress;
  jpeg->progress = &r->progress;
  const int several = jpeg_has_multiple_scans(jpeg);
  jpeg_start_decompress(jpeg);
  if (several && r->components_seen != (1u << jpeg->num_components) - 1) {
    fail(r, DIT_JPEG_TRUNCATED, "a component has no scan");
  }
  if (inks) r->inks = jpeg->mem->alloc_large((j_common_ptr)jpeg, JPOOL_IMAGE, (size_t)jpeg->output_width * 4);
}

static void read_row(reader *r, uint8_t *row, size_t row_bytes) {
  const j_decompress_ptr jpeg = &r->jpeg;
  const int is_left = jpeg->output_scanline < jpeg->output_height;
  if (!is_left || row_bytes != (size_t)jpeg->output_width * r->info.channels) {
    fail(r, DIT_JPEG_DAMAGED, "the row is not the header's");
  }
  JSAMPROW target = r->inks != NULL ? r->inks : row;
  jpeg_read_scanlines(jpeg, &target, 1);
  if (r->inks != NULL) inks_to_rgb(r->inks, jpeg->output_width, jpeg->saw_Adobe_marker ? 0 : 255, row);
  if (jpeg->output_scanline == jpeg->output_height) jpeg_finish_decompress(jpeg);
}

static void open_guarded(reader *r, const uint8_t *data, size_t count, int whole) {
  if (setjmp(r->jump) != 0) return;
  jpeg_create_decompress(&r->jpeg);
  read_header(r, data, count, &r->info);
  if (whole) start_rows(r);
}

static void row_guarded(reader *r, uint8_t *row, size_t row_bytes) {
  if (setjmp(r->jump) != 0) return;
  read_row(r, row, row_bytes);
}

static void start_errors(reader *r) {
  r->jpeg.err = jpeg_std_error(&r->errors);
  r->errors.error_exit = on_error;
  r->errors.emit_message = on_message;
  r->errors.output_message = on_output;
}

dit_jpeg_status dit_jpeg_read_info(const uint8_t *data, size_t count, dit_jpeg_info *info, char *message,
                                   size_t message_size) {
  reader r = {.message = message, .message_size = message_size};
  start_errors(&r);
  open_guarded(&r, data, count, 0);
  *info = r.info;
  jpeg_destroy_decompress(&r.jpeg);
  return r.status;
}

dit_jpeg_status dit_jpeg_open_rows(const uint8_t *data, size_t count, dit_jpeg_options options, dit_jpeg_rows **rows,
                                   char *message, size_t message_size) {
  *rows = NULL;
  reader *r = calloc(1, sizeof *r);
  if (r == NULL) return DIT_JPEG_MUCH_MEMORY;
  r->message = message;
  r->message_size = message_size;
  r->options = options;
  start_errors(r);
  open_guarded(r, data, count, 1);
  const dit_jpeg_status status = r->status;
  if (status == DIT_JPEG_OK) {
    *rows = r;
  } else {
    dit_jpeg_close_rows(r);
  }
  return status;
}

dit_jpeg_status dit_jpeg_read_row(dit_jpeg_rows *rows, uint8_t *row, size_t row_bytes, char *message,
                                  size_t message_size) {
  rows->message = message;
  rows->message_size = message_size;
  row_guarded(rows, row, row_bytes);
  return rows->status;
}

void dit_jpeg_close_rows(dit_jpeg_rows *rows) {
  jpeg_destroy_decompress(&rows->jpeg);
  free(rows);
}
