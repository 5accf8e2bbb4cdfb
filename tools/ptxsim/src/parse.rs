//! PTX text -> a flat list of raw statements per kernel (names resolved per scope).
use std::collections::HashMap;

/// Where and why a module could not be loaded.
#[derive(Debug, Clone)]
pub struct ParseError {
    pub line: u32,
    pub msg: String,
}

type R<T> = Result<T, ParseError>;

fn err<T>(line: u32, msg: impl Into<String>) -> R<T> {
    Err(ParseError {
        line,
        msg: msg.into(),
    })
}

#[derive(Debug, Clone, PartialEq)]
enum Tok {
    Id(String),
    P(char),
    Str,
}

struct Lexed {
    toks: Vec<(Tok, u32)>,
}

fn lex(src: &str) -> Lexed {
    let mut toks = Vec::new();
    let mut in_block_comment = false;
    for (ln, raw) in src.lines().enumerate() {
        let line = ln as u32 + 1;
        let t = raw.trim_start();
        if !in_block_comment
            && [".loc", ".file"].iter().any(|d| {
                t.strip_prefix(d)
                    .is_some_and(|r| r.starts_with([' ', '\t']))
            })
        {
            continue;
        }
        let b = raw.as_bytes();
        let mut i = 0;
        while i < b.len() {
            if in_block_comment {
                if b[i] == b'*' && b.get(i + 1) == Some(&b'/') {
                    in_block_comment = false;
                    i += 1;
                }
                i += 1;
                continue;
            }
            let c = b[i];
            if c.is_ascii_whitespace() {
                i += 1;
            } else if c == b'/' && b.get(i + 1) == Some(&b'/') {
                break;
            } else if c == b'/' && b.get(i + 1) == Some(&b'*') {
                in_block_comment = true;
                i += 2;
            } else if c == b'"' {
                i += 1;
                while i < b.len() && b[i] != b'"' {
                    i += 1;
                }
                i += 1;
                toks.push((Tok::Str, line));
            } else if c.is_ascii_alphanumeric() || matches!(c, b'_' | b'$' | b'%' | b'.') {
                let s = i;
                while i < b.len() {
                    let c = b[i];
                    if c.is_ascii_alphanumeric() || matches!(c, b'_' | b'$' | b'%' | b'.') {
                        i += 1;
                    } else if c == b':' && b.get(i + 1) == Some(&b':') {
                        i += 2;
                    } else {
                        break;
                    }
                }
                toks.push((Tok::Id(raw[s..i].to_string()), line));
            } else {
                toks.push((Tok::P(c as char), line));
                i += 1;
            }
        }
    }
    Lexed { toks }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegClass {
    Pred,
    R32,
    R64,
}

/// A virtual register: class and index within its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VReg {
    pub class: RegClass,
    pub id: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    Global,
    Shared,
    Local,
    Param,
}

#[derive(Debug, Clone)]
pub enum Operand {
    Reg(VReg),
    NotReg(VReg),
    Int(i64),
    /// bits of an f32 immediate
    F32(u32),
    F64(f64),
    Sink,
    Special(String),
    /// address of a variable (space, offset)
    Var(Space, i64),
    Vec(Vec<Operand>),
    /// `[base + off]`, optional coordinate vector
    Mem(Box<Operand>, i64, Option<Vec<Operand>>),
    Label(usize),
    Pair(Box<Operand>, Box<Operand>),
}

#[derive(Debug, Clone)]
pub struct RawInst {
    pub line: u32,
    pub guard: Option<(VReg, bool)>,
    pub op: String,
    pub args: Vec<Operand>,
}

#[derive(Debug, Clone)]
pub struct Param {
    pub name: String,
    pub offset: usize,
    pub size: usize,
}

