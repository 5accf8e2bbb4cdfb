//! Asynchronous copies: cp.async, bulk and tensor copies, st.async, red.async.
use super::*;
use std::collections::VecDeque;

pub struct CpOp {
    dst: Loc,
    src: u64,
    n: usize,
    zero: usize,
    pc: u32,
}

/// An outstanding bulk store; `data` once shared memory was read (`wait_group.read`).
struct BulkOp {
    at: At,
    smem: Loc,
    n: usize,
    dst: u64,
    map: usize,
    coords: Vec<i32>,
    data: Option<Vec<u8>>,
}

#[derive(Default)]
pub struct LaneAsync {
    cp_cur: Vec<CpOp>,
    cp_groups: VecDeque<Vec<CpOp>>,
    bulk_cur: Vec<BulkOp>,
    bulk_groups: VecDeque<Vec<BulkOp>>,
    /// read but perhaps not yet written
    bulk_read: Vec<BulkOp>,
}

enum Source {
    /// cp.async.mbarrier.arrive: the copies it waits for
    Cp(Vec<CpOp>),
    Tensor {
        map: usize,
        coords: Vec<i32>,
    },
    Global(u64),
    /// shared memory of the issuing CTA
    Shared(Loc, Option<(RedOp, Ty)>),
    /// registers (st.async, red.async)
    Data(Vec<u8>, Option<(RedOp, Ty)>),
}

/// An operation that completes on an mbarrier: `n` bytes for `dst`.
pub struct Pending {
    pub at: At,
    pub mbar: Loc,
    dst: Loc,
    n: usize,
    src: Source,
    /// of the issuing warp at issue
    clock: Clock,
}

impl<'a> Cluster<'a> {
    // ---- cp.async -----------------------------------------------------------------------------

    pub(super) fn cp_async(
        &mut self,
        pc: u32,
        wi: usize,
        rf: Rf,
        em: u32,
        op: &Op,
        ps: Preds,
    ) -> R<()> {
        let Op::CpAsync {
            dst,
            src,
            size,
            srcsz,
            ignore,
        } = op
        else {
            unreachable!()
        };
        let ignored = ignore.map_or(0, |p| ps.get(p));
        let n = *size as usize;
        try_lanes(em, |l| {
            let at = At { pc, wi, l };
            let mut k = if *srcsz == NO {
                n
            } else {
                (rf.get(*srcsz, l) as usize).min(n)
            };
            if ignored >> l & 1 == 1 {
                k = 0;
            }
            let d = self.shared(at, Sp::Shared, self.ea(rf, dst, l), n)?;
            let s = self.ea(rf, src, l);
            if !d.o.is_multiple_of(n) || (k > 0 && !s.is_multiple_of(n as u64)) {
                return self.fail(at, "cp.async address is not aligned to its size");
            }
            let op = CpOp {
                dst: d,
                src: s,
                n: k,
                zero: n - k,
                pc,
            };
            if self.eager_choice() {
                self.cp_land(wi, l, &op)?;
            } else {
                self.poison(d, n);
                self.warps[wi].lanes[l].cp_cur.push(op);
            }
            Ok(())
        })
    }

    pub(super) fn cp_commit(&mut self, wi: usize, em: u32) {
        lanes(em, |l| {
            let la = &mut self.warps[wi].lanes[l];
            let g = std::mem::take(&mut la.cp_cur);
            la.cp_groups.push_back(g);
        })
    }

    pub(super) fn cp_wait(&mut self, wi: usize, em: u32, n: u32) -> R<()> {
        try_lanes(em, |l| {
            while self.warps[wi].lanes[l].cp_groups.len() > n as usize {
                let g = self.warps[wi].lanes[l].cp_groups.pop_front().unwrap();
                for o in &g {
                    self.cp_land(wi, l, o)?;
                }
            }
            Ok(())
        })
    }

    /// The arrive triggers when all prior copies of the thread are complete.
    pub(super) fn cp_mbar_arrive(
        &mut self,
        pc: u32,
        wi: usize,
        rf: Rf,
        em: u32,
        addr: &Addr,
        noinc: bool,
    ) -> R<()> {
        try_lanes(em, |l| {
            let at = At { pc, wi, l };
            let la = &mut self.warps[wi].lanes[l];
            let mut cp: Vec<CpOp> = la.cp_groups.drain(..).flatten().collect();
            cp.append(&mut la.cp_cur);
            let mbar = self.shared(at, Sp::Shared, self.ea(rf, addr, l), 8)?;
            let b = self.mbar(at, mbar)?;
            if !noinc {
                b.pending += 1;
            }
            self.issue(at, mbar, mbar, 0, Source::Cp(cp))
        })
    }

