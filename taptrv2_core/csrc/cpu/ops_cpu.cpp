// The ops on the CPU: picks the kernels for this machine and spreads them over torch's threads.
#include <ATen/Parallel.h>
#include <ATen/Version.h>

#include <string>

#include "../run.h"
#include "kernels.h"

namespace taptrv2 {

InstructionSet instruction_set() {
  static const InstructionSet set = [] {
    const std::string capability = at::get_cpu_capability();
    if (capability == "AVX512") return InstructionSet::kAvx512;
    return capability == "AVX2" ? InstructionSet::kAvx2 : InstructionSet::kBaseline;
  }();
  return set;
}

namespace {

// Rows that are worth a thread's start: some tens of microseconds.
int64_t grain(const Problem& p) {
  const int64_t work = int64_t(4) * p.heads * p.levels * p.points * p.channels;
  return 1 + 200000 / work;
}

struct Cpu {
  struct Guard {
    explicit Guard(at::Device) {}
  };

  static void multi_scale_forward(const MultiScale& p) {
    const Kernels kernels = TAPTRV2_KERNELS(kernels, p.storage, p.channels);
    at::parallel_for(0, p.batches * p.queries, grain(p),
                     [&](int64_t first, int64_t last) { kernels.multi_scale_forward(p, first, last); });
  }

  static void multi_scale_backward(const MultiScale& p) {
    const Kernels kernels = TAPTRV2_KERNELS(kernels, p.storage, p.channels);
    at::parallel_for(0, p.batches * p.heads, 1,
                     [&](int64_t first, int64_t last) { kernels.multi_scale_backward(p, first, last); });
  }

  static void key_aware_forward(const KeyAware& p) {
    const Kernels kernels = TAPTRV2_KERNELS(kernels, p.storage, p.channels);
    at::parallel_for(0, p.batches * p.queries, grain(p),
                     [&](int64_t first, int64_t last) { kernels.key_aware_forward(p, first, last); });
  }

  static void key_aware_backward(const KeyAware& p) {
    const Kernels kernels = TAPTRV2_KERNELS(kernels, p.storage, p.channels);
    at::parallel_for(0, p.ring * p.heads, 1,
                     [&](int64_t first, int64_t last) { kernels.key_aware_backward(p, first, last); });
  }

  static void check_slots(const KeyAware& p) {
    for (int64_t f = 0; f < p.batches; ++f) {
      TORCH_CHECK(p.slots[f] >= 0 && p.slots[f] < p.ring, "key_aware_deformable_attention: slots[", f, "] is ",
                  p.slots[f], ", the ring has ", p.ring, " slots");
    }
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(taptrv2, CPU, m) { Run<Cpu>::register_ops(m); }

}  // namespace taptrv2
