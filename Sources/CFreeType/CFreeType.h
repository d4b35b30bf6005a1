// The system's FreeType (apt: libfreetype-dev, brew: freetype). Only CDiTFont calls it.
#include <ft2build.h>
#include FT_FREETYPE_H
#include FT_OUTLINE_H