    fn cp_land(&mut self, wi: usize, l: usize, o: &CpOp) -> R<()> {
        let mut b = [0u8; 16];
        if o.n > 0 {
            let p = self.global(At { pc: o.pc, wi, l }, o.src, o.n)?;
            unsafe { std::ptr::copy_nonoverlapping(p, b.as_mut_ptr(), o.n) };
        }
        self.shared_write(o.dst, &b[..o.n + o.zero], Some(o.dst.cta));
        Ok(())
    }

    // ---- loads into shared memory -------------------------------------------------------------

    pub(super) fn tensor_load(
        &mut self,
        pc: u32,
        wi: usize,
        rf: Rf,
        em: u32,
        t: &TensorSpec,
    ) -> R<()> {
        try_lanes(em, |l| {
            let at = At { pc, wi, l };
            let map = self.map_of(at, self.ea(rf, &t.map, l), t.dims)?;
            let n = self.run.maps[map].box_bytes();
            let dst = self.shared(at, t.sp, self.ea(rf, &t.smem, l), n)?;
            if dst.addr() & 127 != 0 {
                return self.fail(
                    at,
                    format!(
                        "tensor copy to shared address 0x{:x}: not 128-byte aligned",
                        dst.addr()
                    ),
                );
            }
            let mbar = self.shared(at, t.sp, self.ea(rf, t.mbar.as_ref().unwrap(), l), 8)?;
            let coords: Vec<i32> = t.coords.iter().map(|c| rf.get(*c, l) as i32).collect();
            self.load(at, dst, mbar, n, t.mcast.map(|m| rf.get(m, l)), || {
                Source::Tensor {
                    map,
                    coords: coords.clone(),
                }
            })
        })
    }

    /// From global memory, or (`shared`) from the shared memory of this CTA.
    pub(super) fn bulk_load(
        &mut self,
        pc: u32,
        wi: usize,
        rf: Rf,
        em: u32,
        b: &BulkSpec,
        shared: bool,
    ) -> R<()> {
        try_lanes(em, |l| {
            let at = At { pc, wi, l };
            let n = rf.get(b.size, l) as usize;
            let dst = self.shared(at, b.sp, self.ea(rf, &b.dst, l), n)?;
            let src = self.ea(rf, &b.src, l);
            if dst.addr() & 15 != 0 || src & 15 != 0 || n & 15 != 0 {
                return self.fail(at, "bulk copy addresses and size must be multiples of 16");
            }
            let mbar = self.shared(at, b.sp, self.ea(rf, b.mbar.as_ref().unwrap(), l), 8)?;
            if shared {
                let src = self.shared(at, Sp::Shared, src, n)?;
                return self.load(at, dst, mbar, n, None, || Source::Shared(src, b.red));
            }
            self.load(at, dst, mbar, n, b.mcast.map(|m| rf.get(m, l)), || {
                Source::Global(src)
            })
        })
    }

    pub(super) fn st_async(
        &mut self,
        pc: u32,
        wi: usize,
        rf: Rf,
        em: u32,
        s: &StAsyncSpec,
    ) -> R<()> {
        let n = s.ty.bytes() * s.src.len();
        try_lanes(em, |l| {
            let at = At { pc, wi, l };
            let a = self.ea(rf, &s.addr, l);
            if !a.is_multiple_of(n as u64) {
                return self.fail(
                    at,
                    format!("misaligned {n}-byte asynchronous store at 0x{a:x}"),
                );
            }
            let dst = self.shared(at, Sp::Cluster, a, n)?;
            let mbar = self.shared(at, Sp::Cluster, self.ea(rf, &s.mbar, l), 8)?;
            let mut buf = [0u8; 64];
            memory::pack(rf, &s.src, s.ty.bytes(), l, &mut buf);
            let red = s.red.map(|r| (r, s.ty));
            self.load(at, dst, mbar, n, None, || {
                Source::Data(buf[..n].to_vec(), red)
            })
        })
    }

