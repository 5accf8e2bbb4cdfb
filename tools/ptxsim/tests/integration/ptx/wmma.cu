// Kernels of tests/wmma.rs, compiled by NVRTC 12.9 with --gpu-architecture=sm_90a -default-device.
#include <mma.h>
using namespace nvcuda;

// d = half(2 a b + c): accumulators change their type element by element.
extern "C" __global__ void halves(const __half* a, const __half* b, const float* c, __half* d) {
    wmma::fragment<wmma::matrix_a, 32, 8, 16, __half, wmma::row_major> fa;
    wmma::fragment<wmma::matrix_b, 32, 8, 16, __half, wmma::col_major> fb;
    wmma::fragment<wmma::accumulator, 32, 8, 16, float> fc;
    wmma::fragment<wmma::accumulator, 32, 8, 16, __half> fd;
    wmma::load_matrix_sync(fa, a, 16);
    wmma::load_matrix_sync(fb, b, 16);
    wmma::load_matrix_sync(fc, c, 8, wmma::mem_row_major);
    for (int i = 0; i < fa.num_elements; i++) fa.x[i] = fa.x[i] * __float2half(2.0f);
    wmma::mma_sync(fc, fa, fb, fc);
    for (int i = 0; i < fc.num_elements; i++) fd.x[i] = __float2half(fc.x[i]);
    wmma::store_matrix_sync(d, fd, 32, wmma::mem_col_major);
}

// d = a b over 32 columns of a, through shared memory.
extern "C" __global__ void singles(const float* a, const float* b, float* d) {
    __shared__ alignas(32) float tile[16 * 32];
    wmma::fragment<wmma::matrix_a, 16, 16, 8, wmma::precision::tf32, wmma::row_major> fa;
    wmma::fragment<wmma::matrix_b, 16, 16, 8, wmma::precision::tf32, wmma::row_major> fb;
    wmma::fragment<wmma::accumulator, 16, 16, 8, float> fd;
    for (int i = threadIdx.x; i < 16 * 32; i += 32) tile[i] = wmma::__float_to_tf32(a[i]);
    __syncthreads();
    wmma::fill_fragment(fd, 0.0f);
    for (int k = 0; k < 32; k += 8) {
        wmma::load_matrix_sync(fa, tile + k, 32);
        wmma::load_matrix_sync(fb, b + k * 16, 16);
        for (int i = 0; i < fb.num_elements; i++) fb.x[i] = wmma::__float_to_tf32(fb.x[i]);
        wmma::mma_sync(fd, fa, fb, fd);
    }
    wmma::store_matrix_sync(d, fd, 16, wmma::mem_row_major);
}