#[derive(Debug, Clone)]
pub struct Kernel {
    pub name: String,
    pub params: Vec<Param>,
    pub param_size: usize,
    pub insts: Vec<RawInst>,
    /// label id -> instruction index
    pub labels: Vec<usize>,
    pub label_names: Vec<String>,
    pub n32: u32,
    pub n64: u32,
    pub npred: u32,
    pub names: HashMap<(u8, u32), String>,
    pub local_size: usize,
    pub static_shared: usize,
    pub uses_dynamic_shared: bool,
    pub dynamic_align: usize,
    pub reqntid: Option<[u32; 3]>,
    pub maxntid: Option<[u32; 3]>,
    /// .reqnctapercluster
    pub cluster: Option<[u32; 3]>,
    /// the launch must give cluster dimensions
    pub explicit_cluster: bool,
    pub max_cluster: u32,
}

#[derive(Debug, Clone)]
pub struct GlobalVar {
    pub name: String,
    pub offset: usize,
    pub size: usize,
    pub init: Vec<u8>,
}

#[derive(Debug, Clone, Default)]
pub struct ModuleText {
    pub target: String,
    pub version: String,
    pub globals: Vec<GlobalVar>,
    pub global_size: usize,
    pub kernels: Vec<Kernel>,
}

/// Base of the module's `.global`/`.const` variables in the generic address space.
pub const MODULE_BASE: u64 = 0x0000_6000_0000_0000;

#[derive(Default, Clone)]
struct Scope {
    parent: Option<usize>,
    regs: HashMap<String, VReg>,
    /// `.reg .f32 acc<64>`: prefix -> (first, count)
    ranges: HashMap<String, (RegClass, u32, u32)>,
    labels: HashMap<String, usize>,
    vars: HashMap<String, (Space, i64)>,
}

struct P<'a> {
    t: &'a [(Tok, u32)],
    i: usize,
    scopes: Vec<Scope>,
}

pub fn ty_size(t: &str) -> usize {
    match t {
        "b8" | "u8" | "s8" => 1,
        "b16" | "u16" | "s16" | "f16" | "bf16" => 2,
        "b64" | "u64" | "s64" | "f64" => 8,
        "b128" => 16,
        "pred" => 1,
        _ => 4,
    }
}

fn align_up(x: usize, a: usize) -> usize {
    x.div_ceil(a.max(1)) * a.max(1)
}

struct VarDecl {
    name: String,
    ty: String,
    align: usize,
    size: usize,
    unsized_array: bool,
    init: Vec<u8>,
}

