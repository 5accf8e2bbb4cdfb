//! wmma, whatever the layout of its fragments: loads, stores and products; and mma of tf32.
use crate::common::{HEAD, Rng, block, launch};
use half::{bf16, f16};
use ptxsim::*;

type Shape = (usize, usize, usize);

const SHAPES: [Shape; 3] = [(16, 16, 16), (32, 8, 16), (8, 32, 16)];

/// A number format: how it is stored, and what a stored number means to a tensor core.
#[derive(Clone, Copy)]
struct Format {
    name: &'static str,
    encode: fn(f32) -> u32,
    decode: fn(u32) -> f64,
    bytes: usize,
}

const F16: Format = Format {
    name: "f16",
    encode: |x| f16::from_f32(x).to_bits() as u32,
    decode: |x| f16::from_bits(x as u16).to_f64(),
    bytes: 2,
};

const BF16: Format = Format {
    name: "bf16",
    encode: |x| bf16::from_f32(x).to_bits() as u32,
    decode: |x| bf16::from_bits(x as u16).to_f64(),
    bytes: 2,
};

/// The low 13 bits do not count, whatever they are.
const TF32: Format = Format {
    name: "tf32",
    encode: f32::to_bits,
    decode: |x| f32::from_bits(x & 0xffff_e000) as f64,
    bytes: 4,
};

const F32: Format = Format {
    name: "f32",
    encode: f32::to_bits,
    decode: |x| f32::from_bits(x) as f64,
    bytes: 4,
};

/// A matrix as it lies in memory.
#[derive(Clone, Copy)]
struct Storage {
    format: Format,
    rows: usize,
    columns: usize,
    by_columns: bool,
    /// Elements from one row or column to the next, more than it has.
    stride: usize,
}

impl Storage {
    fn new(format: Format, (rows, columns): (usize, usize), by_columns: bool) -> Self {
        let length = if by_columns { rows } else { columns };
        Self {
            format,
            rows,
            columns,
            by_columns,
            stride: length + 16,
        }
    }

    fn layout(&self) -> &'static str {
        if self.by_columns { "col" } else { "row" }
    }

    fn elements(&self) -> usize {
        self.stride
            * if self.by_columns {
                self.columns
            } else {
                self.rows
            }
    }

    fn bytes(&self) -> usize {
        self.elements() * self.format.bytes
    }

    fn offset(&self, row: usize, column: usize) -> usize {
        match self.by_columns {
            true => column * self.stride + row,
            false => row * self.stride + column,
        }
    }

    /// Numbers everywhere, also between the rows.
    fn random(&self, rng: &mut Rng) -> Vec<u32> {
        let number = |_| (self.format.encode)(rng.next());
        (0..self.elements()).map(number).collect()
    }

    fn upload(&self, dev: &mut Device, elements: &[u32]) -> Buffer {
        let bytes = elements
            .iter()
            .flat_map(|x| x.to_le_bytes().into_iter().take(self.format.bytes));
        dev.upload(&bytes.collect::<Vec<u8>>())
    }

    fn download(&self, dev: &Device, buffer: Buffer) -> Vec<u32> {
        let bytes: Vec<u8> = dev.download(buffer).unwrap();
        let element = |b: &[u8]| b.iter().rev().fold(0, |v, b| v << 8 | *b as u32);
        bytes.chunks(self.format.bytes).map(element).collect()
    }
}

/// `{%x0, %x1}`
fn list(name: &str, n: usize) -> String {
    let names: Vec<_> = (0..n).map(|i| format!("%{name}{i}")).collect();
    format!("{{{}}}", names.join(", "))
}

/// Registers of a fragment of A or B, as the ISA's tables say.
fn factor_registers(format: Format, rows: usize, columns: usize) -> usize {
    match format.name {
        "f16" => 8,
        _ => rows * columns * format.bytes / 128,
    }
}

fn accumulator_registers(format: Format) -> usize {
    if format.name == "f16" { 4 } else { 8 }
}

