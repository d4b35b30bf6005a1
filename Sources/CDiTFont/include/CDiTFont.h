// Glyphs of fonts as coverage, over FreeType, and which fonts of the machine have which characters, over fontconfig.
//
// Their structures are large and hold unions: they stay in this target. Nothing here keeps state between calls or prints (fontconfig does, about a broken configuration or a cache that it cannot write);
// two fonts may be used on two threads at once, one font may not.
#ifndef CDITFONT_H
#define CDITFONT_H

#include <stddef.h>
#include <stdint.h>

// The fonts of the machine that have some of the characters asked for, best first.
typedef struct dit_font_list dit_font_list;

// Asks fontconfig for upright regular fonts with outlines that have any of `code_points`, those first that have the most.
// A font is listed for characters that fewer than two before it have, so that one which cannot be read is made up for.
// At most `limit` are listed. `language` (RFC 3066, as "zh-cn") decides between fonts of equal coverage. NULL where the
// machine has no such font, or no configuration of fonts. The configuration is read anew at every call; it is what
// FONTCONFIG_FILE names, or the system's.
dit_font_list *dit_font_find(const uint32_t *code_points, size_t count, const char *language, size_t limit);

size_t dit_font_count(const dit_font_list *list);
void dit_font_free(dit_font_list *list);

typedef struct dit_font dit_font;

// Opens a font of the list; NULL where it cannot be read, or has no outlines or no Unicode character map.
dit_font *dit_font_open_found(const dit_font_list *list, size_t index);

// Opens the first font of a file in memory, which is copied. NULL as above; then `message` says why.
dit_font *dit_font_open(const uint8_t *data, size_t count, char *message, size_t message_size);

void dit_font_close(dit_font *font);

// 1 where the font has the character, 0 where it has not.
int dit_font_has(dit_font *font, uint32_t code_point);

// A glyph in whole pixels: how far the next one stands, where the upper left pixel of the coverage lies (`left` to the
// right of the pen, `top` above the base line: a top of 1 is the row on the base line), and its extent, 0×0 where
// nothing is inked.
typedef struct {
  int32_t advance;
  int32_t left;
  int32_t top;
  uint32_t width;
  uint32_t height;
} dit_font_glyph;

// The glyph of a character at `pixels` to the em, 1 to 256, not hinted. `coverage`, of 16·pixels² bytes, receives
// height rows of width bytes, 0 to 255. Returns 0 where the font has not the character, or its glyph cannot be drawn or
// is more than four ems wide, high, or away from the pen.
int dit_font_draw(dit_font *font, uint32_t code_point, uint32_t pixels, dit_font_glyph *glyph, uint8_t *coverage,
                  size_t coverage_size);

// Whole pixels by which the second of two characters is moved, −pixels to pixels.
int32_t dit_font_kerning(dit_font *font, uint32_t first, uint32_t second, uint32_t pixels);

#endif
