// Writing, into memory that grows. The same pixels and chunks give the same bytes (with one libpng and zlib): no time,
// no path.
#include <stdlib.h>
#include <string.h>

#include "failure.h"

typedef struct {
  const uint8_t *pixels;
  uint32_t width, height, channels;
  const uint8_t *chunks;
  size_t chunk_bytes;
} source;

typedef struct {
  uint8_t *bytes;
  size_t count;
  size_t capacity;
  dit_png_failure failure;
  png_structp png;
  png_infop header;
} writer;

static void put(png_structp png, png_bytep bytes, size_t count) {
  writer *w = png_get_io_ptr(png);
  if (count > w->capacity - w->count) {
    size_t capacity = 2 * w->capacity + count + 4096;
    uint8_t *larger = realloc(w->bytes, capacity);
    if (larger == NULL) png_error(png, "out of memory");
    w->bytes = larger;
    w->capacity = capacity;
  }
  memcpy(w->bytes + w->count, bytes, count);
  w->count += count;
}

static void flush(png_structp png) { (void)png; }

static void write_chunks(png_structp png, const uint8_t *chunks, size_t count) {
  size_t position = 0;
  while (count - position >= 8) {
    const uint8_t *chunk = chunks + position;
    const size_t length = png_get_uint_32(chunk);
    if (length > count - position - 8) png_error(png, "an extra chunk is longer than its data");
    png_write_chunk(png, chunk + 4, chunk + 8, length);
    position += 8 + length;
  }
  if (position != count) png_error(png, "an extra chunk has no header");
}

static void write_guarded(writer *w, const source *s) {
  if (setjmp(png_jmpbuf(w->png)) != 0) return;
  png_set_write_fn(w->png, w, put, flush);
  png_set_user_limits(w->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
  png_set_compression_level(w->png, 6);
  png_set_filter(w->png, PNG_FILTER_TYPE_BASE, PNG_ALL_FILTERS);
  png_set_IHDR(w->png, w->header, s->width, s->height, 8, s->channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB,
               PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_BASE, PNG_FILTER_TYPE_BASE);
  png_write_info(w->png, w->header);
  write_chunks(w->png, s->chunks, s->chunk_bytes);
  const size_t row_bytes = (size_t)s->width * s->channels;
  for (uint32_t y = 0; y < s->height; y++) png_write_row(w->png, s->pixels + y * row_bytes);
  png_write_end(w->png, NULL);
}

dit_png_status dit_png_write(const uint8_t *pixels, uint32_t width, uint32_t height, uint32_t channels,
                             const uint8_t *chunks, size_t chunk_bytes, uint8_t **output, size_t *output_count,
                             char *message, size_t message_size) {
  const source s = {pixels, width, height, channels, chunks, chunk_bytes};
  writer w = {.failure = {DIT_PNG_OK, message, message_size}};
  *output = NULL;
  *output_count = 0;
  w.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &w.failure, dit_png_on_error, dit_png_on_warning);
  if (w.png != NULL) w.header = png_create_info_struct(w.png);
  if (w.header != NULL) {
    write_guarded(&w, &s);
  } else {
    dit_png_note(&w.failure, DIT_PNG_FAILED, "libpng cannot start (out of memory, or built for another version)");
  }
  png_destroy_write_struct(&w.png, &w.header);
  if (w.failure.status != DIT_PNG_OK) {
    free(w.bytes);
    return DIT_PNG_FAILED;
  }
  *output = w.bytes;
  *output_count = w.count;
  return DIT_PNG_OK;
}

void dit_png_free(uint8_t *output) { free(output); }
