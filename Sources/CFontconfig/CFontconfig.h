// The system's fontconfig (apt: libfontconfig-dev, brew: fontconfig). Only CDiTFont calls it.
#include <fontconfig/fontconfig.h>