impl<'a> P<'a> {
    fn line(&self) -> u32 {
        self.t
            .get(self.i.min(self.t.len().saturating_sub(1)))
            .map_or(0, |t| t.1)
    }
    fn peek(&self) -> Option<&Tok> {
        self.t.get(self.i).map(|t| &t.0)
    }
    fn is(&self, c: char) -> bool {
        self.peek() == Some(&Tok::P(c))
    }
    fn eat(&mut self, c: char) -> bool {
        let r = self.is(c);
        if r {
            self.i += 1;
        }
        r
    }
    fn expect(&mut self, c: char) -> R<()> {
        if self.eat(c) {
            Ok(())
        } else {
            err(
                self.line(),
                format!("expected '{c}', found {:?}", self.peek()),
            )
        }
    }
    fn id(&mut self) -> R<String> {
        match self.peek() {
            Some(Tok::Id(s)) => {
                let s = s.clone();
                self.i += 1;
                Ok(s)
            }
            o => err(self.line(), format!("expected a name, found {o:?}")),
        }
    }
    fn skip_braces(&mut self) {
        let mut d = 0;
        while let Some(t) = self.peek() {
            match t {
                Tok::P('{') => d += 1,
                Tok::P('}') => d -= 1,
                _ => {}
            }
            self.i += 1;
            if d == 0 {
                break;
            }
        }
    }
    fn skip_to(&mut self, c: char) {
        while self.peek().is_some() && !self.is(c) {
            self.i += 1;
        }
        self.eat(c);
    }
    /// `x`, `x, y` or `x, y, z`; 1 where absent
    fn dims(&mut self) -> [u32; 3] {
        let mut d = [1; 3];
        for x in &mut d {
            let Some(v) = self.peek().and_then(|t| {
                if let Tok::Id(s) = t {
                    parse_int(s)
                } else {
                    None
                }
            }) else {
                break;
            };
            *x = v as u32;
            self.i += 1;
            if !self.eat(',') {
                break;
            }
        }
        d
    }
    /// `.align 8 .b8 name[16] = {...}` after the space directive.
    fn var(&mut self) -> R<VarDecl> {
        let mut align = 0;
        let mut ty = String::new();
        let mut vec = 1;
        let name = loop {
            let s = self.id()?;
            if let Some(d) = s.strip_prefix('.') {
                match d {
                    "align" => align = self.id()?.parse().unwrap_or(1),
                    "v2" => vec = 2,
                    "v4" => vec = 4,
                    "ptr" | "global" | "const" | "shared" | "local" | "attribute" => {}
                    _ => ty = d.to_string(),
                }
            } else {
                break s;
            }
        };
        let es = ty_size(&ty) * vec;
        let mut size = es;
        let mut unsized_array = false;
        let mut first = true;
        while self.eat('[') {
            if self.eat(']') {
                unsized_array = true;
                size = 0;
            } else {
                let n = self.id()?;
                let n = parse_int(&n).unwrap_or(0) as usize;
                size = if first { es * n } else { size * n };
                self.expect(']')?;
            }
            first = false;
        }
        let mut init = Vec::new();
        if self.eat('=') {
            let braces = self.is('{');
            let mut depth = 0;
            let mut neg = false;
            loop {
                match self.peek().cloned() {
                    Some(Tok::P('{')) => depth += 1,
                    Some(Tok::P('}')) => {
                        depth -= 1;
                        if depth == 0 {
                            self.i += 1;
                            break;
                        }
                    }
                    Some(Tok::P('-')) => neg = true,
                    Some(Tok::P(';')) | None => break,
                    Some(Tok::Id(s)) => {
                        let v: u64 = if let Some(h) = s.strip_prefix("0f").or(s.strip_prefix("0F"))
                        {
                            u64::from_str_radix(h, 16).unwrap_or(0)
                        } else if let Some(h) = s.strip_prefix("0d").or(s.strip_prefix("0D")) {
                            u64::from_str_radix(h, 16).unwrap_or(0)
                        } else {
                            parse_int(&s).unwrap_or(0) as u64
                        };
                        let v = if neg {
                            (v as i64).wrapping_neg() as u64
                        } else {
                            v
                        };
                        neg = false;
                        init.extend_from_slice(&v.to_le_bytes()[..ty_size(&ty).min(8)]);
                    }
                    _ => {}
                }
                self.i += 1;
                if !braces && depth == 0 && self.is(';') {
                    break;
                }
            }
        }
        Ok(VarDecl {
            name,
            align: align.max(es.min(16)),
            ty,
            size,
            unsized_array,
            init,
        })
    }
    fn lookup_var(&self, mut sc: usize, n: &str) -> Option<(Space, i64)> {
        loop {
            if let Some(v) = self.scopes[sc].vars.get(n) {
                return Some(*v);
            }
            sc = self.scopes[sc].parent?;
        }
    }
    fn lookup_reg(&self, mut sc: usize, n: &str) -> Option<VReg> {
        let digits = n.len() - n.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (pre, num) = n.split_at(n.len() - digits);
        let num: Option<u32> = num.parse().ok();
        loop {
            let s = &self.scopes[sc];
            if let Some(v) = s.regs.get(n) {
                return Some(*v);
            }
            if let (Some(k), Some((class, first, cnt))) = (num, s.ranges.get(pre))
                && k < *cnt
            {
                return Some(VReg {
                    class: *class,
                    id: first + k,
                });
            }
            sc = s.parent?;
        }
    }
}