    /// Issues a copy to one CTA or, with a mask, to the same offsets of several.
    fn load(
        &mut self,
        at: At,
        dst: Loc,
        mbar: Loc,
        n: usize,
        mask: Option<u32>,
        src: impl Fn() -> Source,
    ) -> R<()> {
        self.stats.bulk_loads += 1;
        self.stats.bulk_bytes += n as u64;
        let Some(mask) = mask else {
            if dst.cta != mbar.cta {
                return self.fail(
                    at,
                    format!(
                        "the destination lies in CTA rank {}, the mbarrier in CTA rank {}",
                        dst.cta, mbar.cta
                    ),
                );
            }
            self.check_published(at, mbar)?;
            return self.issue(at, mbar, dst, n, src());
        };
        let mask = mask & 0xffff;
        if mask == 0 || mask >> self.ctas.len() != 0 {
            return self.fail(
                at,
                format!(
                    "multicast mask 0x{mask:x} in a cluster of {} CTAs",
                    self.ctas.len()
                ),
            );
        }
        for cta in (0..self.ctas.len()).filter(|c| mask >> c & 1 == 1) {
            if cta != self.cta_of(at.wi) {
                self.touch(at, cta)?;
            }
            let (dst, mbar) = (Loc { cta, ..dst }, Loc { cta, ..mbar });
            self.check_published(at, mbar)?;
            self.issue(at, mbar, dst, n, src())?;
        }
        Ok(())
    }

    fn issue(&mut self, at: At, mbar: Loc, dst: Loc, n: usize, src: Source) -> R<()> {
        let p = Pending {
            at,
            mbar,
            dst,
            n,
            src,
            clock: self.warps[at.wi].clock.clone(),
        };
        if self.eager_choice() {
            return self.land(&p);
        }
        // a 128-byte aligned box covers its bytes whatever the swizzle; reductions need the old contents
        if !matches!(p.src, Source::Shared(_, Some(_)) | Source::Data(_, Some(_))) {
            self.poison(p.dst, p.n);
        }
        self.pend.push(p);
        Ok(())
    }

    fn land(&mut self, p: &Pending) -> R<()> {
        self.events += 1;
        self.mbar(p.at, p.mbar)?.arrived.join(&p.clock);
        match &p.src {
            Source::Cp(ops) => {
                for o in ops {
                    self.cp_land(p.at.wi, p.at.l, o)?;
                }
                return self.mbar_count(p.at, p.mbar, 1);
            }
            Source::Tensor { map, coords } => self.land_tensor(p, *map, coords)?,
            Source::Global(a) => {
                let q = self.global(p.at, *a, p.n)?;
                let c = &mut self.ctas[p.dst.cta];
                unsafe { std::ptr::copy_nonoverlapping(q, c.smem.as_mut_ptr().add(p.dst.o), p.n) };
                c.sinit[p.dst.o..p.dst.o + p.n].fill(1);
            }
            Source::Shared(s, red) => {
                self.async_read_check(p.at, *s, p.n)?;
                let data = self.ctas[s.cta].smem[s.o..s.o + p.n].to_vec();
                self.land_data(p, &data, *red)?;
            }
            Source::Data(data, red) => self.land_data(p, data, *red)?,
        }
        self.mbar_tx(p.at, p.mbar, -(p.n as i64))?;
        self.mbar_check(p.at, p.mbar)
    }

    fn land_data(&mut self, p: &Pending, data: &[u8], red: Option<(RedOp, Ty)>) -> R<()> {
        let Some((op, ty)) = red else {
            self.shared_write(p.dst, data, None);
            return Ok(());
        };
        self.async_read_check(p.at, p.dst, p.n)?;
        let smem = &mut self.ctas[p.dst.cta].smem[p.dst.o..p.dst.o + p.n];
        for (d, s) in smem.chunks_mut(ty.bytes()).zip(data.chunks(ty.bytes())) {
            unsafe { red_mem(op, ty, d.as_mut_ptr(), s.as_ptr()) }
        }
        Ok(())
    }

