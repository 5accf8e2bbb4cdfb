// The kernel of tests/cluster.rs, compiled by NVRTC 12.9 with --gpu-architecture=sm_90a -default-device.
typedef unsigned u32;
struct alignas(64) Map { char b[128]; };

__device__ u32 sa(const void* p) { return (u32)__cvta_generic_to_shared(p); }
__device__ u32 mapa(u32 a, u32 rank) { u32 r; asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(rank)); return r; }
__device__ u32 rank() { u32 r; asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r)); return r; }
__device__ void init(u32 b, u32 n) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(b), "r"(n) : "memory"); }
__device__ void fence_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ void expect(u32 b, u32 n) { asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(b), "r"(n) : "memory"); }
__device__ void arrive_remote(u32 b) { asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" :: "r"(b) : "memory"); }
__device__ void wait(u32 b, u32 parity) {
    asm volatile("{\n.reg .pred p;\nL: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%0], %1;\n@!p bra L;\n}" :: "r"(b), "r"(parity) : "memory");
}

// Each CTA of a pair loads one half of every tile and multicasts it to both; warp 0 produces, warps 1.. consume.
// mode bits: 1 the consumers release their stage only to their own CTA, 2 no cluster barrier at the end,
// 4 no cluster barrier at the start
extern "C" __global__ void __cluster_dims__(2, 1, 1) multicast(const __grid_constant__ Map map, float* out, u32 tiles, u32 mode) {
    const int ROWS = 16, COLS = 64, STAGES = 2;
    __shared__ alignas(1024) float tile[STAGES][ROWS * COLS];
    __shared__ alignas(8) unsigned long long full[STAGES], empty[STAGES];
    u32 r = rank(), t = threadIdx.x, consumers = blockDim.x / 32 - 1;
    if (t == 0) {
        for (int i = 0; i < STAGES; i++) {
            init(sa(&full[i]), 1);
            init(sa(&empty[i]), (mode & 1 ? 1 : 2) * consumers);
        }
        fence_init();
    }
    if (mode & 4) __syncthreads(); else cluster_sync();
    if (t < 32) {
        if (t == 0) for (u32 k = 0; k < tiles; k++) {
            u32 s = k % STAGES;
            if (k >= STAGES) wait(sa(&empty[s]), (k / STAGES - 1) & 1);
            expect(sa(&full[s]), ROWS * COLS * 4);
            asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;"
                :: "r"(sa(&tile[s][r * ROWS / 2 * COLS])), "l"(&map), "r"(0), "r"((int)(k * ROWS + r * ROWS / 2)), "r"(sa(&full[s])), "h"((short)3) : "memory");
        }
    } else {
        u32 c = t - 32, n = consumers * 32;
        float acc = 0;
        for (u32 k = 0; k < tiles; k++) {
            u32 s = k % STAGES;
            wait(sa(&full[s]), k / STAGES & 1);
            for (u32 i = c; i < ROWS * COLS; i += n) acc += tile[s][i] * (float)(k + 1 + r);
            __syncwarp();
            if (t % 32 < 2 && (!(mode & 1) || t % 32 == r)) arrive_remote(mapa(sa(&empty[s]), t % 32));
        }
        out[blockIdx.x * n + c] = acc;
    }
    if (!(mode & 2)) cluster_sync();
}
