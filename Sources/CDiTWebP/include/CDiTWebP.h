// WebP from memory to memory, over libwebp and libwebpdemux.
//
// Their structures are checked for version and hold unions and private parts: they stay in this target, and what comes out
// is a status and a one-line message. Nothing here touches files, prints, or keeps state between calls.
#ifndef CDITWEBP_H
#define CDITWEBP_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
  DIT_WEBP_OK = 0,
  DIT_WEBP_TRUNCATED,    // the data end before the image does
  DIT_WEBP_DAMAGED,      // malformed, or of a kind that is not read; `message` says how
  DIT_WEBP_MUCH_MEMORY,  // the system has no memory for the decoder
} dit_webp_status;

// What the file promises of its image or, where it is an animation, of the first frame: the canvas, the frame's place on
// it, the channels that come out (3 RGB, 4 RGBA), the bytes the decoder holds beside the pixels, and where the Exif data
// lie (0 bytes: none).
typedef struct {
  uint32_t canvas_width;
  uint32_t canvas_height;
  uint32_t x;
  uint32_t y;
  uint32_t width;
  uint32_t height;
  uint32_t channels;
  uint32_t lossless;
  size_t working_bytes;
  size_t exif_offset;
  size_t exif_bytes;
} dit_webp_info;

// Reads the header and walks the chunks. Allocates nothing that depends on the claimed size. A beginning of a file is
// enough where no Exif data are announced, which stand behind the image.
dit_webp_status dit_webp_read_info(const uint8_t *data, size_t count, dit_webp_info *info, char *message,
                                   size_t message_size);

// Decodes the image or first frame to interleaved 8-bit samples, `info->channels` a pixel, at its own size or averaged
// down to `width`×`height` by libwebp's rescaler while it is decoded. `pixel_count` is the size of `pixels` in bytes and
// must be channels·width·height.
dit_webp_status dit_webp_read_pixels(const uint8_t *data, size_t count, uint32_t width, uint32_t height,
                                     uint8_t *pixels, size_t pixel_count, char *message, size_t message_size);

#endif