pub fn parse_int(s: &str) -> Option<i64> {
    let s = s.strip_suffix('U').unwrap_or(s);
    if let Some(h) = s.strip_prefix("0x").or(s.strip_prefix("0X")) {
        u64::from_str_radix(h, 16).ok().map(|v| v as i64)
    } else if let Some(h) = s.strip_prefix("0b").or(s.strip_prefix("0B")) {
        u64::from_str_radix(h, 2).ok().map(|v| v as i64)
    } else {
        s.parse::<i64>()
            .ok()
            .or_else(|| s.parse::<u64>().ok().map(|v| v as i64))
    }
}

pub fn parse_module(src: &str) -> R<ModuleText> {
    let lx = lex(src);
    let mut p = P {
        t: &lx.toks,
        i: 0,
        scopes: vec![Scope::default()],
    };
    let mut m = ModuleText::default();
    let mut mod_shared: Vec<(String, VarDecl)> = Vec::new();
    let mut shared_off = 0usize;
    let mut dyn_align = 1usize;
    let mut dyn_names: Vec<String> = Vec::new();
    while p.peek().is_some() {
        if p.eat(';') {
            continue;
        }
        if p.is('{') {
            p.skip_braces();
            continue;
        }
        let line = p.line();
        let s = match p.peek() {
            Some(Tok::Id(s)) => s.clone(),
            o => return err(line, format!("unexpected {o:?} at module level")),
        };
        p.i += 1;
        match s.as_str() {
            ".version" => m.version = p.id()?,
            ".target" => {
                m.target = p.id()?;
                while p.eat(',') {
                    p.id()?;
                }
            }
            ".address_size" => {
                p.id()?;
            }
            ".visible" | ".extern" | ".weak" | ".common" => {}
            ".global" | ".const" => {
                let v = p.var()?;
                p.skip_to(';');
                let off = align_up(m.global_size, v.align.max(16));
                m.global_size = off + v.size;
                let mut init = v.init;
                init.resize(v.size, 0);
                p.scopes[0].vars.insert(
                    v.name.clone(),
                    (Space::Global, MODULE_BASE as i64 + off as i64),
                );
                m.globals.push(GlobalVar {
                    name: v.name,
                    offset: off,
                    size: v.size,
                    init,
                });
            }
            ".shared" => {
                let v = p.var()?;
                p.skip_to(';');
                if v.unsized_array {
                    dyn_align = dyn_align.max(v.align);
                    dyn_names.push(v.name);
                } else {
                    let off = align_up(shared_off, v.align);
                    shared_off = off + v.size;
                    p.scopes[0]
                        .vars
                        .insert(v.name.clone(), (Space::Shared, off as i64));
                    mod_shared.push((v.name.clone(), v));
                }
            }
            ".section" => {
                p.id()?;
                p.skip_braces();
            }
            ".pragma" => p.skip_to(';'),
            ".func" => {
                while p.peek().is_some() && !p.is('{') && !p.is(';') {
                    p.i += 1;
                }
                if p.is('{') {
                    p.skip_braces();
                }
            }
            ".entry" => {
                let k = kernel(&mut p, shared_off, dyn_align, &dyn_names)?;
                m.kernels.push(k);
            }
            _ => return err(line, format!("unknown module-level directive {s}")),
        }
    }
    Ok(m)
}