fn kernel(body: &str) -> String {
    format!(
        "{HEAD}.visible .entry k(.param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u64 pd)
{{
.reg .pred %p<4>;
.reg .b32 %a<8>, %b<8>, %c<8>, %d<8>, %r<8>;
.reg .b64 %rd<8>;
.shared .align 128 .b8 sm[8192];
ld.param.u64 %rd0, [pa];
ld.param.u64 %rd1, [pb];
ld.param.u64 %rd2, [pc];
ld.param.u64 %rd3, [pd];
mov.u32 %r0, %tid.x;
{body}
ret;
}}
"
    )
}

/// One product: each matrix with its own layout and rows apart.
fn product((m, n, k): Shape, format: Format, [c, d]: [Format; 2], layouts: [bool; 4]) {
    let a = Storage::new(format, (m, k), layouts[0]);
    let b = Storage::new(format, (k, n), layouts[1]);
    let c = Storage::new(c, (m, n), layouts[2]);
    let d = Storage::new(d, (m, n), layouts[3]);
    let shape = format!("m{m}n{n}k{k}");
    let (na, nb) = (
        factor_registers(format, m, k),
        factor_registers(format, k, n),
    );
    let (nc, nd) = (
        accumulator_registers(c.format),
        accumulator_registers(d.format),
    );
    let types = match format.name {
        "f16" => format!("{}.{}", d.format.name, c.format.name),
        name => format!("f32.{name}.{name}.f32"),
    };
    let load = |matrix: &str, s: &Storage, registers: usize, from: &str| {
        let (layout, ty, list) = (s.layout(), s.format.name, list(matrix, registers));
        format!(
            "wmma.load.{matrix}.sync.aligned.{layout}.{shape}.global.{ty} {list}, [{from}], {};\n",
            s.stride
        )
    };
    let body = format!(
        "{}{}{}mov.u32 %r1, {};\nwmma.mma.sync.aligned.{}.{}.{shape}.{types} {}, {}, {}, {};\n\
         wmma.store.d.sync.aligned.{}.{shape}.global.{} [%rd3], {}, %r1;",
        load("a", &a, na, "%rd0"),
        load("b", &b, nb, "%rd1"),
        load("c", &c, nc, "%rd2"),
        d.stride,
        a.layout(),
        b.layout(),
        list("d", nd),
        list("a", na),
        list("b", nb),
        list("c", nc),
        d.layout(),
        d.format.name,
        list("d", nd),
    );
    let mut rng = Rng(7);
    let numbers = [&a, &b, &c].map(|s| s.random(&mut rng));
    let mut dev = Device::new();
    let [pa, pb, pc] = [(&a, 0), (&b, 1), (&c, 2)].map(|(s, i)| s.upload(&mut dev, &numbers[i]));
    let pd = dev.alloc(d.bytes());
    let args = [pa.into(), pb.into(), pc.into(), pd.into()];
    let stats = launch(&mut dev, &kernel(&body), &block(32), &args);
    assert_eq!(stats.unwrap_or_else(|e| panic!("{body}\n{e}")).mma, 1);
    let found = d.download(&dev, pd);
    let at =
        |s: &Storage, i: usize, row, column| (s.format.decode)(numbers[i][s.offset(row, column)]);
    // A sum of a few products, and the rounding of the result.
    let bound = if d.format.name == "f16" { 4e-3 } else { 4e-6 };
    for row in 0..m {
        for column in 0..n {
            let terms = (0..k).map(|x| at(&a, 0, row, x) * at(&b, 1, x, column));
            let expected = at(&c, 2, row, column) + terms.sum::<f64>();
            let x = (d.format.decode)(found[d.offset(row, column)]);
            assert!(
                (x - expected).abs() < bound,
                "{shape} {types} {layouts:?} row {row} column {column}: {x}, not {expected}"
            );
        }
    }
    let between = (0..d.elements()).filter(|i| i % d.stride >= d.stride - 16);
    let untouched = if d.format.bytes == 2 {
        0xffff
    } else {
        u32::MAX
    };
    assert!(
        between.map(|i| found[i]).all(|x| x == untouched),
        "{shape}: {d:?}",
        d = d.layout()
    );
}

