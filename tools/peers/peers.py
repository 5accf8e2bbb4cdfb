#!/usr/bin/env python3
"""Times what PyTorch offers for (differential) attention. The README beside this says what each provider is."""

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

LAMBDA = 0.5
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
TOKENS = 16384


class Refused(Exception):
    """The provider does not do this shape; the text says why."""


@dataclass(frozen=True)
class Shape:
    """A differential problem; H and Hk count pairs of maps."""

    B: int
    Nq: int
    Nk: int
    H: int
    Hk: int
    d: int
    dv: int
    causal: bool = True
    window: int = 0
    v2: bool = False


def model(heads, kv_heads, d, dv, v2=False):
    causal = [Shape(TOKENS // n, n, n, heads, kv_heads, d, dv, True, 0, v2) for n in (2048, 4096, 8192, 16384)]
    return causal + [Shape(2, 8192, 8192, heads, kv_heads, d, dv, False, 0, v2)]


MODELS = model(12, 12, 128, 256) + model(20, 10, 64, 128) + model(16, 4, 128, 128, True)
SMALL = [Shape(2, 48, 48, 4, 2, 32, 64), Shape(1, 40, 40, 2, 2, 32, 64, False), Shape(2, 48, 48, 4, 2, 32, 32, True, 0, True)]


class Inputs:
    """q [B,N,H,2,d], k [B,N,Hk,2,d] (one map for v2), v [B,N,Hk,dv], all row-major, and the output's gradient."""

    def __init__(self, shape, dtype, device, seed=0):
        random = torch.Generator(device=device).manual_seed(seed)
        rows, keys = (shape.B, shape.Nq, shape.H), (shape.B, shape.Nk, shape.Hk)

        def normal(*size):
            return torch.randn(*size, device=device, dtype=torch.float32, generator=random).to(dtype)

        self.q = normal(*rows, 2, shape.d)
        self.k = normal(*keys, 1 if shape.v2 else 2, shape.d)
        self.v = normal(*keys, shape.dv)
        self.grad = normal(*rows, shape.dv)

    def to(self, dtype):
        other = object.__new__(Inputs)
        other.__dict__ = {name: tensor.detach().to(dtype) for name, tensor in self.__dict__.items()}
        return other

    def leaves(self):
        return [tensor.requires_grad_() for tensor in (self.q, self.k, self.v)]


def call(backend, shape, q, k, v):
    """[B,N,heads,dim] through one backend of scaled_dot_product_attention."""
    if shape.window:
        raise Refused("no sliding window in scaled_dot_product_attention")
    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    with sdpa_kernel(backend):
        out = F.scaled_dot_product_attention(q, k, v, is_causal=shape.causal, enable_gqa=q.shape[1] != k.shape[1])
    return out.transpose(1, 2)


def standard(backend):
    """The pairs of heads as heads of their own; the values' halves with them, but for v2."""

    def run(shape, x):
        q, k = x.q.flatten(2, 3), x.k.flatten(2, 3)
        v = x.v if shape.v2 else x.v.unflatten(-1, (2, -1)).flatten(2, 3)
        return call(backend, shape, q, k, v)

    return run


def differential(backend, halves):
    """One call for each map and each part of the value."""

    def run(shape, x):
        parts = x.v.chunk(1 if shape.v2 else halves, -1)
        maps = []
        for m in range(2):
            q, k = x.q[:, :, :, m], x.k[:, :, :, min(m, x.k.shape[3] - 1)]
            outputs = [call(backend, shape, q, k, part) for part in parts]
            maps.append(outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1))
        return maps[0] - LAMBDA * maps[1]

    return run


def naive(shape, x):
    """Both maps in memory; in float64 the reference."""
    group = shape.H // shape.Hk
    k, v = x.k.repeat_interleave(group, 2), x.v.repeat_interleave(group, 2)
    scores = torch.einsum("bqhmd,bkhmd->bhmqk", x.q, k.expand(*k.shape[:3], 2, -1)) / math.sqrt(shape.d)
    needed = scores.numel() * scores.element_size() * 6
    if scores.is_cuda and needed > torch.cuda.mem_get_info()[0]:
        raise Refused("the maps do not fit the memory")
    if shape.causal:
        hidden = torch.ones(shape.Nq, shape.Nk, dtype=torch.bool, device=scores.device).triu(1 + shape.Nk - shape.Nq)
        scores = scores.masked_fill(hidden, -math.inf)
    maps = scores.softmax(-1)
    return torch.einsum("bhqk,bkhd->bqhd", maps[:, :, 0] - LAMBDA * maps[:, :, 1], v)


def providers(device):
    cudnn, flash = SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION
    if device == "cpu":  # to try this program: one backend stands for all
        cudnn = flash = SDPBackend.MATH
    return {
        "std_cudnn": standard(cudnn),
        "std_flash": standard(flash),
        "diff_two_cudnn": differential(cudnn, 1),
        "diff_four_cudnn": differential(cudnn, 2),
        "diff_four_flash": differential(flash, 2),
        "diff_naive": naive,
    }


def check(device, dtype):
    """Every differential provider and its gradients against float64; how many are wrong."""
    wrong, allowed = 0, {"bf16": 3e-2, "f16": 4e-3, "f32": 1e-5}[dtype]
    for shape in SMALL:
        x = Inputs(shape, DTYPES[dtype], device)
        exact = gradients(naive, shape, x.to(torch.float64))
        for name, run in providers(device).items():
            if name.startswith("std_"):
                continue
            try:
                ours = gradients(run, shape, x.to(DTYPES[dtype]))
            except (Refused, RuntimeError) as reason:
                print(f"{name} {shape}: SKIPPED: {first_line(reason)}")
                continue
            errors = [float((a.double() - b).norm() / b.norm()) for a, b in zip(ours, exact)]
            good = all(error <= allowed for error in errors)
            wrong += not good
            print(f"{name} {shape}: {'ok' if good else 'WRONG'}", *(f"{error:.1e}" for error in errors))
    return wrong


def gradients(run, shape, x):
    leaves = x.leaves()
    out = run(shape, x)
    return [out.detach(), *torch.autograd.grad(out, leaves, x.grad)]


def milliseconds(work):
    """Times of repeated calls by the device's clock, warm; sorted."""
    work()
    torch.cuda.synchronize()
    times, started = [], time.monotonic()
    while len(times) < 7 or (time.monotonic() - started < 0.5 and len(times) < 62):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return sorted(times[2:])


def measure(run, shape, x, passes):
    """The times of a provider's passes, by name."""
    found = {}
    if "fwd" in passes:
        with torch.no_grad():
            found["fwd"] = milliseconds(lambda: run(shape, x))
    if "bwd" in passes:
        leaves = x.leaves()
        out = run(shape, x)
        grad = torch.randn_like(out)
        found["bwd"] = milliseconds(lambda: torch.autograd.grad(out, leaves, grad, retain_graph=True))
    return found


def first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0]


