// How libpng's errors become a status and a message.
#ifndef CDITPNG_FAILURE_H
#define CDITPNG_FAILURE_H

#include <png.h>
#include <stdio.h>

#include "CDiTPNG.h"

typedef struct {
  dit_png_status status;
  char *message;
  size_t message_size;
} dit_png_failure;

static inline void dit_png_note(dit_png_failure *failure, dit_png_status status, const char *text) {
  failure->status = status;
  if (failure->message_size > 0) snprintf(failure->message, failure->message_size, "%s", text);
}

// A status noted before png_error keeps its kind and text.
static inline void dit_png_on_error(png_structp png, png_const_charp text) {
  dit_png_failure *failure = png_get_error_ptr(png);
  if (failure->status == DIT_PNG_OK) dit_png_note(failure, DIT_PNG_DAMAGED, text);
  png_longjmp(png, 1);
}

static inline void dit_png_on_warning(png_structp png, png_const_charp text) {
  (void)png;
  (void)text;
}

#endif