/// Every combination of layouts of four matrices.
fn layouts() -> impl Iterator<Item = [bool; 4]> {
    (0..16).map(|bits: u32| std::array::from_fn(|i| bits >> i & 1 == 1))
}

#[test]
fn products_of_halves() {
    for (shape, layouts) in SHAPES
        .into_iter()
        .flat_map(|s| layouts().map(move |l| (s, l)))
    {
        for accumulators in [[F32, F32], [F16, F16], [F16, F32], [F32, F16]] {
            product(shape, F16, accumulators, layouts);
        }
        product(shape, BF16, [F32, F32], layouts);
    }
}

/// Of inputs all of whose bits are set at random.
#[test]
fn products_of_tf32() {
    for layouts in layouts() {
        product((16, 16, 8), TF32, [F32, F32], layouts);
    }
}

/// What a load brings in one layout a store takes out in the other; without a stride, rows follow each other.
#[test]
fn transposed_on_the_way() {
    for (m, n, k) in SHAPES {
        for format in [F16, F32] {
            let (ty, list) = (format.name, list("c", accumulator_registers(format)));
            let body = format!(
                "wmma.load.c.sync.aligned.row.m{m}n{n}k{k}.global.{ty} {list}, [%rd0];\n\
                 wmma.store.d.sync.aligned.col.m{m}n{n}k{k}.{ty} [%rd3], {list};"
            );
            let numbers: Vec<u32> = (0..m * n).map(|i| (format.encode)(i as f32)).collect();
            let storage = Storage {
                stride: n,
                ..Storage::new(format, (m, n), false)
            };
            let mut dev = Device::new();
            let (from, to) = (
                storage.upload(&mut dev, &numbers),
                dev.alloc(m * n * format.bytes),
            );
            let args = [from.into(), from.into(), from.into(), to.into()];
            launch(&mut dev, &kernel(&body), &block(32), &args)
                .unwrap_or_else(|e| panic!("{body}\n{e}"));
            let expected = (0..m * n).map(|i| numbers[i % m * n + i / m]);
            assert_eq!(
                storage.download(&dev, to),
                expected.collect::<Vec<_>>(),
                "{body}"
            );
        }
    }
}

/// Kernels convert fragments element by element, so those of f16 and f32 must agree in what a lane holds where.
#[test]
fn accumulators_convert_in_place() {
    let (m, n) = (16, 16);
    let convert: String = (0..4)
        .map(|i| {
            let (low, high) = (2 * i, 2 * i + 1);
            format!("cvt.rn.f16x2.f32 %d{i}, %c{high}, %c{low};\n")
        })
        .collect();
    let body = format!(
        "wmma.load.c.sync.aligned.row.m16n16k16.global.f32 {}, [%rd0], 16;\n{convert}\
         wmma.store.d.sync.aligned.row.m16n16k16.global.f16 [%rd3], {}, 16;",
        list("c", 8),
        list("d", 4)
    );
    let numbers: Vec<f32> = (0..m * n).map(|i| i as f32).collect();
    let mut dev = Device::new();
    let (from, to) = (dev.upload(&numbers), dev.alloc(m * n * 2));
    let args = [from.into(), from.into(), from.into(), to.into()];
    launch(&mut dev, &kernel(&body), &block(32), &args).unwrap();
    let found: Vec<f16> = dev.download(to).unwrap();
    assert_eq!(
        found,
        numbers
            .iter()
            .map(|x| f16::from_f32(*x))
            .collect::<Vec<_>>()
    );
}

