// The system's OpenBLAS (cblas.h, its own extensions included) and LAPACKE, as one Swift module.
#pragma once
#include <cblas.h>
#include <lapacke.h>