    fn land_tensor(&mut self, p: &Pending, map: usize, coords: &[i32]) -> R<()> {
        let maps: &'a [TensorMap] = self.run.maps;
        let map = &maps[map];
        let es = map.ty.bytes();
        let fill: &[u8] = match (map.oob_nan, map.ty) {
            (true, Ty::BF16) => &[0xc0, 0x7f, 0, 0],
            (true, Ty::F16) => &[0, 0x7e, 0, 0],
            (true, _) => &[0, 0, 0xc0, 0x7f],
            _ => &[0; 8],
        };
        let mut bad = None;
        let gm = self.run.gmem;
        let mut cache: (u64, *mut u8) = (u64::MAX, std::ptr::null_mut());
        let c = &mut self.ctas[p.dst.cta];
        let (smem, sinit) = (&mut c.smem, &mut c.sinit);
        // the swizzle acts on address bits, so the walk starts at an address
        map.walk(p.dst.o as u64 + SMEM0 as u64, coords, |s, g| {
            let o = s as usize - SMEM0 as usize;
            if o + es > smem.len() {
                bad = Some(s);
                return;
            }
            match g {
                Some(g) => {
                    let q = if g == cache.0.wrapping_add(es as u64) && g % 4096 != 0 {
                        unsafe { cache.1.add(es) }
                    } else {
                        match gm.ptr(g, es) {
                            Some(q) => q,
                            None => {
                                bad = Some(g);
                                return;
                            }
                        }
                    };
                    cache = (g, q);
                    unsafe { std::ptr::copy_nonoverlapping(q, smem.as_mut_ptr().add(o), es) };
                }
                None => smem[o..o + es].copy_from_slice(&fill[..es]),
            }
            sinit[o..o + es].fill(1);
        });
        match bad {
            Some(a) => self.fail(p.at, format!("tensor copy touches 0x{a:x}, out of bounds")),
            None => Ok(()),
        }
    }

    /// Completes one outstanding bulk load that is waited for, or (`any`) the oldest one.
    pub(super) fn land_one(&mut self, any: bool) -> R<bool> {
        if self.pend.is_empty() {
            return Ok(false);
        }
        let waited: Vec<Loc> = self
            .warps
            .iter()
            .flat_map(|w| {
                w.groups.iter().filter_map(|g| {
                    if let St::MBar(o, _) = g.st {
                        Some(Loc { cta: w.cta, o })
                    } else {
                        None
                    }
                })
            })
            .collect();
        let cand: Vec<usize> = (0..self.pend.len())
            .filter(|i| waited.contains(&self.pend[*i].mbar))
            .collect();
        if cand.is_empty() && !any {
            return Ok(false);
        }
        let i = if cand.is_empty() {
            0
        } else if matches!(self.run.cfg.schedule, Schedule::Random(_))
            || matches!(self.run.cfg.mode, Mode::Random(_))
        {
            cand[rng_next(&mut self.rng) as usize % cand.len()]
        } else {
            cand[0]
        };
        let p = self.pend.remove(i);
        self.land(&p)?;
        Ok(true)
    }

    /// The last thread of a CTA exits: nothing may be under way from or to its shared memory.
    pub(super) fn cta_ends(&mut self, at: At, cta: usize) -> R<()> {
        for p in &self.pend {
            let issuer = self.cta_of(p.at.wi);
            if p.dst.cta == cta && issuer != cta {
                let line = self.line(p.at.pc);
                return self.fail(
                    at,
                    format!("CTA rank {cta} exits while a copy of CTA rank {issuer} (line {line}) into its shared memory is outstanding (no barrier.cluster at the end?)"),
                );
            }
            if p.dst.cta != cta
                && let Source::Shared(s, _) = &p.src
                && s.cta == cta
            {
                let line = self.line(p.at.pc);
                return self.fail(at, format!("CTA rank {cta} exits while its copy to CTA rank {} (line {line}) is outstanding", p.dst.cta));
            }
        }
        if self.ctas.len() > 1 {
            self.check_untouched(at, cta)
        } else {
            Ok(())
        }
    }

    // ---- stores from shared memory ------------------------------------------------------------

