#include "CDiTFont.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ft2build.h>
#include FT_FREETYPE_H
#include FT_OUTLINE_H

#include "open.h"

struct dit_font {
  FT_Library library;
  FT_Face face;
  uint8_t *data;  // what the face reads from; NULL where it reads a file
};

static void note(char *message, size_t size, const char *text) {
  if (size > 0) snprintf(message, size, "%s", text);
}

// Takes `data` over.
static dit_font *open_font(const char *path, int index, uint8_t *data, size_t count, char *message, size_t size) {
  dit_font *font = calloc(1, sizeof *font);
  if (font == NULL) {
    free(data);
    note(message, size, "no memory");
    return NULL;
  }
  font->data = data;
  FT_Error error = FT_Init_FreeType(&font->library);
  if (!error) {
    error = path != NULL ? FT_New_Face(font->library, path, index, &font->face)
                         : FT_New_Memory_Face(font->library, data, (FT_Long)count, index, &font->face);
  }
  const char *problem = NULL;
  char code[48];
  if (error == FT_Err_Unknown_File_Format) {
    problem = "a format that FreeType does not know";
  } else if (error) {
    snprintf(code, sizeof code, "a broken font, or none (FreeType's error %d)", error);
    problem = code;
  } else if (!FT_IS_SCALABLE(font->face)) {
    problem = "a font without outlines";
  } else if (FT_Select_Charmap(font->face, FT_ENCODING_UNICODE)) {
    problem = "a font without a Unicode character map";
  }
  if (problem == NULL) return font;
  note(message, size, problem);
  dit_font_close(font);
  return NULL;
}

dit_font *dit_font_open_path(const char *path, int index) { return open_font(path, index, NULL, 0, NULL, 0); }

dit_font *dit_font_open(const uint8_t *data, size_t count, char *message, size_t message_size) {
  uint8_t *copy = malloc(count > 0 ? count : 1);
  if (copy == NULL) {
    note(message, message_size, "no memory");
    return NULL;
  }
  if (count > 0) memcpy(copy, data, count);
  return open_font(NULL, 0, copy, count, message, message_size);
}

void dit_font_close(dit_font *font) {
  if (font == NULL) return;
  if (font->face != NULL) FT_Done_Face(font->face);
  if (font->library != NULL) FT_Done_FreeType(font->library);
  free(font->data);
  free(font);
}

int dit_font_has(dit_font *font, uint32_t code_point) { return FT_Get_Char_Index(font->face, code_point) != 0; }

static int set_size(dit_font *font, uint32_t pixels) {
  return pixels >= 1 && pixels <= 256 && !FT_Set_Pixel_Sizes(font->face, 0, pixels);
}

// 26.6 fixed point to whole pixels within ±limit.
static int32_t whole(FT_Pos length, int32_t limit) {
  if (length > (FT_Pos)limit * 64) return limit;
  if (length < (FT_Pos)limit * -64) return -limit;
  return (int32_t)((length + 32) >> 6);
}

int dit_font_draw(dit_font *font, uint32_t code_point, uint32_t pixels, dit_font_glyph *glyph, uint8_t *coverage,
                  size_t coverage_size) {
  const FT_UInt index = FT_Get_Char_Index(font->face, code_point);
  if (index == 0 || !set_size(font, pixels)) return 0;
  if (FT_Load_Glyph(font->face, index, FT_LOAD_NO_HINTING | FT_LOAD_NO_BITMAP)) return 0;
  FT_GlyphSlot slot = font->face->glyph;
  if (slot->format != FT_GLYPH_FORMAT_OUTLINE) return 0;
  const int32_t side = 4 * (int32_t)pixels;
  *glyph = (dit_font_glyph){.advance = slot->advance.x > 0 ? whole(slot->advance.x, side) : 0};
  if (slot->outline.n_points == 0) return 1;
  // Before anything of its size is allocated: the box of the outline, with a pixel that rounding outwards may add.
  FT_BBox box;
  FT_Outline_Get_CBox(&slot->outline, &box);
  const FT_Pos limit = (FT_Pos)(side - 1) * 64;
  if (box.xMin < -limit || box.yMin < -limit || box.xMax > limit || box.yMax > limit ||
      box.xMax - box.xMin > limit - 64 || box.yMax - box.yMin > limit - 64) {
    return 0;
  }
  if (FT_Render_Glyph(slot, FT_RENDER_MODE_NORMAL)) return 0;
  const FT_Bitmap *bitmap = &slot->bitmap;
  if (bitmap->width == 0 || bitmap->rows == 0) return 1;
  if (bitmap->pixel_mode != FT_PIXEL_MODE_GRAY || bitmap->pitch < (int)bitmap->width ||
      bitmap->width > (unsigned)side || bitmap->rows > (unsigned)side ||
      (size_t)bitmap->width * bitmap->rows > coverage_size) {
    return 0;
  }
  for (unsigned row = 0; row < bitmap->rows; row++) {
    memcpy(coverage + (size_t)row * bitmap->width, bitmap->buffer + (size_t)row * bitmap->pitch, bitmap->width);
  }
  glyph->left = slot->bitmap_left;
  glyph->top = slot->bitmap_top;
  glyph->width = bitmap->width;
  glyph->height = bitmap->rows;
  return 1;
}

int32_t dit_font_kerning(dit_font *font, uint32_t first, uint32_t second, uint32_t pixels) {
  if (!FT_HAS_KERNING(font->face) || !set_size(font, pixels)) return 0;
  const FT_UInt left = FT_Get_Char_Index(font->face, first), right = FT_Get_Char_Index(font->face, second);
  FT_Vector shift;
  if (left == 0 || right == 0 || FT_Get_Kerning(font->face, left, right, FT_KERNING_UNFITTED, &shift)) return 0;
  return whole(shift.x, (int32_t)pixels);
}
