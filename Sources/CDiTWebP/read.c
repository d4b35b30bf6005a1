#include "CDiTWebP.h"

#include <stdio.h>

#include <webp/decode.h>
#include <webp/demux.h>

// An open file: the chunks, and the first frame.
typedef struct {
  WebPDemuxer *chunks;
  WebPIterator frame;
  int has_frame;
  char *message;
  size_t message_size;
} reader;

static dit_webp_status fail(const reader *r, dit_webp_status status, const char *text) {
  if (r->message_size > 0) snprintf(r->message, r->message_size, "%s", text);
  return status;
}

static dit_webp_status of_decoder(const reader *r, VP8StatusCode status) {
  switch (status) {
    case VP8_STATUS_OK: return DIT_WEBP_OK;
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA: return DIT_WEBP_TRUNCATED;
    case VP8_STATUS_OUT_OF_MEMORY: return DIT_WEBP_MUCH_MEMORY;
    case VP8_STATUS_UNSUPPORTED_FEATURE: return fail(r, DIT_WEBP_DAMAGED, "an unsupported feature");
    default: return fail(r, DIT_WEBP_DAMAGED, "the bit stream is malformed");
  }
}

// Opens a file, or as much of a beginning of it as there is; `is_whole` says which.
static dit_webp_status open_file(reader *r, const uint8_t *data, size_t count, int *is_whole) {
  WebPDemuxState state = WEBP_DEMUX_PARSE_ERROR;
  r->chunks = WebPDemuxPartial(&(WebPData){data, count}, &state);
  *is_whole = state == WEBP_DEMUX_DONE;
  if (state == WEBP_DEMUX_PARSE_ERROR) return fail(r, DIT_WEBP_DAMAGED, "the chunks are malformed");
  if (r->chunks == NULL || state == WEBP_DEMUX_PARSING_HEADER) return DIT_WEBP_TRUNCATED;
  r->has_frame = WebPDemuxGetFrame(r->chunks, 1, &r->frame);
  if (!r->has_frame) return *is_whole ? fail(r, DIT_WEBP_DAMAGED, "there is no image") : DIT_WEBP_TRUNCATED;
  return DIT_WEBP_OK;
}

static void close_file(reader *r) {
  if (r->has_frame) WebPDemuxReleaseIterator(&r->frame);
  WebPDemuxDelete(r->chunks);
}

static void find_exif(const reader *r, const uint8_t *data, dit_webp_info *info) {
  WebPChunkIterator exif;
  if (!WebPDemuxGetChunk(r->chunks, "EXIF", 1, &exif)) return;
  info->exif_offset = (size_t)(exif.chunk.bytes - data);
  info->exif_bytes = exif.chunk.size;
  WebPDemuxReleaseChunkIterator(&exif);
}

static dit_webp_status read_info(reader *r, const uint8_t *data, size_t count, dit_webp_info *info) {
  int is_whole;
  const dit_webp_status status = open_file(r, data, count, &is_whole);
  if (status != DIT_WEBP_OK) return status;
  if (!is_whole && (WebPDemuxGetI(r->chunks, WEBP_FF_FORMAT_FLAGS) & EXIF_FLAG) != 0) return DIT_WEBP_TRUNCATED;
  WebPBitstreamFeatures features;
  const VP8StatusCode code = WebPGetFeatures(r->frame.fragment.bytes, r->frame.fragment.size, &features);
  if (code != VP8_STATUS_OK) return of_decoder(r, code);
  const WebPIterator *frame = &r->frame;
  if (frame->x_offset < 0 || frame->y_offset < 0 || features.width != frame->width ||
      features.height != frame->height) {
    return fail(r, DIT_WEBP_DAMAGED, "a frame of another size than its header says");
  }
  *info = (dit_webp_info){.canvas_width = WebPDemuxGetI(r->chunks, WEBP_FF_CANVAS_WIDTH),
                          .canvas_height = WebPDemuxGetI(r->chunks, WEBP_FF_CANVAS_HEIGHT),
                          .x = (uint32_t)frame->x_offset,
                          .y = (uint32_t)frame->y_offset,
                          .width = (uint32_t)frame->width,
                          .height = (uint32_t)frame->height,
                          .channels = features.has_alpha ? 4 : 3,
                          .lossless = features.format == 2};
  if ((uint64_t)info->x + info->width > info->canvas_width || (uint64_t)info->y + info->height > info->canvas_height) {
    return fail(r, DIT_WEBP_DAMAGED, "a frame beyond the canvas");
  }
  // A lossless image is held whole, 4 bytes a pixel; so is the alpha of a lossy one, which is a lossless image by itself.
  // Beside it some rows: of colors and their neighbors' predictions.
  const size_t area = (size_t)info->width * info->height;
  info->working_bytes = 128 * (size_t)info->width + area * (info->lossless ? 4 : info->channels == 4 ? 5 : 0);
  find_exif(r, data, info);
  return DIT_WEBP_OK;
}

dit_webp_status dit_webp_read_info(const uint8_t *data, size_t count, dit_webp_info *info, char *message,
                                   size_t message_size) {
  reader r = {.message = message, .message_size = message_size};
  const dit_webp_status status = read_info(&r, data, count, info);
  close_file(&r);
  return status;
}

static dit_webp_status read_pixels(reader *r, const uint8_t *data, size_t count, uint32_t width, uint32_t height,
                                   uint8_t *pixels, size_t pixel_count) {
  int is_whole;
  const dit_webp_status status = open_file(r, data, count, &is_whole);
  if (status != DIT_WEBP_OK) return status;
  if (!is_whole || !r->frame.complete) return DIT_WEBP_TRUNCATED;
  WebPDecoderConfig config;
  if (!WebPInitDecoderConfig(&config)) return fail(r, DIT_WEBP_DAMAGED, "libwebp is of another version");
  const VP8StatusCode code = WebPGetFeatures(r->frame.fragment.bytes, r->frame.fragment.size, &config.input);
  if (code != VP8_STATUS_OK) return of_decoder(r, code);
  const size_t channels = config.input.has_alpha ? 4 : 3;
  if (width > INT32_MAX / 4 || height > INT32_MAX / 4 || pixel_count != channels * width * height) {
    return fail(r, DIT_WEBP_DAMAGED, "the pixel buffer does not fit the header");
  }
  config.output.colorspace = channels == 4 ? MODE_RGBA : MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA = (WebPRGBABuffer){.rgba = pixels, .stride = (int)(channels * width), .size = pixel_count};
  if ((int)width != config.input.width || (int)height != config.input.height) {
    config.options.use_scaling = 1;
    config.options.scaled_width = (int)width;
    config.options.scaled_height = (int)height;
  }
  return of_decoder(r, WebPDecode(r->frame.fragment.bytes, r->frame.fragment.size, &config));
}

dit_webp_status dit_webp_read_pixels(const uint8_t *data, size_t count, uint32_t width, uint32_t height,
                                     uint8_t *pixels, size_t pixel_count, char *message, size_t message_size) {
  reader r = {.message = message, .message_size = message_size};
  const dit_webp_status status = read_pixels(&r, data, count, width, height, pixels, pixel_count);
  close_file(&r);
  return status;
}
