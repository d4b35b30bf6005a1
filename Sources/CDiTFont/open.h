// How the two files of this target open a font: find.c knows where, draw.c how.
#ifndef CDITFONT_OPEN_H
#define CDITFONT_OPEN_H

#include "CDiTFont.h"

dit_font *dit_font_open_path(const char *path, int index);

#endif
