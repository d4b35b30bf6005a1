// Reading, whole or row by row. A function that calls setjmp changes none of its own variables afterwards: what changes
// lives in its caller's `reader`, and a jump never leaves the function that a caller outside entered.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "failure.h"

struct dit_png_rows {
  dit_png_source source;
  size_t position;
  size_t part_start, part_count;  // what `part` holds of a file
  dit_png_failure failure;
  png_structp png;
  png_infop header;
  dit_png_info info;
  uint32_t rows_read;
  uint8_t part[1 << 15];
};
typedef struct dit_png_rows reader;

static void end_early(reader *r) {
  dit_png_note(&r->failure, DIT_PNG_TRUNCATED, "the data end early");
  png_error(r->png, "truncated");
}

// The part of the file that begins at the position. A file that has become shorter is truncated.
static void read_part(reader *r) {
  ssize_t count;
  do {
    count = pread(r->source.file, r->part, sizeof r->part, (off_t)r->position);
  } while (count < 0 && errno == EINTR);
  if (count <= 0) end_early(r);
  r->part_start = r->position;
  r->part_count = (size_t)count;
}

static void take(png_structp png, png_bytep bytes, size_t count) {
  reader *r = png_get_io_ptr(png);
  if (count > r->source.count - r->position) end_early(r);
  if (r->source.data != NULL) {
    memcpy(bytes, r->source.data + r->position, count);
    r->position += count;
    return;
  }
  while (count > 0) {
    if (r->position < r->part_start || r->position >= r->part_start + r->part_count) read_part(r);
    const size_t offset = r->position - r->part_start, left = r->part_count - offset;
    const size_t step = count < left ? count : left;
    memcpy(bytes, r->part + offset, step);
    bytes += step;
    r->position += step;
    count -= step;
  }
}

// A damaged file is refused, whichever chunk is damaged. Chunks that do not say what the pixels are (text, profiles,
// gamma) are skipped unread, so they cost no memory; their checksums still count.
static void set_policy(png_structp png) {
  png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
  png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
  png_set_chunk_malloc_max(png, 0);
  png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
}

// Channels after expansion: a palette becomes RGB, and a tRNS chunk an alpha channel.
static uint32_t expanded_channels(const reader *r) {
  const int color = png_get_color_type(r->png, r->header);
  const uint32_t colors = (color & PNG_COLOR_MASK_COLOR) != 0 ? 3 : 1;
  const int alpha = (color & PNG_COLOR_MASK_ALPHA) != 0 || png_get_valid(r->png, r->header, PNG_INFO_tRNS) != 0;
  return colors + (alpha ? 1 : 0);
}

static void read_header(reader *r, dit_png_info *info) {
  png_set_read_fn(r->png, r, take);
  set_policy(r->png);
  png_read_info(r->png, r->header);
  info->width = png_get_image_width(r->png, r->header);
  info->height = png_get_image_height(r->png, r->header);
  info->channels = expanded_channels(r);
  info->interlaced = png_get_interlace_type(r->png, r->header) != PNG_INTERLACE_NONE;
  info->stored_row_bytes = png_get_rowbytes(r->png, r->header);
}

static void read_rows(reader *r, uint32_t height, size_t row_bytes, uint8_t *pixels) {
  const int passes = png_get_interlace_type(r->png, r->header) == PNG_INTERLACE_NONE ? 1 : PNG_INTERLACE_ADAM7_PASSES;
  for (int pass = 0; pass < passes; pass++) {
    for (uint32_t y = 0; y < height; y++) png_read_row(r->png, pixels + y * row_bytes, NULL);
  }
  png_read_end(r->png, NULL);
}

// Indices, a byte each at the front of `pixels`, become colors, from the last to the first so that none is overwritten
// before it is read. libpng would read an index past the palette as black.
static void look_up(reader *r, size_t count, uint32_t channels, uint8_t *pixels) {
  png_colorp palette = NULL;
  png_bytep alpha = NULL;
  int colors = 0, alphas = 0;
  png_get_PLTE(r->png, r->header, &palette, &colors);
  if (channels == 4) png_get_tRNS(r->png, r->header, &alpha, &alphas, NULL);
  for (size_t i = count; i-- > 0;) {
    const int index = pixels[i];
    if (index >= colors) {
      char text[64];
      snprintf(text, sizeof text, "a pixel of color %d of a palette of %d", index, colors);
      png_error(r->png, text);
    }
    const uint8_t values[4] = {palette[index].red, palette[index].green, palette[index].blue,
                               index < alphas ? alpha[index] : 255};
    memcpy(pixels + i * channels, values, channels);
  }
}

static int is_indexed(const reader *r) { return png_get_color_type(r->png, r->header) == PNG_COLOR_TYPE_PALETTE; }

