#include "CDiTFont.h"

#include <stdlib.h>

#include <fontconfig/fontconfig.h>

#include "open.h"

struct dit_font_list {
  FcConfig *config;
  FcFontSet *sorted;
  size_t count;
  FcPattern *fonts[];  // of the set
};

// A configuration of its own for every call, so that threads share none.
static FcConfig *load(void) {
  FcConfig *config = FcConfigCreate();
  if (config == NULL) return NULL;
  // FcFalse: a machine that has no configuration has no fonts; that is not worth a line on stderr.
  if (FcConfigParseAndLoad(config, NULL, FcFalse) && FcConfigBuildFonts(config)) return config;
  FcConfigDestroy(config);
  return NULL;
}

// What is asked for. Defaults are set here and not by FcDefaultSubstitute, which asks the environment.
static FcPattern *wanted(const uint32_t *code_points, size_t count, const char *language) {
  FcPattern *pattern = FcPatternCreate();
  FcCharSet *characters = FcCharSetCreate();
  FcBool made = pattern != NULL && characters != NULL;
  for (size_t i = 0; made && i < count; i++) made = FcCharSetAddChar(characters, code_points[i]);
  made = made && FcPatternAddCharSet(pattern, FC_CHARSET, characters) &&
         FcPatternAddString(pattern, FC_FAMILY, (const FcChar8 *)"sans-serif") &&
         FcPatternAddString(pattern, FC_LANG, (const FcChar8 *)language) &&
         // Or FcConfigSubstitute adds the languages of LC_ALL, LC_CTYPE and LANG.
         FcPatternAddString(pattern, FC_LANG, (const FcChar8 *)"und") &&
         FcPatternAddInteger(pattern, FC_WEIGHT, FC_WEIGHT_REGULAR) &&
         FcPatternAddInteger(pattern, FC_WIDTH, FC_WIDTH_NORMAL) &&
         FcPatternAddInteger(pattern, FC_SLANT, FC_SLANT_ROMAN) && FcPatternAddBool(pattern, FC_OUTLINE, FcTrue) &&
         FcPatternAddBool(pattern, FC_COLOR, FcFalse) && FcPatternAddBool(pattern, FC_VARIABLE, FcFalse) &&
         FcPatternAddBool(pattern, FC_SYMBOL, FcFalse) && FcPatternAddBool(pattern, FC_DECORATIVE, FcFalse);
  if (characters != NULL) FcCharSetDestroy(characters);
  if (made) return pattern;
  if (pattern != NULL) FcPatternDestroy(pattern);
  return NULL;
}

// A pattern only ranks: fonts of bitmaps or colors alone come last, but they come.
static FcBool has_outlines(const FcPattern *font) {
  FcBool outline = FcFalse, color = FcFalse;
  FcPatternGetBool(font, FC_OUTLINE, 0, &outline);
  FcPatternGetBool(font, FC_COLOR, 0, &color);
  return outline == FcTrue && color != FcTrue;
}

// Whether the font has a character that fewer than two fonts before it have; counts those it has.
static FcBool adds(const FcPattern *font, const uint32_t *code_points, size_t count, uint8_t *had) {
  FcCharSet *characters;
  FcBool found = FcFalse;
  if (FcPatternGetCharSet(font, FC_CHARSET, 0, &characters) != FcResultMatch) return FcFalse;
  for (size_t i = 0; i < count; i++) {
    if (had[i] < 2 && FcCharSetHasChar(characters, code_points[i])) {
      had[i]++;
      found = FcTrue;
    }
  }
  return found;
}

static void choose(dit_font_list *list, const uint32_t *code_points, size_t count, size_t limit) {
  uint8_t *had = calloc(count, 1);
  for (int i = 0; had != NULL && i < list->sorted->nfont && list->count < limit; i++) {
    FcPattern *font = list->sorted->fonts[i];
    if (has_outlines(font) && adds(font, code_points, count, had)) list->fonts[list->count++] = font;
  }
  free(had);
}

dit_font_list *dit_font_find(const uint32_t *code_points, size_t count, const char *language, size_t limit) {
  if (count == 0 || limit == 0) return NULL;
  dit_font_list *list = calloc(1, sizeof *list + limit * sizeof list->fonts[0]);
  if (list == NULL) return NULL;
  list->config = load();
  FcPattern *pattern = list->config != NULL ? wanted(code_points, count, language) : NULL;
  if (pattern != NULL && FcConfigSubstitute(list->config, pattern, FcMatchPattern)) {
    FcResult result;
    list->sorted = FcFontSort(list->config, pattern, FcFalse, NULL, &result);
  }
  if (pattern != NULL) FcPatternDestroy(pattern);
  if (list->sorted != NULL) choose(list, code_points, count, limit);
  if (list->count > 0) return list;
  dit_font_free(list);
  return NULL;
}

size_t dit_font_count(const dit_font_list *list) { return list == NULL ? 0 : list->count; }

void dit_font_free(dit_font_list *list) {
  if (list == NULL) return;
  if (list->sorted != NULL) FcFontSetDestroy(list->sorted);
  if (list->config != NULL) FcConfigDestroy(list->config);
  free(list);
}

dit_font *dit_font_open_found(const dit_font_list *list, size_t index) {
  FcChar8 *path;
  int face = 0;
  if (list == NULL || index >= list->count) return NULL;
  if (FcPatternGetString(list->fonts[index], FC_FILE, 0, &path) != FcResultMatch) return NULL;
  FcPatternGetInteger(list->fonts[index], FC_INDEX, 0, &face);
  // The upper half numbers a named instance of a variable font; 0x8000 there means the font as it varies.
  if ((face >> 16 & 0xFFFF) == 0x8000) face &= 0xFFFF;
  return dit_font_open_path((const char *)path, face);
}