def bench(options):
    records, started, device = [], time.monotonic(), torch.cuda.get_device_name()
    for shape in MODELS:
        for name, run in providers("cuda").items():
            entry = {"provider": name, "shape": asdict(shape), "dtype": options.dtype, "device": device}
            passes = ["fwd", "bwd"] if shape.Nq == 4096 else ["fwd"]
            try:
                if time.monotonic() - started > options.seconds:
                    raise Refused("no time left")
                times = measure(run, shape, Inputs(shape, DTYPES[options.dtype], "cuda"), passes)
            except (Refused, RuntimeError) as reason:
                records += [entry | {"pass": p, "skipped": first_line(reason)} for p in passes]
                print(name, shape, "SKIPPED:", first_line(reason))
                continue
            finally:
                torch.cuda.empty_cache()
            for p, sorted_times in times.items():
                at = lambda part: sorted_times[round((len(sorted_times) - 1) * part)]
                records.append(entry | {"pass": p, "median_ms": at(0.5), "p20_ms": at(0.2), "p80_ms": at(0.8)})
                print(name, shape, p, f"{at(0.5):.3f} ms")
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    with open(options.json, "w") as file:
        json.dump({"versions": versions, "results": records}, file, indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--dtype", choices=list(DTYPES), default="bf16")
    parser.add_argument("--check", action="store_true", help="compare with float64, and time nothing")
    parser.add_argument("--json", default="peers.json", help="where the times go")
    parser.add_argument("--seconds", type=float, default=500, help="no measurement is begun after so long")
    options = parser.parse_args()
    wrong = check(options.device, options.dtype)
    if not options.check:
        if options.device == "cpu":
            parser.error("a CPU is for --check")
        bench(options)
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