    pub(super) fn tensor_store(
        &mut self,
        pc: u32,
        wi: usize,
        rf: Rf,
        em: u32,
        t: &TensorSpec,
    ) -> R<()> {
        try_lanes(em, |l| {
            let at = At { pc, wi, l };
            let map = self.map_of(at, self.ea(rf, &t.map, l), t.dims)?;
            let n = self.run.maps[map].box_bytes();
            let smem = self.shared(at, Sp::Shared, self.ea(rf, &t.smem, l), n)?;
            if smem.addr() & 127 != 0 {
                return self.fail(
                    at,
                    format!(
                        "tensor copy from shared address 0x{:x}: not 128-byte aligned",
                        smem.addr()
                    ),
                );
            }
            let coords = t.coords.iter().map(|c| rf.get(*c, l) as i32).collect();
            self.store(BulkOp {
                at,
                smem,
                n,
                dst: 0,
                map,
                coords,
                data: None,
            })
        })
    }

    pub(super) fn bulk_store(
        &mut self,
        pc: u32,
        wi: usize,
        rf: Rf,
        em: u32,
        b: &BulkSpec,
    ) -> R<()> {
        try_lanes(em, |l| {
            let at = At { pc, wi, l };
            let n = rf.get(b.size, l) as usize;
            let smem = self.shared(at, Sp::Shared, self.ea(rf, &b.src, l), n)?;
            let dst = self.ea(rf, &b.dst, l);
            if smem.addr() & 15 != 0 || dst & 15 != 0 || n & 15 != 0 {
                return self.fail(at, "bulk copy addresses and size must be multiples of 16");
            }
            self.store(BulkOp {
                at,
                smem,
                n,
                dst,
                map: 0,
                coords: vec![],
                data: None,
            })
        })
    }

    fn store(&mut self, mut o: BulkOp) -> R<()> {
        if self.eager_choice() {
            return self.store_land(&mut o);
        }
        self.warps[o.at.wi].lanes[o.at.l].bulk_cur.push(o);
        Ok(())
    }

    pub(super) fn bulk_commit(&mut self, wi: usize, em: u32) {
        lanes(em, |l| {
            let la = &mut self.warps[wi].lanes[l];
            let g = std::mem::take(&mut la.bulk_cur);
            la.bulk_groups.push_back(g);
        })
    }

    pub(super) fn bulk_wait(&mut self, wi: usize, em: u32, n: u32, read: bool) -> R<()> {
        try_lanes(em, |l| {
            while self.warps[wi].lanes[l].bulk_groups.len() > n as usize {
                let g = self.warps[wi].lanes[l].bulk_groups.pop_front().unwrap();
                for mut o in g {
                    self.store_fetch(&mut o)?;
                    self.warps[wi].lanes[l].bulk_read.push(o);
                }
            }
            if !read {
                let done = std::mem::take(&mut self.warps[wi].lanes[l].bulk_read);
                for mut o in done {
                    self.store_land(&mut o)?;
                }
            }
            Ok(())
        })
    }

    /// Bulk stores that were never waited for.
    pub(super) fn finish_stores(&mut self, at: At) -> R<()> {
        let la = std::mem::take(&mut self.warps[at.wi].lanes[at.l]);
        if !la.bulk_groups.iter().all(|g| g.is_empty()) || !la.bulk_cur.is_empty() {
            self.report(Policy::Warn, at, 2, || {
                "bulk store not waited for (wait_group.read) before exit".into()
            })?;
        }
        for mut o in la
            .bulk_read
            .into_iter()
            .chain(la.bulk_groups.into_iter().flatten())
            .chain(la.bulk_cur)
        {
            self.store_land(&mut o)?;
        }
        Ok(())
    }

    /// Reads the source of a bulk store.
    fn store_fetch(&mut self, o: &mut BulkOp) -> R<()> {
        if o.data.is_none() {
            self.async_read_check(o.at, o.smem, o.n)?;
            // swizzling stays within 128-byte lines
            let smem = &self.ctas[o.smem.cta].smem;
            let end = (o.smem.o + o.n).next_multiple_of(128).min(smem.len());
            o.data = Some(smem[o.smem.o..end].to_vec());
        }
        Ok(())
    }