/// In shared memory, at a shared and at a generic address.
#[test]
fn shared_memory() {
    for (address, space) in [("%r2", ".shared"), ("%rd4", ".shared::cta"), ("%rd5", "")] {
        let body = format!(
            "mad.wide.u32 %rd6, %r0, 32, %rd0;\nmov.u32 %r2, sm;\ncvt.u64.u32 %rd4, %r2;\n\
             cvta.shared.u64 %rd5, %rd4;\nmad.lo.u32 %r3, %r0, 32, %r2;\n{}bar.warp.sync -1;\n\
             wmma.load.c.sync.aligned.row.m16n16k8{space}.f32 {list}, [{address}], 16;\n\
             wmma.store.d.sync.aligned.col.m16n16k8{space}.f32 [{address}+1024], {list}, 16;\n{}",
            (0..2)
                .map(|i| format!("ld.global.v4.u32 {{%a0, %a1, %a2, %a3}}, [%rd6+{o}];\nst.shared.v4.u32 [%r3+{o}], {{%a0, %a1, %a2, %a3}};\n", o = i * 16))
                .collect::<String>(),
            (0..2)
                .map(|i| format!("ld.shared.v4.u32 {{%a0, %a1, %a2, %a3}}, [%r3+{}];\nmad.wide.u32 %rd6, %r0, 32, %rd3;\nst.global.v4.u32 [%rd6+{}], {{%a0, %a1, %a2, %a3}};\n", 1024 + i * 16, i * 16))
                .collect::<String>(),
            list = list("c", 8),
        );
        let numbers: Vec<f32> = (0..256).map(|i| i as f32).collect();
        let mut dev = Device::new();
        let (from, to) = (dev.upload(&numbers), dev.alloc(1024));
        let args = [from.into(), from.into(), from.into(), to.into()];
        let racy = Launch {
            races: true,
            ..block(32)
        };
        launch(&mut dev, &kernel(&body), &racy, &args).unwrap_or_else(|e| panic!("{body}\n{e}"));
        let expected: Vec<f32> = (0..256).map(|i| (i % 16 * 16 + i / 16) as f32).collect();
        assert_eq!(dev.download::<f32>(to).unwrap(), expected, "{space}");
    }
}

/// What a body of two warps does wrong.
fn fault(body: &str) -> String {
    let mut dev = Device::new();
    let buffers = [0; 4].map(|_| dev.upload(&[0f32; 1024]));
    let args = buffers.map(Arg::from);
    let racy = Launch {
        races: true,
        ..block(64)
    };
    launch(&mut dev, &kernel(body), &racy, &args)
        .expect_err(body)
        .message
}

#[test]
fn faults() {
    let load = |space: &str, from: &str| {
        let list = list("c", 8);
        format!("wmma.load.c.sync.aligned.row.m16n16k16.{space}.f32 {list}, {from};\n")
    };
    let fine = load("global", "[%rd0], 16");
    let own = "mov.u32 %r2, sm;\nmad.lo.u32 %r3, %r0, 0, %r2;\n";
    let cases = [
        (load("global", "[%rd0+16], 16"), "not aligned to 32 bytes"),
        (load("global", "[%rd0], 17"), "misaligned"),
        (load("global", "[%rd0+3328], 16"), "out of bounds"),
        (load("global", "[%rd0], %r0"), "another address or stride"),
        (
            format!("mad.wide.u32 %rd0, %r0, 32, %rd0;\n{fine}"),
            "another address or stride",
        ),
        (
            format!("{own}{}", load("shared", "[%r3], 16")),
            "uninitialised",
        ),
        (
            format!(
                "{own}{fine}wmma.store.d.sync.aligned.row.m16n16k16.shared.f32 [%r3], {}, 16;",
                list("c", 8)
            ),
            "race: writes shared memory",
        ),
        (
            format!("setp.eq.u32 %p0, %r0, 3;\n@%p0 exit;\n{fine}"),
            "wmma in lanes fffffff7 alone",
        ),
        (
            format!(
                "wmma.load.a.sync.aligned.row.m16n16k16.global.f16 {a}, [%rd0];\nsetp.eq.u32 %p0, %r0, 3;\n\
                 @%p0 mov.u32 %a2, 5;\n{fine}wmma.mma.sync.aligned.row.col.m16n16k16.f32.f32 {c}, {a}, {a}, {c};",
                a = list("a", 8),
                c = list("c", 8),
            ),
            "copies of an element",
        ),
    ];
    for (body, expected) in cases {
        let message = fault(&body);
        assert!(message.contains(expected), "{body}: {message}");
    }
}

