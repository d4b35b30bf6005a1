// PNG between memory and memory, over libpng.
//
// libpng reports errors by longjmp, which must not cross Swift frames: every call that can fail happens in this target,
// and what comes out is a status and a one-line message. Nothing here opens files, prints, or keeps state between
// calls.
#ifndef CDITPNG_H
#define CDITPNG_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
  DIT_PNG_OK = 0,
  DIT_PNG_TRUNCATED,  // the data end before the image does
  DIT_PNG_DAMAGED,    // malformed; `message` says how
  DIT_PNG_FAILED,     // writing failed; `message` says how
} dit_png_status;

// Where a PNG's bytes come from: memory, or an open file that is read a little at a time. They stay the caller's.
typedef struct {
  const uint8_t *data;  // NULL: the file
  size_t count;         // of memory, or of the file when it was opened
  int file;
} dit_png_source;

// What the header promises: the size, the channels after expansion to 8 bits (1 gray, 2 gray+alpha, 3 RGB, 4 RGBA), and
// the bytes of one row before compression.
typedef struct {
  uint32_t width;
  uint32_t height;
  uint32_t channels;
  uint32_t interlaced;  // 1: rows are whole only when the whole image is read
  size_t stored_row_bytes;
} dit_png_info;

// Reads the header, up to the first pixel data. Allocates nothing that depends on the claimed size.
dit_png_status dit_png_read_info(dit_png_source source, dit_png_info *info, char *message, size_t message_size);

// Decodes to 8 bits a sample, interleaved, `info->channels` a pixel; checks every checksum up to the end chunk.
// `pixel_count` is the size of `pixels` in bytes and must be width·height·channels of `dit_png_read_info`.
dit_png_status dit_png_read_pixels(dit_png_source source, uint8_t *pixels, size_t pixel_count, char *message,
                                   size_t message_size);

// The same, row by row, for an image that is not interlaced: libpng holds a few rows, whatever the image's height.
// The source must stay as it is until the rows are closed.
typedef struct dit_png_rows dit_png_rows;

// `*rows` is to be closed; it is NULL unless the status is DIT_PNG_OK.
dit_png_status dit_png_open_rows(dit_png_source source, dit_png_rows **rows, char *message, size_t message_size);

// The next row, `row_bytes` = width·channels; with the last one everything up to the end chunk is checked. After a
// failure, and after the last row, the rows can only be closed.
dit_png_status dit_png_read_row(dit_png_rows *rows, uint8_t *row, size_t row_bytes, char *message, size_t message_size);

void dit_png_close_rows(dit_png_rows *rows);

// Encodes 8-bit gray (channels 1) or RGB (channels 3) rows. `chunks` are extra chunks to put before the pixels, each
// as in the file but without its checksum: length (4 bytes, big-endian), type (4 letters), data.
// `*output` is to be released with dit_png_free; it is NULL unless the status is DIT_PNG_OK.
dit_png_status dit_png_write(const uint8_t *pixels, uint32_t width, uint32_t height, uint32_t channels,
                             const uint8_t *chunks, size_t chunk_bytes, uint8_t **output, size_t *output_count,
                             char *message, size_t message_size);

void dit_png_free(uint8_t *output);

#endif