fn kernel(p: &mut P, mod_shared: usize, dyn_align: usize, dyn_names: &[String]) -> R<Kernel> {
    let name = p.id()?;
    let mut params = Vec::new();
    let mut off = 0;
    p.scopes.truncate(1);
    p.scopes.push(Scope {
        parent: Some(0),
        ..Default::default()
    });
    if p.eat('(') {
        while !p.eat(')') {
            let d = p.id()?;
            if d != ".param" {
                return err(p.line(), format!("expected .param, found {d}"));
            }
            let v = p.var()?;
            off = align_up(off, v.align);
            p.scopes[1]
                .vars
                .insert(v.name.clone(), (Space::Param, off as i64));
            params.push(Param {
                name: v.name,
                offset: off,
                size: v.size,
            });
            off += v.size;
            p.eat(',');
        }
    }
    let mut k = Kernel {
        name,
        params,
        param_size: off,
        insts: vec![],
        labels: vec![],
        label_names: vec![],
        n32: 0,
        n64: 0,
        npred: 0,
        names: HashMap::new(),
        local_size: 0,
        static_shared: mod_shared,
        uses_dynamic_shared: !dyn_names.is_empty(),
        dynamic_align: dyn_align,
        reqntid: None,
        maxntid: None,
        cluster: None,
        explicit_cluster: false,
        max_cluster: 16,
    };
    while !p.is('{') {
        match p.peek() {
            Some(Tok::Id(s)) if s == ".maxntid" || s == ".reqntid" => {
                let req = s == ".reqntid";
                p.i += 1;
                let d = p.dims();
                if req {
                    k.reqntid = Some(d)
                } else {
                    k.maxntid = Some(d)
                }
            }
            Some(Tok::Id(s)) if s == ".reqnctapercluster" => {
                p.i += 1;
                k.cluster = Some(p.dims());
            }
            Some(Tok::Id(s)) if s == ".explicitcluster" => {
                p.i += 1;
                k.explicit_cluster = true;
            }
            Some(Tok::Id(s)) if s == ".maxclusterrank" => {
                p.i += 1;
                k.max_cluster = p.dims()[0];
            }
            Some(Tok::Id(s)) if s == ".blocksareclusters" => {
                return err(p.line(), ".blocksareclusters is not supported");
            }
            None => return err(p.line(), "unexpected end of file in a kernel header"),
            _ => p.i += 1,
        }
    }
    p.expect('{')?;
    let mut sc = 1usize;
    let mut depth = 1;
    // (instruction, argument index, name, scope)
    let mut fix: Vec<(usize, usize, String, usize, u32)> = Vec::new();
    let mut tables: HashMap<String, (Vec<String>, usize)> = HashMap::new();
    let alloc = |k: &mut Kernel, class: RegClass, n: u32| {
        let c = match class {
            RegClass::Pred => &mut k.npred,
            RegClass::R32 => &mut k.n32,
            RegClass::R64 => &mut k.n64,
        };
        let f = *c;
        *c += n;
        f
    };
    // dynamic shared variables start after all static ones; patched below by a placeholder offset
    const DYN: i64 = 1 << 40;
    for n in dyn_names {
        p.scopes[0].vars.insert(n.clone(), (Space::Shared, DYN));
    }
    loop {
        let line = p.line();
        match p.peek() {
            None => return err(line, "unexpected end of file in a kernel"),
            Some(Tok::P('{')) => {
                p.i += 1;
                p.scopes.push(Scope {
                    parent: Some(sc),
                    ..Default::default()
                });
                sc = p.scopes.len() - 1;
                depth += 1;
            }
            Some(Tok::P('}')) => {
                p.i += 1;
                depth -= 1;
                if depth == 0 {
                    break;
                }
                sc = p.scopes[sc].parent.unwrap();
            }
            Some(Tok::P(';')) => p.i += 1,
            Some(Tok::Id(s)) if s.starts_with('.') && s != "." => {
                let s = s.clone();
                p.i += 1;
                match s.as_str() {
                    ".reg" => {
                        let mut ty = p.id()?;
                        if ty == ".v2" || ty == ".v4" {
                            return err(line, "vector registers are not supported");
                        }
                        ty.remove(0);
                        let class = match ty.as_str() {
                            "pred" => RegClass::Pred,
                            "b64" | "u64" | "s64" | "f64" => RegClass::R64,
                            "b128" => return err(line, ".b128 registers are not supported"),
                            _ => RegClass::R32,
                        };
                        loop {
                            let n = p.id()?;
                            if p.eat('<') {
                                let c: u32 = p.id()?.parse().unwrap_or(0);
                                p.expect('>')?;
                                let f = alloc(&mut k, class, c);
                                for i in 0..c {
                                    k.names.insert((class as u8, f + i), format!("{n}{i}"));
                                }
                                p.scopes[sc].ranges.insert(n, (class, f, c));
                            } else {
                                let f = alloc(&mut k, class, 1);
                                k.names.insert((class as u8, f), n.clone());
                                p.scopes[sc].regs.insert(n, VReg { class, id: f });
                            }
                            if !p.eat(',') {
                                break;
                            }
                        }
                        p.expect(';')?;
                    }
                    ".local" | ".shared" => {
                        let v = p.var()?;
                        p.skip_to(';');
                        if s == ".local" {
                            let o = align_up(k.local_size, v.align);
                            k.local_size = o + v.size;
                            p.scopes[sc].vars.insert(v.name, (Space::Local, o as i64));
                        } else {
                            let o = align_up(k.static_shared, v.align);
                            k.static_shared = o + v.size;
                            p.scopes[sc].vars.insert(v.name, (Space::Shared, o as i64));
                        }
                        let _ = v.ty;
                    }
                    ".pragma" => p.skip_to(';'),
                    _ => return err(line, format!("unsupported directive {s}")),
                }
            }
            Some(Tok::Id(s)) if p.t.get(p.i + 1).map(|t| &t.0) == Some(&Tok::P(':')) => {
                let s = s.clone();
                p.i += 2;
                let id = k.labels.len();
                k.labels.push(k.insts.len());
                k.label_names.push(s.clone());
                if p.scopes[sc].labels.insert(s.clone(), id).is_some() {
                    return err(line, format!("label {s} defined twice in a scope"));
                }
                if p.peek() == Some(&Tok::Id(".branchtargets".into())) {
                    p.i += 1;
                    let mut l = Vec::new();
                    while !p.eat(';') {
                        if !p.eat(',') {
                            l.push(p.id()?);
                        }
                    }
                    tables.insert(s, (l, sc));
                }
            }
            _ => {
                let mut guard = None;
                if p.eat('@') {
                    let neg = p.eat('!');
                    let n = p.id()?;
                    let Some(r) = p.lookup_reg(sc, &n) else {
                        return err(line, format!("unknown predicate {n}"));
                    };
                    guard = Some((r, neg));
                }
                let op = p.id()?;
                let mut args = Vec::new();
                let ii = k.insts.len();
                let is_bra = op == "bra" || op.starts_with("bra.");
                let is_brx = op.starts_with("brx");
                while !p.eat(';') {
                    if p.eat(',') {
                        continue;
                    }
                    if p.peek().is_none() {
                        return err(line, "unterminated instruction");
                    }
                    if is_bra || (is_brx && !args.is_empty()) {
                        let n = p.id()?;
                        fix.push((ii, args.len(), n, sc, line));
                        args.push(Operand::Label(0));
                        continue;
                    }
                    let mut a = operand(p, sc)?;
                    if p.eat('|') {
                        let b = operand(p, sc)?;
                        a = Operand::Pair(Box::new(a), Box::new(b));
                    }
                    args.push(a);
                }
                k.insts.push(RawInst {
                    line,
                    guard,
                    op,
                    args,
                });
            }
        }
    }
    let find = |n: &str, s: usize, line: u32| {
        let mut c = Some(s);
        while let Some(x) = c {
            if let Some(l) = p.scopes[x].labels.get(n) {
                return Ok(Operand::Label(*l));
            }
            c = p.scopes[x].parent;
        }
        err(line, format!("unknown label {n}"))
    };
    for (ii, ai, n, s, line) in fix {
        k.insts[ii].args[ai] = match tables.get(&n) {
            Some((l, ts)) => Operand::Vec(l.iter().map(|x| find(x, *ts, line)).collect::<R<_>>()?),
            None => find(&n, s, line)?,
        };
    }
    // resolve dynamic shared placeholders
    let dynoff = align_up(k.static_shared, dyn_align) as i64;
    fn patch(o: &mut Operand, d: i64) {
        match o {
            Operand::Var(Space::Shared, x) if *x >= DYN / 2 => *x = *x - DYN + d,
            Operand::Mem(b, _, c) => {
                patch(b, d);
                if let Some(v) = c {
                    v.iter_mut().for_each(|x| patch(x, d));
                }
            }
            Operand::Vec(v) => v.iter_mut().for_each(|x| patch(x, d)),
            _ => {}
        }
    }
    for i in &mut k.insts {
        for a in &mut i.args {
            patch(a, dynoff);
        }
    }
    Ok(k)
}