/// What the ISA does not have, or the simulator does not.
#[test]
fn unsupported() {
    let (four, eight) = (list("a", 4), list("a", 8));
    let refused = [
        format!("wmma.load.a.sync.aligned.row.m16n16k16.tf32 {four}, [%rd0], 16;"),
        format!("wmma.load.a.sync.aligned.row.m16n16k8.f16 {eight}, [%rd0], 16;"),
        format!("wmma.load.c.sync.aligned.row.m16n16k16.bf16 {eight}, [%rd0], 16;"),
        format!("wmma.load.a.sync.aligned.row.m16n16k16.f32 {eight}, [%rd0], 16;"),
        format!("wmma.load.a.sync.aligned.m16n16k16.f16 {eight}, [%rd0], 16;"),
        format!("wmma.load.a.sync.aligned.row.m16n16k16.f16 {four}, [%rd0], 16;"),
        format!("wmma.load.a.sync.aligned.row.m16n16k16.local.f16 {eight}, [%rd0], 16;"),
        "wmma.load.a.sync.aligned.row.m16n16k16.s8 {%a0, %a1}, [%rd0], 16;".into(),
        "wmma.load.a.sync.aligned.row.m8n8k4.f64 {%rd0}, [%rd0], 16;".into(),
        format!(
            "wmma.mma.sync.aligned.row.col.m16n16k16.f16.f16.satfinite {four}, {eight}, {eight}, {four};"
        ),
        format!(
            "wmma.mma.sync.aligned.row.col.m16n16k16.f16.bf16.bf16.f16 {four}, {four}, {four}, {four};"
        ),
        format!("wmma.mma.sync.aligned.row.m16n16k16.f32.f32 {eight}, {eight}, {eight}, {eight};"),
        format!(
            "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {four}, {eight}, {four}, {four};"
        ),
        format!(
            "mma.sync.aligned.m16n8k16.row.col.f32.tf32.tf32.f32 {four}, {eight}, {four}, {four};"
        ),
        format!(
            "mma.sync.aligned.m16n8k8.row.row.f32.tf32.tf32.f32 {four}, {four}, {{%b0, %b1}}, {four};"
        ),
    ];
    for body in refused {
        let error = Module::load(&kernel(&body)).err().map(|e| e.message);
        let clear = |e: &String| {
            e.contains("unsupported") || e.contains("missing") || e.contains("registers")
        };
        assert!(error.as_ref().is_some_and(clear), "{body}: {error:?}");
    }
}

/// The fragments of `mma.sync` are those of the ISA; the bits that tf32 does not have are set at random.
#[test]
fn mma_of_tf32() {
    for k in [4, 8] {
        let mut rng = Rng(3);
        let mut numbers = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.next()).collect() };
        let (a, b) = (numbers(16 * k), numbers(k * 8));
        let (na, nb) = (k / 2, k / 4);
        // Row and column as a register and what is added to it.
        let load = |to: String, (row, i): (&str, usize), (column, j): (&str, usize), from: &str| {
            let columns = if from == "%rd0" { k } else { 8 };
            format!(
                "add.u32 %r3, {row}, {i};\nadd.u32 %r4, {column}, {j};\n\
                 mad.lo.u32 %r3, %r3, {columns}, %r4;\n\
                 mad.wide.u32 %rd4, %r3, 4, {from};\nld.global.u32 {to}, [%rd4];\n"
            )
        };
        let loads_a = (0..na).map(|i| {
            let (row, column) = (("%r1", i % 2 * 8), ("%r2", i / 2 * 4));
            load(format!("%a{i}"), row, column, "%rd0")
        });
        let loads_b = (0..nb).map(|i| load(format!("%b{i}"), ("%r2", i * 4), ("%r1", 0), "%rd1"));
        let zero: String = (0..4)
            .map(|i| format!("mov.b32 %c{i}, 0f3F000000;\n"))
            .collect();
        let body = format!(
            "shr.u32 %r1, %r0, 2;\nand.b32 %r2, %r0, 3;\n{}{}{zero}\
             mma.sync.aligned.m16n8k{k}.row.col.f32.tf32.tf32.f32 {c}, {}, {}, {c};\n\
             mul.lo.u32 %r3, %r0, 8;\ncvt.u64.u32 %rd4, %r3;\nadd.u64 %rd4, %rd3, %rd4;\n\
             st.global.v2.u32 [%rd4], {{%c0, %c1}};\nst.global.v2.u32 [%rd4+256], {{%c2, %c3}};",
            loads_a.collect::<String>(),
            loads_b.collect::<String>(),
            list("a", na),
            list("b", nb),
            c = list("c", 4),
        );
        let mut dev = Device::new();
        let (pa, pb, pd) = (dev.upload(&a), dev.upload(&b), dev.alloc(16 * 8 * 4));
        let args = [pa.into(), pb.into(), pb.into(), pd.into()];
        launch(&mut dev, &kernel(&body), &block(32), &args)
            .unwrap_or_else(|e| panic!("{body}\n{e}"));
        let found: Vec<f32> = dev.download(pd).unwrap();
        for (i, x) in found.iter().enumerate() {
            let number = |x: f32| (TF32.decode)(x.to_bits());
            let terms = (0..k).map(|j| number(a[i / 8 * k + j]) * number(b[j * 8 + i % 8]));
            let expected = 0.5 + terms.sum::<f64>();
            assert!(
                (*x as f64 - expected).abs() < 2e-6,
                "k {k} element {i}: {x}, not {expected}"
            );
        }
    }
}