    fn store_land(&mut self, o: &mut BulkOp) -> R<()> {
        self.store_fetch(o)?;
        let gm: &'a GlobalMem = self.run.gmem;
        let code: &'a Code = self.run.code;
        let data = o.data.as_ref().unwrap();
        match &code.insts[o.at.pc as usize].op {
            Op::Tstore(t) => {
                let m = &self.run.maps[o.map];
                let es = m.ty.bytes();
                let _lock = t.red.map(|_| gm.lock.lock().unwrap());
                let mut bad = None;
                let a0 = o.smem.addr();
                m.walk(a0, &o.coords, |s, g| {
                    let Some(g) = g else { return };
                    let (Some(q), Some(src)) = (
                        gm.ptr(g, es),
                        data.get((s - a0) as usize..(s - a0) as usize + es),
                    ) else {
                        bad = Some(g);
                        return;
                    };
                    unsafe {
                        match t.red {
                            None => std::ptr::copy_nonoverlapping(src.as_ptr(), q, es),
                            Some(r) => red_mem(r, m.ty, q, src.as_ptr()),
                        }
                    }
                });
                if let Some(a) = bad {
                    return self.fail(o.at, format!("tensor store touches 0x{a:x}, out of bounds"));
                }
            }
            Op::BulkStore(b) => {
                let q = self.global(o.at, o.dst, o.n)?;
                match b.red {
                    None => unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), q, o.n) },
                    Some((r, ty)) => {
                        let _lock = gm.lock.lock().unwrap();
                        for i in (0..o.n).step_by(ty.bytes()) {
                            unsafe { red_mem(r, ty, q.add(i), data.as_ptr().add(i)) }
                        }
                    }
                }
            }
            _ => unreachable!(),
        }
        Ok(())
    }

    // ---- common -------------------------------------------------------------------------------

    /// Checks shared memory that the asynchronous proxy reads.
    pub(super) fn async_read_check(&mut self, at: At, p: Loc, n: usize) -> R<()> {
        let c = &self.ctas[p.cta];
        let dirty = (p.o / 16..(p.o + n).div_ceil(16)).any(|g| c.sdirty[g] != 0);
        if c.sinit[p.o..p.o + n].contains(&0) {
            self.report(self.run.cfg.uninit, at, 0, || {
                format!(
                    "asynchronous read of uninitialised shared memory at 0x{:x}",
                    p.addr()
                )
            })?;
        }
        if dirty {
            self.report(self.run.cfg.proxy, at, 1, || {
                format!("asynchronous read of shared memory at 0x{:x} written by st/cp.async without fence.proxy.async", p.addr())
            })?;
        }
        Ok(())
    }

    fn map_of(&self, at: At, a: u64, dims: usize) -> R<usize> {
        let mut b = [0u8; 16];
        if a & 63 != 0 {
            return self.fail(
                at,
                format!("tensor map address 0x{a:x} is not 64-byte aligned"),
            );
        }
        match memory::classify(a) {
            Sp::Param => match self
                .run
                .params
                .get((a - PARAM_BASE) as usize..(a - PARAM_BASE) as usize + 16)
            {
                Some(s) => b.copy_from_slice(s),
                None => return self.fail(at, "tensor map outside the parameters"),
            },
            _ => {
                let p = self.global(at, a, 16)?;
                unsafe { std::ptr::copy_nonoverlapping(p, b.as_mut_ptr(), 16) };
            }
        }
        let magic = u64::from_le_bytes(b[..8].try_into().unwrap());
        let i = u64::from_le_bytes(b[8..].try_into().unwrap()) as usize;
        if magic != crate::MAP_MAGIC || i >= self.run.maps.len() {
            return self.fail(at, format!("no tensor map at 0x{a:x}"));
        }
        if self.run.maps[i].dims.len() != dims {
            return self.fail(
                at,
                format!(
                    "tensor map of rank {} used by a {dims}d copy",
                    self.run.maps[i].dims.len()
                ),
            );
        }
        Ok(i)
    }
}

unsafe fn red_mem(r: RedOp, ty: Ty, dst: *mut u8, src: *const u8) {
    let n = ty.bytes();
    let (mut a, mut b) = ([0u8; 8], [0u8; 8]);
    unsafe {
        std::ptr::copy_nonoverlapping(dst, a.as_mut_ptr(), n);
        std::ptr::copy_nonoverlapping(src, b.as_mut_ptr(), n);
        let v = reduce(r, ty, u64::from_le_bytes(a), u64::from_le_bytes(b));
        std::ptr::copy_nonoverlapping(v.to_le_bytes().as_ptr(), dst, n);
    }
}
