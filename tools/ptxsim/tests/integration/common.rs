//! What several tests need.

use ptxsim::*;

/// Before any kernel.
pub const HEAD: &str = ".version 8.0\n.target sm_90a\n.address_size 64\n";

/// Reproducible random numbers.
pub struct Rng(pub u64);

impl Rng {
    pub fn bits(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    /// In [-1, 1).
    pub fn next(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Launches the kernel `k` of some PTX.
pub fn launch(
    dev: &mut Device,
    source: &str,
    launch: &Launch,
    args: &[Arg],
) -> Result<Stats, Error> {
    dev.launch(&Module::load(source)?, "k", launch, args)
}

/// One CTA.
pub fn block(threads: u32) -> Launch {
    Launch::new([1; 3], [threads, 1, 1])
}

/// Every combination of modes and schedules.
pub fn every_order(launch: &Launch) -> Vec<Launch> {
    let modes = [Mode::Eager, Mode::Lazy, Mode::Random(1), Mode::Random(2)];
    let schedules = [
        Schedule::RoundRobin,
        Schedule::LowFirst,
        Schedule::HighFirst,
        Schedule::Random(3),
    ];
    let order = |mode| {
        schedules.map(|schedule| Launch {
            mode,
            schedule,
            ..launch.clone()
        })
    };
    modes.into_iter().flat_map(order).collect()
}

/// Runs `body` in one thread per row of inputs: `%a`, `%b`, `%c` (and `%fa`, `%fb`, `%fc`) are the inputs, `%d` (and
/// `%e`, if it is written) the results.
pub fn per_lane(body: &str, inputs: &[[u32; 3]]) -> Result<Vec<[u32; 2]>, Error> {
    let source = format!(
        "{HEAD}.visible .entry k(.param .u64 in, .param .u64 out)
{{
.reg .pred %p<8>;
.reg .b16 %h<16>;
.reg .b32 %a, %b, %c, %d, %e, %t, %lane, %r<16>;
.reg .f32 %fa, %fb, %fc, %f<16>;
.reg .b64 %in, %out, %at, %rd<16>;
ld.param.u64 %in, [in];
ld.param.u64 %out, [out];
mov.u32 %t, %tid.x;
mov.u32 %lane, %laneid;
mad.wide.u32 %at, %t, 12, %in;
ld.global.u32 %a, [%at];
ld.global.u32 %b, [%at+4];
ld.global.u32 %c, [%at+8];
mov.b32 %fa, %a;
mov.b32 %fb, %b;
mov.b32 %fc, %c;
{body}
mad.wide.u32 %at, %t, 8, %out;
st.global.v2.u32 [%at], {{%d, %e}};
ret;
}}
"
    );
    let mut dev = Device::new();
    let (input, out) = (dev.upload(&inputs.concat()), dev.alloc(inputs.len() * 8));
    let threads = block(inputs.len() as u32);
    launch(&mut dev, &source, &threads, &[input.into(), out.into()])?;
    let out: Vec<u32> = dev.download(out)?;
    Ok(out.chunks(2).map(|r| [r[0], r[1]]).collect())
}

/// Checks `%d` (and `%e`) of `body` for many inputs.
pub fn check2(body: &str, inputs: &[[u32; 3]], expected: impl Fn(u32, u32, u32) -> [u32; 2]) {
    let run = |inputs| per_lane(body, inputs).unwrap_or_else(|e| panic!("{body}: {e}"));
    let results = inputs.chunks(512).flat_map(run);
    for ([a, b, c], result) in inputs.iter().zip(results) {
        let expected = expected(*a, *b, *c);
        assert_eq!(
            result, expected,
            "{body}: {a:#x} {b:#x} {c:#x}: {result:#x?}, not {expected:#x?}"
        );
    }
}

/// Checks `%d`.
pub fn check(body: &str, inputs: &[[u32; 3]], expected: impl Fn(u32, u32, u32) -> u32) {
    check2(&format!("mov.u32 %e, 0;\n{body}"), inputs, |a, b, c| {
        [expected(a, b, c), 0]
    });
}

/// All pairs of these, with a third number each.
pub fn pairs(numbers: &[u32]) -> Vec<[u32; 3]> {
    let n = numbers.len();
    (0..n * n)
        .map(|i| [numbers[i / n], numbers[i % n], numbers[(i * 7 + i / n) % n]])
        .collect()
}
