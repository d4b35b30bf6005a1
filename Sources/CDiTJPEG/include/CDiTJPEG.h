// JPEG from memory to memory, over libjpeg-turbo.
//
// libjpeg reports errors through a callback that must not return: setjmp and longjmp stay in this target, and what comes
// out is a status and a one-line message. Nothing here touches files, prints, or keeps state between calls. What libjpeg
// would only warn of (missing or damaged data, which it replaces by a guess) is an error.
#ifndef CDITJPEG_H
#define CDITJPEG_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
  DIT_JPEG_OK = 0,
  DIT_JPEG_TRUNCATED,    // the data end before the image does
  DIT_JPEG_DAMAGED,      // malformed, or of a kind that is not read; `message` says how
  DIT_JPEG_MANY_SCANS,   // more scans than `maximum_scans`
  DIT_JPEG_MUCH_MEMORY,  // the decoder wants more than `maximum_bytes`
} dit_jpeg_status;

// What the header promises: the size as stored (before any Exif orientation), the channels that come out (1 gray,
// 3 RGB), and the bytes the decoder holds beside the pixels.
typedef struct {
  uint32_t width;
  uint32_t height;
  uint32_t channels;
  size_t working_bytes;
  uint64_t minimum_bytes;  // fewer bytes of file than this cannot hold the image
} dit_jpeg_info;

typedef struct {
  size_t maximum_bytes;   // of the decoder's own memory
  uint32_t maximum_scans; // of a progressive file
  uint32_t eighths;       // 8: whole size; 4, 2, 1: the image at that many eighths, dimensions rounded up
} dit_jpeg_options;

// Reads the header, up to the first scan. Allocates nothing that depends on the claimed size.
dit_jpeg_status dit_jpeg_read_info(const uint8_t *data, size_t count, dit_jpeg_info *info, char *message,
                                   size_t message_size);

// An image that is decoded row by row: libjpeg holds a few rows of blocks, or all coefficients of a file of several
// scans. `data` must stay where it is until the rows are closed.
typedef struct dit_jpeg_rows dit_jpeg_rows;

// Decodes to interleaved 8-bit gray or RGB. CMYK and YCCK become RGB by (1−c)(1−k), inks inverted where an Adobe marker
// says that Adobe's convention holds. `*rows` is to be closed; it is NULL unless the status is DIT_JPEG_OK.
dit_jpeg_status dit_jpeg_open_rows(const uint8_t *data, size_t count, dit_jpeg_options options, dit_jpeg_rows **rows,
                                   char *message, size_t message_size);

// The next of ⌈height·eighths/8⌉ rows, `row_bytes` = channels·⌈width·eighths/8⌉; with the last one everything up to the
// end-of-image marker is checked. After a failure, and after the last row, the rows can only be closed.
dit_jpeg_status dit_jpeg_read_row(dit_jpeg_rows *rows, uint8_t *row, size_t row_bytes, char *message,
                                  size_t message_size);

void dit_jpeg_close_rows(dit_jpeg_rows *rows);

#endif
