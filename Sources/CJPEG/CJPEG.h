// The system's libjpeg-turbo (apt: libjpeg62-turbo-dev, brew: jpeg-turbo). Swift never calls it: its errors are jumps,
// which CDiTJPEG confines.
#include <stddef.h>
#include <stdio.h>

#include <jpeglib.h>

#include <jerror.h>