fn operand(p: &mut P, sc: usize) -> R<Operand> {
    let line = p.line();
    if p.eat('{') {
        let mut v = Vec::new();
        while !p.eat('}') {
            if p.eat(',') {
                continue;
            }
            v.push(operand(p, sc)?);
        }
        return Ok(Operand::Vec(v));
    }
    if p.eat('[') {
        let base = operand(p, sc)?;
        let mut off = 0i64;
        let mut coords = None;
        loop {
            if p.eat('+') {
                let neg = p.eat('-');
                let n = p.id()?;
                let v = parse_int(&n).ok_or(ParseError {
                    line,
                    msg: format!("bad offset {n}"),
                })?;
                off += if neg { -v } else { v };
            } else if p.eat('-') {
                let n = p.id()?;
                off -= parse_int(&n).ok_or(ParseError {
                    line,
                    msg: format!("bad offset {n}"),
                })?;
            } else if p.eat(',') {
                match operand(p, sc)? {
                    Operand::Vec(v) => coords = Some(v),
                    o => coords = Some(vec![o]),
                }
            } else {
                break;
            }
        }
        p.expect(']')?;
        return Ok(Operand::Mem(Box::new(base), off, coords));
    }
    if p.eat('!') {
        let n = p.id()?;
        return match p.lookup_reg(sc, &n) {
            Some(r) => Ok(Operand::NotReg(r)),
            None => err(line, format!("unknown register {n}")),
        };
    }
    if p.eat('-') {
        return match operand(p, sc)? {
            Operand::Int(v) => Ok(Operand::Int(v.wrapping_neg())),
            Operand::F64(v) => Ok(Operand::F64(-v)),
            Operand::F32(v) => Ok(Operand::F32(v ^ 0x8000_0000)),
            o => err(line, format!("cannot negate {o:?}")),
        };
    }
    let n = p.id()?;
    if n == "_" {
        return Ok(Operand::Sink);
    }
    let c = n.as_bytes()[0];
    if c.is_ascii_digit() {
        if let Some(h) = n.strip_prefix("0f").or(n.strip_prefix("0F")) {
            return u32::from_str_radix(h, 16)
                .map(Operand::F32)
                .or(err(line, format!("bad number {n}")));
        }
        if let Some(h) = n.strip_prefix("0d").or(n.strip_prefix("0D")) {
            return u64::from_str_radix(h, 16)
                .map(|v| Operand::F64(f64::from_bits(v)))
                .or(err(line, format!("bad number {n}")));
        }
        if let Some(v) = parse_int(&n) {
            return Ok(Operand::Int(v));
        }
        return n
            .parse::<f64>()
            .map(Operand::F64)
            .or(err(line, format!("bad number {n}")));
    }
    if let Some(r) = p.lookup_reg(sc, &n) {
        return Ok(Operand::Reg(r));
    }
    if n == "WARP_SZ" {
        return Ok(Operand::Int(32));
    }
    if let Some((s, o)) = p.lookup_var(sc, &n) {
        if p.is('+') {
            p.i += 1;
            let v = p.id()?;
            let v = parse_int(&v).ok_or(ParseError {
                line,
                msg: format!("bad offset {v}"),
            })?;
            return Ok(Operand::Var(s, o + v));
        }
        return Ok(Operand::Var(s, o));
    }
    if n.starts_with('%') {
        return Ok(Operand::Special(n));
    }
    err(line, format!("unknown name {n}"))
}
