// The system's libpng (apt: libpng-dev, brew: libpng). Swift never calls it: its errors are longjmps, which
// CDiTPNG confines.
#include <png.h>
