// The CPU kernels for what every machine of the architecture has.
#include "kernels.h"

#define TAPTRV2_ISA baseline
#define TAPTRV2_VECTOR_BYTES 16
#include "kernels.inl"
