// The system's libwebp and libwebpdemux (apt: libwebp-dev, brew: webp). Only CDiTWebP calls them.
#include <stddef.h>
#include <stdint.h>

#include <webp/decode.h>
#include <webp/demux.h>
