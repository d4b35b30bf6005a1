// The system's zlib: what numpy's compressed archives need.
#pragma once
#include <zlib.h>