// 8 bits a sample; returns the bytes of a row as libpng gives it: a byte a pixel where there is a palette.
static size_t start_rows(reader *r, const dit_png_info *info) {
  const int indexed = is_indexed(r);
  if (indexed) {
    png_set_packing(r->png);  // 1, 2, 4 bits → a byte
  } else {
    png_set_expand(r->png);  // 1, 2, 4 bits → 8, tRNS → alpha
  }
  png_set_scale_16(r->png);  // x·255/65535, rounded
  (void)png_set_interlace_handling(r->png);
  png_read_update_info(r->png, r->header);  // from here on libpng holds rows
  const size_t row_bytes = png_get_rowbytes(r->png, r->header);
  if (row_bytes != info->width * (indexed ? 1u : (size_t)info->channels)) {
    png_error(r->png, "the rows do not fit the header");
  }
  return row_bytes;
}

static void read_pixels(reader *r, const dit_png_info *info, uint8_t *pixels, size_t pixel_count) {
  const size_t row_bytes = start_rows(r, info), area = (size_t)info->width * info->height;
  if (pixel_count != area * info->channels) png_error(r->png, "the pixel buffer does not fit the header");
  read_rows(r, info->height, row_bytes, pixels);
  if (is_indexed(r)) look_up(r, area, info->channels, pixels);
}

// `pixels` NULL: the header alone.
static void read_guarded(reader *r, dit_png_info *info, uint8_t *pixels, size_t pixel_count) {
  if (setjmp(png_jmpbuf(r->png)) != 0) return;
  read_header(r, info);
  if (pixels != NULL) read_pixels(r, info, pixels, pixel_count);
}

// Makes libpng's state; false where it cannot start.
static int start(reader *r) {
  r->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &r->failure, dit_png_on_error, dit_png_on_warning);
  if (r->png != NULL) r->header = png_create_info_struct(r->png);
  if (r->header != NULL) return 1;
  dit_png_note(&r->failure, DIT_PNG_DAMAGED, "libpng cannot start (out of memory, or built for another version)");
  return 0;
}

static dit_png_status read_png(dit_png_source source, dit_png_info *info, uint8_t *pixels, size_t pixel_count,
                               char *message, size_t message_size) {
  reader r = {.source = source, .failure = {DIT_PNG_OK, message, message_size}};
  if (start(&r)) read_guarded(&r, info, pixels, pixel_count);
  png_destroy_read_struct(&r.png, &r.header, NULL);
  return r.failure.status;
}

dit_png_status dit_png_read_info(dit_png_source source, dit_png_info *info, char *message, size_t message_size) {
  return read_png(source, info, NULL, 0, message, message_size);
}

dit_png_status dit_png_read_pixels(dit_png_source source, uint8_t *pixels, size_t pixel_count, char *message,
                                   size_t message_size) {
  dit_png_info info;
  return read_png(source, &info, pixels, pixel_count, message, message_size);
}

// Row by row: each call has a place of its own for libpng to jump to.

static void open_guarded(reader *r) {
  if (setjmp(png_jmpbuf(r->png)) != 0) return;
  read_header(r, &r->info);
  if (r->info.interlaced) png_error(r->png, "an interlaced image has no rows before its end");
  (void)start_rows(r, &r->info);
}

static void row_guarded(reader *r, uint8_t *row, size_t row_bytes) {
  if (setjmp(png_jmpbuf(r->png)) != 0) return;
  if (r->rows_read == r->info.height || row_bytes != (size_t)r->info.width * r->info.channels) {
    png_error(r->png, "the row does not fit the header");
  }
  png_read_row(r->png, row, NULL);
  if (is_indexed(r)) look_up(r, r->info.width, r->info.channels, row);
  r->rows_read++;
  if (r->rows_read == r->info.height) png_read_end(r->png, NULL);
}

dit_png_status dit_png_open_rows(dit_png_source source, dit_png_rows **rows, char *message, size_t message_size) {
  *rows = NULL;
  reader *r = calloc(1, sizeof *r);
  if (r == NULL) {
    dit_png_failure failure = {DIT_PNG_OK, message, message_size};
    dit_png_note(&failure, DIT_PNG_DAMAGED, "out of memory");
    return failure.status;
  }
  r->source = source;
  r->failure = (dit_png_failure){DIT_PNG_OK, message, message_size};
  if (start(r)) open_guarded(r);
  const dit_png_status status = r->failure.status;
  if (status == DIT_PNG_OK) {
    *rows = r;
  } else {
    dit_png_close_rows(r);
  }
  return status;
}

dit_png_status dit_png_read_row(dit_png_rows *rows, uint8_t *row, size_t row_bytes, char *message,
                                size_t message_size) {
  rows->failure = (dit_png_failure){DIT_PNG_OK, message, message_size};
  row_guarded(rows, row, row_bytes);
  return rows->failure.status;
}

void dit_png_close_rows(dit_png_rows *rows) {
  png_destroy_read_struct(&rows->png, &rows->header, NULL);
  free(rows);
}
