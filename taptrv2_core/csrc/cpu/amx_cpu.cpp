// Whether products can be made by AMX here.
#include "kernels.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#endif

namespace taptrv2 {

#if defined(__x86_64__) && defined(__linux__)

namespace {

bool processor_has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kBfloat16 = 1u << 22, kTiles = 1u << 24;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & kBfloat16) && (d & kTiles);
}

// Linux saves tiles only for processes that have asked; before 5.16 it knows no such request and saves none.
bool kernel_allows_amx() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// The user's wish, in the variable by which oneDNN is held to lesser instructions.
bool user_allows_amx() {
  const char* most = std::getenv("ONEDNN_MAX_CPU_ISA");
  const std::string set = most ? most : "DEFAULT";
  return set == "DEFAULT" || set.find("AMX") != std::string::npos;
}

}  // namespace

bool amx_usable() {
  static const bool usable =
      __builtin_cpu_supports("avx512bf16") && processor_has_amx() && user_allows_amx() && kernel_allows_amx();
  return usable;
}

#else

bool amx_usable() { return false; }

#endif

}  // namespace taptrv2