/// Kernels as NVRTC compiles them from `nvcuda::wmma`.
const PTX: &str = include_str!("ptx/wmma.sm_90a.ptx");

#[test]
fn halves_from_cuda() {
    let (m, n, k) = (32, 8, 16);
    let mut rng = Rng(9);
    let mut halves = |n: usize| -> Vec<f16> { (0..n).map(|_| f16::from_f32(rng.next())).collect() };
    let (a, b) = (halves(m * k), halves(k * n));
    let c: Vec<f32> = (0..m * n).map(|_| rng.next()).collect();
    let mut dev = Device::new();
    let [pa, pb] = [&a, &b].map(|x| dev.upload(x));
    let (pc, pd) = (dev.upload(&c), dev.alloc(m * n * 2));
    let args = [pa.into(), pb.into(), pc.into(), pd.into()];
    let module = Module::load(PTX).unwrap();
    dev.launch(&module, "halves", &block(32), &args)
        .unwrap_or_else(|e| panic!("{e}"));
    let d: Vec<f16> = dev.download(pd).unwrap();
    for (row, column) in (0..m * n).map(|i| (i / n, i % n)) {
        let terms = (0..k).map(|x| 2.0 * a[row * k + x].to_f64() * b[column * k + x].to_f64());
        let expected = c[row * n + column] as f64 + terms.sum::<f64>();
        let found = d[column * m + row].to_f64();
        assert!(
            (found - expected).abs() < 4e-3,
            "row {row} column {column}: {found}, not {expected}"
        );
    }
}

#[test]
fn singles_from_cuda() {
    let mut rng = Rng(10);
    let mut numbers = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.next()).collect() };
    let (a, b) = (numbers(16 * 32), numbers(32 * 16));
    let mut dev = Device::new();
    let (pa, pb, pd) = (dev.upload(&a), dev.upload(&b), dev.alloc(16 * 16 * 4));
    let module = Module::load(PTX).unwrap();
    let args = [pa.into(), pb.into(), pd.into()];
    dev.launch(&module, "singles", &block(32), &args)
        .unwrap_or_else(|e| panic!("{e}"));
    let d: Vec<f32> = dev.download(pd).unwrap();
    // To 11 bits, ties away from zero: adding half of the last bit never carries into the sign.
    let rounded = |x: f32| f32::from_bits((x.to_bits() + 0x1000) & 0xffff_e000) as f64;
    for (i, found) in d.iter().enumerate() {
        let terms = (0..32).map(|x| rounded(a[i / 16 * 32 + x]) * rounded(b[x * 16 + i % 16]));
        let expected = terms.sum::<f64>();
        assert!(
            (*found as f64 - expected).abs() < 4e-6,
            "element {i}: {found}, not {expected}"
        );
    }
}
